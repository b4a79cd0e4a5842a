"""Run every study of a table of tune_spaces/tables, each resumed where it stands, and print the one table."""

import sys
from argparse import Namespace

from tasks import cli

PARSER = cli.TaskParser(
    "compare",
    __doc__,
    default_space="shapes",
    listed="tables",
    examples=[
        ("", "the table shapes"),
        ("flickr8k", "another table"),
        ("flickr8k --dry-run", "its studies, and which of them are finished"),
        ("flickr8k protocol.seeds=2", "a value that replaces that of all lines"),
        ("--config my_table.yaml", "a table of your own"),
        ("--list", "all tables"),
    ],
)
PARSER.add_row_flags()


def main(args: Namespace) -> cli.Answer:
    """Run the comparison that the arguments name, or list its studies with ``--dry-run``."""
    from engine.config.comparison import read_comparison
    from engine.config.load import parse_overrides

    comparison, overrides = read_comparison(args.space), parse_overrides(args.overrides)

    from engine.studies.compare import compare, dry_run

    if args.dry_run:
        print(dry_run(args.space, comparison, overrides))
        return 0
    return compare(args.space, comparison, overrides, local=args.local)


if __name__ == "__main__":
    sys.exit(cli.run(main, parser=PARSER))
