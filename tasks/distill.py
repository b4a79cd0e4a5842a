"""Distil a synthetic set: train experts, search, score against coresets and the full data, and print the table."""

import sys
from argparse import Namespace

from tasks import cli

PARSER = cli.parser("distill", __doc__)


def main(args: Namespace) -> int:
    """Run the study that the arguments name, or describe it with ``--dry-run``."""
    from engine.config.load import load, resolve

    study = resolve(load(args.space, args.overrides))  # what can be wrong soonest, before all that is heavy

    from engine.studies.distill import distill
    from engine.studies.job import make_job
    from engine.studies.preflight.dry_run import describe

    job = make_job(args.space, study, samples=args.samples)
    if args.dry_run:
        print(describe(job))
    else:
        distill(job, local=args.local, fresh=args.fresh)
    return 0


if __name__ == "__main__":
    sys.exit(cli.run(main, parser=PARSER))
