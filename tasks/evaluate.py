"""Score a synthetic set under a study's protocol: its own, any file or exported folder; other encoders: a transfer."""

import sys
from argparse import Namespace

from tasks import cli

PARSER = cli.TaskParser(
    "evaluate", __doc__, examples=[*cli.SPACE_EXAMPLES, ("flickr8k_100 --set my_set.safetensors", "a set in a file")]
)
PARSER.add_argument("--set", metavar="FILE", help="a set, or a folder of export.py (default: the study's own set)")
PARSER.add_run_flags()


def main(args: Namespace) -> int:
    """Score the set, or describe the study with ``--dry-run``."""
    job = cli.read_job(args)
    if not cli.described(args, job):
        from engine.studies.evaluate import score_file

        score_file(job, args.set, local=args.local)
    return 0


if __name__ == "__main__":
    sys.exit(cli.run(main, parser=PARSER))
