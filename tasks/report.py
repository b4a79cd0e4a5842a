"""Print the tables of a space's finished studies, newest last, and below each the published rows of its space."""

import sys
from argparse import Namespace
from pathlib import Path

from tasks import cli

PARSER = cli.TaskParser("report", __doc__, examples=cli.SPACE_EXAMPLES)
PARSER.add_argument("--all", action="store_true", help="the studies of every space in the same storage folder")
PARSER.add_argument("--published", action="store_true", help="only the published rows that the space names")
PARSER.add_argument("--markdown", action="store_true", help="as Markdown instead of aligned text")


def main(args: Namespace) -> int:
    """Print every finished study that fits the arguments, or the published rows of a space alone."""
    from engine.config.load import load
    from engine.config.published import published_in
    from engine.io.storage import location
    from engine.results.published import PublishedRow
    from engine.results.report import render, render_published

    study = load(args.space, args.overrides)
    if args.published:
        if not study.published:
            raise ValueError(f"{args.space}: the space names no published rows (those of published/ do, see --list).")
        rows = [PublishedRow(**row.model_dump()) for row in study.published]
        print(render_published(rows, markdown=args.markdown))
        return 0
    print(
        render(
            location(study.storage),
            name=None if args.all else Path(args.space).stem,
            published_rows=lambda file: [PublishedRow(**row.model_dump()) for row in published_in(file)],
            markdown=args.markdown,
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(cli.run(main, parser=PARSER))
