"""Write the YAML of a study of your own, with a reason at every number: of a folder of photos, or a copy of a space."""

import shlex
import sys
from argparse import Namespace
from pathlib import Path

from tasks import cli

PARSER = cli.TaskParser(
    "new",
    __doc__,
    default_space=None,
    examples=[
        ("my_photos --data photos/", "look at a folder, and write my_photos.yaml"),
        ("my_photos --data photos/ --captions captions.csv", "with the captions in this file"),
        ("my_study --copy flickr8k_100", "a space as a file of your own, with its comments"),
    ],
)
PARSER.add_argument("name", help="the name of the study: NAME.yaml is written here")
SOURCE = PARSER.add_mutually_exclusive_group(required=True)
SOURCE.add_argument("--data", metavar="FOLDER", help="a folder of photos with their captions, in any known layout")
COPY = SOURCE.add_argument("--copy", metavar="SPACE", help="a space, or the path of a YAML file")
COPY.completer = lambda **_: list(PARSER.known())  # type: ignore[attr-defined]
PARSER.add_argument("--captions", metavar="FILE", help="the file of captions (default: the one in the folder)")
PARSER.add_argument(
    "--pairs", type=cli.positive_int, metavar="N", help="synthetic pairs (default: a tenth of the photos, at most 100)"
)


def main(args: Namespace) -> int:
    """Write the file, and say what was found and what to type next."""
    from engine.studies.new import write_copy, write_study

    if args.copy:
        if args.captions or args.pairs:
            raise ValueError("command line: --captions and --pairs describe the data of --data, expected them with it.")
        path, lines = write_copy(args.name, args.copy)
    else:
        captions = Path(args.captions) if args.captions else None
        given = {"--data": args.data, "--captions": args.captions, "--pairs": args.pairs and str(args.pairs)}
        words = shlex.join([args.name, *(word for flag, value in given.items() if value for word in (flag, value))])
        typed = f"{cli.as_typed('new')} {words}"
        path, lines = write_study(args.name, Path(args.data), captions, pairs=args.pairs, typed=typed)
    print("\n".join([*lines, f"written: {path}", f"next: {cli.as_typed('distill')} {shlex.quote(str(path))}"]))
    return 0


if __name__ == "__main__":
    sys.exit(cli.run(main, parser=PARSER))
