"""Choose and score the coresets of a study, beside students of all pairs, and keep the chosen pairs as a table."""

import sys
from argparse import Namespace

from tasks import cli

PARSER = cli.TaskParser("coreset", __doc__, examples=cli.SPACE_EXAMPLES)
PARSER.add_row_flags()


def main(args: Namespace) -> cli.Answer:
    """Score the coresets of the study that the arguments name, or describe it with ``--dry-run``."""
    job = cli.read_job(args)
    if cli.described(args, job):
        return 0
    from engine.studies.coresets import score_coresets

    return score_coresets(job, local=args.local)


if __name__ == "__main__":
    sys.exit(cli.run(main, parser=PARSER))
