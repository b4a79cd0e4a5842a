"""The command ``vldistill VERB ...``, which is ``python tasks/VERB.py ...`` with completion by the tab key."""

import argparse
import os
import pkgutil
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from engine.io.terminal import tolerate_any_text
from tasks import cli


def verbs() -> list[str]:
    """Return the names of the tasks, which are the files of this folder."""
    names = [module.name for module in pkgutil.iter_modules([str(Path(__file__).parent)])]
    return sorted(name for name in names if name not in ("cli", "__main__"))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the task that the first word names with the words behind it, and return its exit code."""
    parser = argparse.ArgumentParser(prog="vldistill", description="Vision-language dataset distillation.")
    parser.add_argument("verb", choices=verbs(), help="what to do; VERB --help tells more")
    parser.add_argument("words", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    if "_ARGCOMPLETE" in os.environ:
        _complete(parser)
    tolerate_any_text()
    args = parser.parse_args(argv)
    task = import_module(f"tasks.{args.verb}")
    return cli.run(task.main, args.words, parser=task.PARSER)


def _complete(parser: argparse.ArgumentParser) -> None:
    """Answer the shell's request for completions: of the verb, or of the words behind it."""
    import argcomplete

    words = os.environ.get("COMP_LINE", "").split(" ")
    if len(words) > 2 and words[1] in verbs():
        os.environ["_ARGCOMPLETE"] = "2"  # the verb's parser sees the verb as the program
        parser = import_module(f"tasks.{words[1]}").PARSER
    argcomplete.autocomplete(parser)


if __name__ == "__main__":
    sys.exit(main())
