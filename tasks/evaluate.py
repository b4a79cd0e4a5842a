"""Score a synthetic set under a study's protocol: its own set, or any file; other encoders make it a transfer."""

import sys
from argparse import Namespace

from tasks import cli

PARSER = cli.parser("evaluate", __doc__)


def main(args: Namespace) -> int:
    """Score the set, or describe the study with ``--dry-run``."""
    from engine.config.load import load, resolve

    study = resolve(load(args.space, args.overrides))  # what can be wrong soonest, before all that is heavy

    from engine.studies.evaluate import score_file
    from engine.studies.job import make_job
    from engine.studies.preflight.dry_run import describe

    job = make_job(args.space, study)
    if args.dry_run:
        print(describe(job))
    else:
        score_file(job, args.set, local=args.local)
    return 0


if __name__ == "__main__":
    sys.exit(cli.run(main, parser=PARSER))
