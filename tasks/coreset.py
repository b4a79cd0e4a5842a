"""Choose and score the coresets of a study, beside students of all pairs, and keep the chosen pairs as a table."""

import sys
from argparse import Namespace

from tasks import cli

PARSER = cli.parser("coreset", __doc__)


def main(args: Namespace) -> int:
    """Score the coresets that the arguments name, or describe the study with ``--dry-run``."""
    from engine.config.load import load, resolve

    study = resolve(load(args.space, args.overrides))  # what can be wrong soonest, before all that is heavy

    from engine.studies.coresets import score_coresets
    from engine.studies.job import make_job
    from engine.studies.preflight.dry_run import describe

    job = make_job(args.space, study)
    if args.dry_run:
        print(describe(job))
    else:
        score_coresets(job, local=args.local)
    return 0


if __name__ == "__main__":
    sys.exit(cli.run(main, parser=PARSER))
