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
    given = sys.argv[1:] if argv is None else argv
    epilog = None
    if set(given[:1]) <= {"-h", "--help"}:
        first = {verb: (import_module(f"tasks.{verb}").__doc__ or "").splitlines()[0] for verb in verbs()}
        epilog = "\n".join(["verbs:", *(f"  {verb:<18}{line}" for verb, line in first.items())])
    parser = argparse.ArgumentParser(
        prog=Path(sys.argv[0]).stem,
        description="Vision-language dataset distillation.",
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("verb", metavar="VERB", choices=verbs(), help="what to do; VERB --help tells more")
    parser.add_argument("words", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    if "_ARGCOMPLETE" in os.environ:
        _complete(parser)
    tolerate_any_text()
    args = parser.parse_args(given or ["--help"])
    task = import_module(f"tasks.{args.verb}")
    return cli.run(task.main, args.words, parser=task.PARSER)


def _complete(parser: argparse.ArgumentParser) -> None:
    """Answer the shell's request for completions: of the verb, or of the words behind it."""
    import argcomplete
    from argcomplete.lexers import split_line

    line = os.environ.get("COMP_LINE", "")
    words = split_line(line, int(os.environ.get("COMP_POINT", len(line))))[3]  # zsh sends all that stands in the line
    start = 1 + max((place for place, word in enumerate(words) if Path(word).name == "vldistill"), default=0)
    if len(words) > start and words[start] in verbs():
        parser = import_module(f"tasks.{words[start]}").PARSER
        start += 1  # the verb's parser sees the verb as the program
    os.environ["_ARGCOMPLETE"] = str(start)
    argcomplete.autocomplete(parser)


if __name__ == "__main__":
    sys.exit(main())
