"""Train the experts of a study, as far as they are not there yet: nothing else is run."""

import sys
from argparse import Namespace

from tasks import cli

PARSER = cli.TaskParser("train_experts", __doc__, examples=cli.SPACE_EXAMPLES)
PARSER.add_run_flags()


def main(args: Namespace) -> int:
    """Train the experts of the study that the arguments name, or describe it with ``--dry-run``."""
    job = cli.read_job(args)
    if not cli.described(args, job):
        from engine.studies.distill import train_missing_experts

        train_missing_experts(job, local=args.local)
    return 0


if __name__ == "__main__":
    sys.exit(cli.run(main, parser=PARSER))
