"""Write a synthetic set as a folder that other tools read: PNG, captions, what was learned, and a data set card."""

import sys
from argparse import Namespace
from pathlib import Path

from tasks import cli

PARSER = cli.TaskParser(
    "export",
    __doc__,
    examples=[
        ("--set my_set.safetensors --out my_set", "PNG and captions, with a card"),
        ("flickr8k_100 --out my_set --score", "the study's own set, scored as floats and as 8-bit PNG"),
        ("--set my_set.safetensors --out my_set --tar", "a WebDataset in place of the PNG"),
    ],
    default_space="",
)
PARSER.add_argument("--set", metavar="FILE", help="the set (default: the one that the space has distilled)")
PARSER.add_argument("--out", metavar="FOLDER", required=True, help="a folder that is new or empty")
PARSER.add_argument(
    "--score", action="store_true", help="train students on the set before and after its export, and compare photos"
)
PARSER.add_argument("--tar", action="store_true", help="write the pairs as one WebDataset, train.tar")
PARSER.add_argument("--licence", metavar="ID", help="the licence of the source photos (default: that of known photos)")
PARSER.add_argument("--terms", metavar="TEXT", help="the terms of the source photos, a sentence")
PARSER.add_argument(
    "--local", action="store_true", help="score on a cluster of this machine even where one could be joined"
)


def main(args: Namespace) -> int:
    """Export the set that the arguments name."""
    if not (args.set or args.space):
        raise ValueError("export: expected --set FILE, or a space whose own set is exported.")
    if "://" in args.out:
        raise ValueError(f"--out is {args.out!r}, expected a folder on this machine.")
    job = cli.read_job(args) if args.space else None

    from engine.cluster.search.trial import BEST_SET
    from engine.io.storage import location
    from engine.studies.exporting import Wishes, export_set

    file = location(args.set, key="--set") if args.set or job is None else job.folder / BEST_SET
    wishes = Wishes(score=args.score, tar=args.tar, licence=args.licence, terms=args.terms)
    out = Path(args.out).expanduser().absolute()
    export_set(file, out, wishes, job=job, words=args.overrides, local=args.local)
    return 0


if __name__ == "__main__":
    sys.exit(cli.run(main, parser=PARSER))
