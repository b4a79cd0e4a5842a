"""Print the tables of a space's finished studies, newest last, and below each the published rows of its space."""

import sys
from argparse import Namespace
from pathlib import Path

from engine import command

PARSER = command.parser("report", __doc__)


def main(args: Namespace) -> int:
    """Print every finished study that fits the arguments, or the published rows of a space alone."""
    from engine.config import load, published_in
    from engine.storage import location
    from engine.tracking.published import PublishedRow
    from engine.tracking.report import render, render_published

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
    sys.exit(command.run(main, parser=PARSER))
