"""Train the experts of a study, as far as they are not there yet: nothing else is run."""

import sys
from argparse import Namespace

from tasks import cli

PARSER = cli.TaskParser("train_experts", __doc__, examples=cli.SPACE_EXAMPLES)
PARSER.add_run_flags()
PARSER.add_script_flags(quiet="the folders", json="folders, epochs and recalls on val as one JSON document")


def main(args: Namespace) -> cli.Answer:
    """Train the experts of the study that the arguments name, or describe it with ``--dry-run``."""
    job = cli.read_job(args)
    if cli.described(args, job):
        return 0
    from engine.studies.distill import train_missing_experts

    stores = train_missing_experts(job, local=args.local)
    return cli.Made({"stores": stores}, [store["folder"] for store in stores])


if __name__ == "__main__":
    sys.exit(cli.run(main, parser=PARSER))
