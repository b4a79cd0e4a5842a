"""Report studies, the newest last: their tables with published rows, or all of it as a page with pictures."""

import sys
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from tasks import cli

if TYPE_CHECKING:
    from engine.report.study import Study

FORMATS = ("text", "md", "csv", "json", "parquet", "latex", "html")
PARSER = cli.TaskParser(
    "report",
    __doc__,
    examples=[
        ("", f"the tables of the space {cli.DEFAULT_SPACE}"),
        ("flickr8k_100 --format html", "a page in the folder of each of its studies"),
        ("runs/studies/NAME --format html", "a page in the folder of one study, which may be unfinished"),
        ("--all --format html --out all.html", "one page of all studies and comparisons"),
        ("flickr8k_100 --format latex", "tables for a paper"),
        ("published/flickr30k_100_lors --published", "the published rows that a space names"),
    ],
)
PARSER.add_flag("--all", "the studies of every space in the same storage folder")
PARSER.add_flag("--published", "only the published rows that the space names")
PARSER.add_argument(
    "--format",
    choices=FORMATS,
    default="text",
    help="text or md (Markdown); csv, json, parquet or latex for the table alone; html for one page with all pictures",
)
PARSER.add_argument("--markdown", dest="format", action="store_const", const="md", help="the same as --format md")
PARSER.add_argument("--json", dest="format", action="store_const", const="json", help="the same as --format json")
PARSER.add_argument(
    "--out",
    metavar="FILE",
    help="write one file there, with the figures of Markdown in a folder beside it (default: print; pages are written "
    "as report.html into the folder of each study)",
)


def main(args: Namespace) -> int:
    """Print or write the report that the arguments name, or the published rows of a space alone."""
    if args.published:
        from engine.config.load import load
        from engine.results import published

        named = load(args.space, args.overrides).published
        if not named:
            raise ValueError(f"{args.space}: the space names no published rows (those of published/ do, see --list).")
        rows = [published.PublishedRow(**row.model_dump()) for row in named]
        print(published.render_markdown(rows) if args.format == "md" else published.render_text(rows))
        return 0
    if args.format == "parquet" and not args.out:
        raise ValueError("command line: --format parquet has no --out, expected the file to write.")

    studies = _studies(args)
    from engine.io.storage import location
    from engine.report.write import rendered, write
    from engine.results.files import REPORT

    if args.out:
        written = [(location(args.out, key="--out"), studies)]
    elif args.format == "html":
        written = [(study.folder / REPORT, [study]) for study in studies]
    else:
        print(rendered(studies, args.format).decode(), end="\n" if args.format == "text" else "")
        return 0
    for file, shown in written:
        write(shown, args.format, file)
        print(file)
    return 0


def _studies(args: Namespace) -> list["Study"]:
    """Return the study whose folder is named, or those of a space or of all spaces."""
    from engine.config.load import load
    from engine.io.storage import location
    from engine.report.study import read_study, studies_in

    folder = location(args.space, key="the folder of a study")
    if "://" in args.space or (not args.all and folder.is_dir()):
        return [read_study(folder)]
    storage = location(load(args.space, args.overrides).storage)
    return studies_in(storage, name=None if args.all else Path(args.space).stem)


if __name__ == "__main__":
    sys.exit(cli.run(main, parser=PARSER))
