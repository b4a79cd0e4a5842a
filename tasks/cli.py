"""The command line that all tasks share: a space, overrides, and errors in one line."""

import argparse
import glob
import json
import os
import select
import shlex
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, TypeAlias

from engine.io.shell import near, program
from engine.io.signals import handle_sigterm, was_terminated
from engine.io.terminal import tolerate_any_text

if TYPE_CHECKING:
    from engine.studies.job import Job

DEFAULT_SPACE = "shapes_100"
EXIT_INTERRUPTED, EXIT_READER_GONE, EXIT_TERMINATED = 130, 141, 143


@dataclass(frozen=True)
class Made:
    """Result of a task without a table: the document that ``--json`` prints, and the lines that ``--quiet`` prints."""

    document: Mapping[str, Any]
    lines: Sequence[str]


Answer: TypeAlias = int | Sequence[Any] | Made
"""What a task returns: its exit code, the rows of the table that it has printed, or what else it has made."""
Examples = Sequence[tuple[str, str]]
"""Words behind the name of a task, and what they do."""


class TaskParser(argparse.ArgumentParser):
    """The parser of one task; ``--flags`` may stand between the space and its overrides.

    The parsed arguments have ``space`` and ``overrides`` where the task takes a space, which is one of the files that
    the function ``listed`` of ``engine.config.spaces`` returns, or a path; ``default_space`` None takes none, and ""
    stands for the study that a set names itself.
    """

    def __init__(
        self,
        task: str,
        description: str | None,
        *,
        examples: Examples,
        default_space: str | None = DEFAULT_SPACE,
        listed: str = "spaces",
    ) -> None:
        command = as_typed(task)
        lines = [(f"{command} {words}".rstrip(), meaning) for words, meaning in examples]
        width = max(len(line) for line, _ in lines)
        shown = "\n".join(f"  {line:<{width}}  {meaning}" for line, meaning in lines)
        super().__init__(
            prog=command,
            description=description,
            epilog=f"examples:\n{shown}\n\nVLDD_TRACEBACK=1 shows where an error was raised.",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        self.default_space, self.listed = default_space, listed
        if default_space is None:
            return
        words = self.add_argument(
            "words",
            nargs="*",
            metavar="[space] [key=value ...]",
            help=f"one of the {self.listed} (see --list) or the path of a YAML file (default: "
            f"{default_space or 'the study that the set names'}), and values that replace its own; a searched key "
            "with a value given here is not searched",
        )
        words.completer = complete_words  # type: ignore[attr-defined]
        self.add_argument("--config", metavar="PATH", help="the path of a YAML file, in place of a space")
        self.add_flag("--list", f"list the {self.listed} with their notes, and run nothing")

    def known(self) -> dict[str, Path]:
        """Return the files that come with the project and may stand where a space does, by their names."""
        from engine.config import spaces

        found: dict[str, Path] = getattr(spaces, self.listed)()
        return found

    def add_flag(self, name: str, meaning: str) -> None:
        """Add a flag, which is true where it is given."""
        self.add_argument(name, action="store_true", help=meaning)

    def add_run_flags(self) -> None:
        """Add the flags of tasks that run something: ``--dry-run`` and ``--local``."""
        self.add_flag("--dry-run", "check and print the resolved configuration, and run nothing")
        self.add_flag("--local", "start a cluster on this machine even where one could be joined")

    def add_row_flags(self) -> None:
        """Add the flags of tasks whose run ends with a table: those of a run, ``--quiet`` and ``--json``."""
        self.add_run_flags()
        self.add_script_flags(quiet="the table", json="the rows as one JSON document, that of table.json,")

    def add_script_flags(self, *, quiet: str, json: str) -> None:
        """Add ``--quiet`` and ``--json``; ``quiet`` and ``json`` are what they print, in words for the help."""
        said = self.add_mutually_exclusive_group()
        meanings = {"quiet": f"{quiet} and nothing else; an error still is one line on stderr"}
        for word, meaning in (meanings | {"json": f"{json} and all else on stderr"}).items():
            said.add_argument(f"--{word}", dest="said", action="store_const", const=word, help=f"print {meaning}")

    def parse_args(self, args: Iterable[str] | None = None, namespace: Any = None) -> Any:
        """Parse ``args``; a word with ``=`` is an override, any other one is the space."""
        if self.default_space is None:
            return super().parse_args(None if args is None else list(args), namespace)
        parsed = self.parse_intermixed_args(None if args is None else list(args), namespace)
        words: list[str] = parsed.words
        named = [word for word in words if "=" not in word] + ([parsed.config] if parsed.config else [])
        if named and getattr(parsed, "from_run", None):
            self.error(f"--from-run takes the study of a run, expected it without the space {named[0]}")
        if len(named) > 1:
            self.error(f"expected one space, found {' and '.join(named)}")
        parsed.space = named[0] if named else self.default_space
        parsed.overrides = [word for word in words if "=" in word]
        del parsed.words, parsed.config
        if getattr(parsed, "said", None) and getattr(parsed, "dry_run", False):
            self.error("--dry-run describes and makes nothing, expected it without --quiet and --json")
        return parsed


def as_typed(task: str) -> str:
    """Return how a person in this folder starts a task: by ``vldistill`` where that was called, else by its file."""
    script = Path(sys.argv[0])
    if script.stem == "vldistill":
        found = shutil.which(script.name)
        same = found is not None and script.exists() and Path(found).samefile(script)
        return f"{script.name if same else shlex.quote(near(script))} {task}"
    return f"{program('python')} {shlex.quote(near(Path(__file__).with_name(f'{task}.py')))}"


SPACE_EXAMPLES: Examples = (
    ("", f"the space {DEFAULT_SPACE}"),
    ("flickr8k_100", "another space"),
    ("method.inner_steps=4 seed=1", "other values"),
    ("--config my_space.yaml", "a space of your own"),
    ("--list", "all spaces"),
)
"""Examples of a task that takes a space and no other word."""


def positive_int(text: str) -> int:
    """Read an integer of at least 1."""
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected an integer of at least 1, found {text!r}")
    return int(text)


def read_job(args: argparse.Namespace, *, samples: int | None = None) -> "Job":
    """Return the job of the space and the overrides in ``args``.

    The configuration is checked before torch and Ray are imported, so that its errors appear at once.

    Raises:
        ConfigError: the configuration cannot be used.
        ValueError: the storage cannot be used.
    """
    from engine.config.load import load, resolve

    study = resolve(load(args.space, args.overrides))

    from engine.studies.job import make_job

    return make_job(args.space, study, samples=samples)


def described(args: argparse.Namespace, job: "Job") -> bool:
    """Print what a job would do where ``--dry-run`` asks for that, and return whether it does."""
    if args.dry_run:
        from engine.studies.preflight.dry_run import describe

        print(describe(job))
    return bool(args.dry_run)


def run(main: Callable[[argparse.Namespace], Answer], argv: Sequence[str] | None = None, *, parser: TaskParser) -> int:
    """Parse ``argv``, call ``main`` and return its exit code; ``--list``, ``--quiet`` and ``--json`` are answered here.

    Exit codes: 2 after an error of the user's, 1 after one of the machinery's (a dead worker, a server or a storage
    that is away, a full disk), each with one line on stderr; 130 after Ctrl-C, 143 after SIGTERM, and 141 without a
    word when the reader of the output is gone (``| head``). Any other error, and with ``VLDD_TRACEBACK=1`` every error,
    shows its traceback.
    """
    tolerate_any_text()
    args = parser.parse_args(argv)
    handle_sigterm()
    try:
        if listed := getattr(args, "list", False):
            print(with_notes(parser.known()))
        code = 0 if listed else _answered(main, args)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        how, code = ("terminated", EXIT_TERMINATED) if was_terminated() else ("interrupted", EXIT_INTERRUPTED)
        print(f"{how}; repeat the command to go on", file=sys.stderr)
        return code
    except Exception as error:
        from engine.io.storage import is_of_store

        if isinstance(error, BrokenPipeError) and _reader_is_gone():
            return EXIT_READER_GONE
        expected = isinstance(error, ValueError | RuntimeError | OSError) or is_of_store(error)
        if os.environ.get("VLDD_TRACEBACK") == "1" or not expected:
            raise
        print(f"error: {_one_line(error)}", file=sys.stderr)
        return 2 if isinstance(error, ValueError | FileNotFoundError) else 1


def _answered(main: Callable[[argparse.Namespace], Answer], args: argparse.Namespace) -> int:
    """Return the exit code of ``main``, 0 for rows or ``Made``; with ``--quiet`` or ``--json`` print these alone."""
    said: str | None = getattr(args, "said", None)
    with ExitStack() as elsewhere:
        if said == "quiet":
            elsewhere.enter_context(redirect_stderr(_nowhere()))
            elsewhere.enter_context(redirect_stdout(_nowhere()))
        elif said == "json":
            elsewhere.enter_context(redirect_stdout(sys.stderr))
        result = main(args)
    if isinstance(result, int):
        return result
    if said == "json":
        from engine.results.files import document

        content = result.document if isinstance(result, Made) else document(result)
        print(json.dumps(content, indent=2, ensure_ascii=False))
    elif said == "quiet":
        from engine.results.render import render_text

        print("\n".join([*result.lines, ""]) if isinstance(result, Made) else render_text(result), end="")
    return 0


@cache
def _nowhere() -> TextIO:
    """Return a stream that discards its text; it stays open, since loggers of libraries keep it."""
    return Path(os.devnull).open("w", encoding="utf-8")


def _reader_is_gone() -> bool:
    """Return whether the pipe behind stdout has lost its reader; stdout then takes and forgets all that follows."""
    stdout, poll = 1, select.poll()
    poll.register(stdout, select.POLLOUT)
    gone = any(event & select.POLLERR for _, event in poll.poll(0))
    if gone:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stdout)
    return gone


