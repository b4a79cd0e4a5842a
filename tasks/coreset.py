"""Choose and score the coresets of a study, beside students of all pairs, and keep the chosen pairs as a table."""

import sys
from argparse import Namespace

from engine import command

PARSER = command.parser("coreset", __doc__)


def main(args: Namespace) -> int:
    """Score the coresets that the arguments name, or describe the study with ``--dry-run``."""
    from engine.config import load, resolve

    study = resolve(load(args.space, args.overrides))  # what can be wrong soonest, before all that is heavy

    from engine.cluster.describe import describe
    from engine.cluster.job import make_job
    from engine.cluster.single import score_coresets

    job = make_job(args.space, study)
    if args.dry_run:
        print(describe(job))
    else:
        score_coresets(job, local=args.local)
    return 0


if __name__ == "__main__":
    sys.exit(command.run(main, parser=PARSER))
