"""Say in ten lines what this machine can do for a study, and what would go wrong."""

import sys
from argparse import Namespace

from tasks import cli

PARSER = cli.TaskParser(
    "doctor",
    __doc__,
    default_space=None,
    examples=[("", "with the storage of the spaces, ./runs"), ("--storage /shared/runs", "with another storage")],
)
PARSER.add_argument("--storage", default="runs", metavar="FOLDER", help="a folder or URI, as storage= of a study")


def main(args: Namespace) -> int:
    """Print the lines, then what would go wrong; the exit code is 1 where something would."""
    from engine.studies.doctor import examine

    lines, wrong = examine(args.storage)
    width = max(map(len, lines))
    for subject, text in lines.items():
        print(f"{subject:<{width}}  {text}")
    for sentence in wrong:
        print(f"- {sentence}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(cli.run(main, parser=PARSER))
