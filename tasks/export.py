"""Write a set as a folder that other tools read (PNG, captions, what was learned, a card), or register it in MLflow."""

import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

from tasks import cli

PARSER = cli.TaskParser(
    "export",
    __doc__,
    examples=[
        ("--set my_set.safetensors --out my_set", "PNG and captions, with a card"),
        ("flickr8k_100 --out my_set --score", "the study's own set, scored as floats and as 8-bit PNG"),
        ("flickr8k_100 --register my_set", "the study's own set under a name in MLflow"),
        ("--set models:/my_set/1 --out my_set", "a registered set"),
        ("--set my_set.safetensors --out my_set --tar", "a WebDataset in place of the PNG"),
    ],
    default_space="",
)
PARSER.add_argument(
    "--set", metavar="FILE", help="a file, a folder, or models:/NAME/VERSION (default: the space's own set)"
)
PARSER.add_argument("--out", metavar="FOLDER", help="a folder that is new or empty")
PARSER.add_argument("--register", metavar="NAME", help="register the space's own set in MLflow under this name")
PARSER.add_flag("--score", "train students on the set before and after its export, and say what it kept of its data")
PARSER.add_flag("--tar", "write the pairs as one WebDataset, train.tar")
PARSER.add_argument("--licence", metavar="ID", help="the licence of the source photos (default: that of known photos)")
PARSER.add_argument("--terms", metavar="TEXT", help="the terms of the source photos, a sentence")
PARSER.add_script_flags(
    quiet="the folder and the name of the registered version", json="folder, files and scores as one JSON document"
)
PARSER.add_flag("--local", "score on a cluster of this machine even where one could be joined")


def main(args: Namespace) -> cli.Answer:
    """Export the set that the arguments name."""
    if not (args.set or args.space):
        raise ValueError("export: expected --set FILE, or a space whose own set is exported.")
    if not (args.out or args.register):
        raise ValueError("export: expected --out FOLDER, or --register NAME.")
    if args.register and args.set:
        raise ValueError("export: --register keeps the own set of a finished study, expected a space without --set.")
    if args.out and "://" in args.out:
        raise ValueError(f"--out is {args.out!r}, expected a folder on this machine.")
    job = cli.read_job(args) if args.space else None

    from engine.results.history import BEST_SET
    from engine.studies.exporting import export_set
    from engine.studies.registered import register_set, set_location

    if job is not None and not args.set:
        file = job.folder / BEST_SET
    else:
        file = set_location(args.set, job.specification.storage if job else None, args.overrides)
    made: dict[str, Any] = {}
    if args.out:
        made |= export_set(
            file,
            Path(args.out).expanduser().absolute(),
            job=job,
            words=args.overrides,
            score=args.score,
            tar=args.tar,
            licence=args.licence,
            terms=args.terms,
            local=args.local,
        )
    if args.register and job is not None:
        made["registered"] = register_set(job, args.register)
    return cli.Made(made, [made[name] for name in ("folder", "registered") if name in made])


if __name__ == "__main__":
    sys.exit(cli.run(main, parser=PARSER))