def _one_line(error: Exception) -> str:
    """Return the message of an error on one line, with the name of its file, or with what to do next."""
    from engine.io.storage import StorageError, is_of_store

    line = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, StorageError) or is_of_store(error):
        reason = line if isinstance(error, StorageError) else f"the storage failed ({line})"
        return f"{reason}; repeat the command to go on when it is back"
    if isinstance(error, OSError) and error.filename is not None:
        name = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else error.filename
        if isinstance(error, FileNotFoundError):
            return f"{name}: there is no such file or folder."
        if error.strerror:
            return f"{name}: {error.strerror.lower()}."
    if isinstance(error, UnicodeEncodeError):
        return f"{error.object!r:.200} cannot be written as {error.encoding} ({error.reason})."
    return line


def with_notes(files: Mapping[str, Path]) -> str:
    """Return a table of the names of spaces, or of tables, and their notes."""
    from engine.config.spaces import notes

    width = max(map(len, files), default=0)
    return "\n".join(f"{name:<{width}}  {note}".rstrip() for name, note in notes(files).items())


def complete_words(prefix: str, parsed_args: argparse.Namespace, parser: "TaskParser", **_: Any) -> list[str]:
    """Complete a space or a file, a key of the space that was typed, or the value behind ``key=`` (for argcomplete)."""
    from engine.config.completion import completed

    words = getattr(parsed_args, "words", None) or ()
    typed = [word for word in words if "=" not in word] + ([config] if (config := parsed_args.config) else [])
    space = typed[0] if typed else parser.default_space or DEFAULT_SPACE
    found = completed(space, [word for word in words if "=" in word], prefix) if typed or prefix else []
    if typed or "=" in prefix:
        return found
    folder, slash, start = prefix.rpartition("/")
    here = sorted(Path(folder + slash).expanduser().glob(f"{glob.escape(start)}*"))
    files = [path.name + "/" * path.is_dir() for path in here if path.is_dir() or path.suffix in (".yaml", ".yml")]
    return [*parser.known(), *(folder + slash + name for name in files if start or name[0] != "."), *found]
