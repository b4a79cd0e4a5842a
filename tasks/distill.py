"""Distil a synthetic set: train experts, search, score against coresets and the full data, and print the table."""

import sys
from argparse import Namespace

from tasks import cli

PARSER = cli.TaskParser(
    "distill", __doc__, examples=[*cli.SPACE_EXAMPLES[:2], ("flickr8k_100 --samples 8", "search with eight trials"),
                                  ("--from-run RUN_ID --fresh", "repeat the study of a run in MLflow"),
                                  ("--json > rows.json", "the rows of the table for a script"),
                                  *cli.SPACE_EXAMPLES[2:]]
)  # fmt: skip
PARSER.add_argument(
    "--from-run", metavar="RUN_ID", help="the study of a run in MLflow, resumed where it stands (--fresh: repeated)"
)
PARSER.add_argument("--samples", type=cli.positive_int, metavar="N", help="search with N trials, the defaults first")
PARSER.add_row_flags()
PARSER.add_flag("--fresh", "start over instead of resuming the study or printing its results")


def main(args: Namespace) -> cli.Answer:
    """Run the study that the arguments name, or describe it with ``--dry-run``."""
    if args.from_run:
        from engine.studies.registered import job_of_run

        job = job_of_run(args.from_run, args.overrides, samples=args.samples)
    else:
        job = cli.read_job(args, samples=args.samples)
    if cli.described(args, job):
        return 0
    if job.finished and not args.fresh:
        from engine.studies.finished import show

        return show(job)
    from engine.studies.distill import distill

    return distill(job, local=args.local, fresh=args.fresh)


if __name__ == "__main__":
    sys.exit(cli.run(main, parser=PARSER))
