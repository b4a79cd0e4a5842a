"""Print the tables of a space's finished studies, newest last; --all prints those of every space."""

import sys
from argparse import Namespace
from pathlib import Path

from engine import command

PARSER = command.parser("report", __doc__)


def main(args: Namespace) -> int:
    """Print every finished study that fits the arguments."""
    from engine.config import load
    from engine.tracking.report import render

    storage = Path(load(args.space, args.overrides).storage).expanduser().absolute()
    print(render(storage, name=None if args.all else Path(args.space).stem))
    return 0


if __name__ == "__main__":
    sys.exit(command.run(main, parser=PARSER))
