"""Distil a synthetic set: train experts, search, score against coresets and the full data, and print the table."""

import sys
from argparse import Namespace

from tasks import cli

PARSER = cli.TaskParser(
    "distill", __doc__, examples=[*cli.SPACE_EXAMPLES[:2], ("flickr8k_100 --samples 8", "search with eight trials"),
                                  *cli.SPACE_EXAMPLES[2:]]
)  # fmt: skip
PARSER.add_argument("--samples", type=cli.positive_int, metavar="N", help="search with N trials, the defaults first")
PARSER.add_run_flags()
PARSER.add_argument(
    "--fresh", action="store_true", help="start over instead of resuming the study or printing its results"
)


def main(args: Namespace) -> int:
    """Run the study that the arguments name, or describe it with ``--dry-run``."""
    job = cli.read_job(args, samples=args.samples)
    if not cli.described(args, job):
        from engine.studies.distill import distill

        distill(job, local=args.local, fresh=args.fresh)
    return 0


if __name__ == "__main__":
    sys.exit(cli.run(main, parser=PARSER))
