"""Score a synthetic set under a study's protocol: its own set, or any file; other encoders make it a transfer."""

import sys
from argparse import Namespace

from engine import command

PARSER = command.parser("evaluate", __doc__)


def main(args: Namespace) -> int:
    """Score the set, or describe the study with ``--dry-run``."""
    from engine.cluster.describe import describe
    from engine.cluster.job import make_job
    from engine.cluster.single import score_file
    from engine.config import load, resolve

    job = make_job(args.space, resolve(load(args.space, args.overrides)))
    if args.dry_run:
        print(describe(job))
    else:
        score_file(job, args.set, local=args.local)
    return 0


if __name__ == "__main__":
    sys.exit(command.run(main, parser=PARSER))
