"""What the tasks share on the command line: a space, overrides, a few flags, and errors in one line."""

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

DEFAULT_SPACE = "shapes_100"
_DEFAULTS = {"compare": "shapes"}

_RUNS = ("dry-run", "local")
_FLAGS: dict[str, tuple[str, ...]] = {
    "distill": ("samples", *_RUNS, "fresh"),
    "train_experts": _RUNS,
    "evaluate": ("set", *_RUNS),
    "coreset": _RUNS,
    "compare": _RUNS,
    "report": ("all", "published", "markdown"),
    "import_published": ("distilled", "buffers", "out", "alpha", "normalisation"),
    "actors": ("stop",),
}
TASKS = tuple(_FLAGS)
_OF_NO_SPACE = ("actors",)

_OPTIONS: dict[str, dict[str, Any]] = {
    "dry-run": {"action": "store_true", "help": "check and print the resolved configuration, and run nothing"},
    "local": {"action": "store_true", "help": "start a cluster on this machine even where one could be joined"},
    "set": {"metavar": "FILE", "help": "a synthetic set to score (default: the one that the study itself distilled)"},
    "all": {"action": "store_true", "help": "the studies of every space in the same storage folder"},
    "published": {"action": "store_true", "help": "only the published rows that the space names, without any run"},
    "markdown": {"action": "store_true", "help": "as Markdown instead of aligned text"},
    "distilled": {"metavar": "FILE", "help": "a published distilled set, a file of torch.save"},
    "buffers": {"metavar": "FOLDER", "help": "the folder of img_replay_buffer_0.pt, txt_replay_buffer_0.pt and so on"},
    "out": {"metavar": "FILE", "help": "where the set is written as safetensors, for evaluate.py --set"},
    "alpha": {
        "type": float,
        "help": "the alpha of a low-rank similarity (default: what the whole matrix in the file tells)",
    },
    "normalisation": {
        "choices": ("clip", "imagenet", "none"),
        "default": "clip",
        "help": "what the pixels of the set were normalised with (default: clip)",
    },
    "stop": {"action": "store_true", "help": "end them; what experts have finished lies in the store"},
    "fresh": {"action": "store_true", "help": "start over instead of resuming the study or printing its results"},
}


class TaskParser(argparse.ArgumentParser):
    """A parser whose result has ``space`` and ``overrides``; flags may stand between them."""

    def __init__(self, *args: Any, default_space: str = DEFAULT_SPACE, **options: Any) -> None:
        super().__init__(*args, **options)
        self.default_space = default_space

    def parse_args(self, args: Iterable[str] | None = None, namespace: Any = None) -> Any:
        """Parse ``args``; a word with ``=`` is an override, any other one is the space."""
        parsed = self.parse_intermixed_args(None if args is None else list(args), namespace)
        words: list[str] = parsed.words
        named = [word for word in words if "=" not in word] + ([parsed.config] if parsed.config else [])
        if len(named) > 1:
            self.error(f"expected one space, found {' and '.join(named)}")
        parsed.space = named[0] if named else self.default_space
        parsed.overrides = [word for word in words if "=" in word]
        del parsed.words, parsed.config
        return parsed


def parser(task: str, description: str) -> TaskParser:
    """Return the parser of a task, with the flags that the task understands."""
    built = TaskParser(
        default_space=_DEFAULTS.get(task, DEFAULT_SPACE),
        prog=f"{task}.py",
        description=description,
        epilog=_examples(task),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    if task in _OF_NO_SPACE:
        built.set_defaults(words=[], config=None, list=False)
    else:
        _add_space(built)
    for flag in _FLAGS[task]:
        if flag == "samples":
            built.add_argument("--samples", type=_count, metavar="N", help="search with N trials, the defaults first")
        else:
            built.add_argument(f"--{flag}", **_OPTIONS[flag])
    return built


def _add_space(built: TaskParser) -> None:
    """Let a parser take a space and overrides, or list the spaces."""
    built.add_argument(
        "words",
        nargs="*",
        metavar="[space] [key=value ...]",
        help=f"a space of tune_spaces or the path of a YAML file (default: {DEFAULT_SPACE}), and values that replace "
        "its own; a searched key that is given a value is no longer searched",
    )
    built.add_argument("--config", metavar="PATH", help="the path of a YAML file, in place of a space")
    built.add_argument("--list", action="store_true", help="list the spaces with their notes, and run nothing")


def run(
    main: Callable[[argparse.Namespace], int], argv: Sequence[str] | None = None, *, parser: argparse.ArgumentParser
) -> int:
    """Parse ``argv``, call ``main`` and return its exit code; ``--list`` is answered here.

    An error of the user's is one line on stderr and 2, one of the machinery's (a worker that dies, a server or a
    storage that is away, a full disk) one line and 1, unless ``VLDD_TRACEBACK`` is 1; an interrupt is 130.
    """
    args = parser.parse_args(argv)
    try:
        if args.list:
            print(list_spaces())
            return 0
        return main(args)
    except KeyboardInterrupt:
        print("interrupted; repeat the command to go on", file=sys.stderr)
        return 130
    except Exception as error:
        if os.environ.get("VLDD_TRACEBACK") == "1" or not _is_told(error):
            raise
        print(f"error: {_one_line(error)}", file=sys.stderr)
        return 2 if isinstance(error, ValueError | FileNotFoundError) else 1


def list_spaces() -> str:
    """Return a table of the spaces and their notes."""
    from engine.config.spaces import spaces

    notes = spaces()
    width = max(map(len, notes), default=0)
    return "\n".join(f"{name:<{width}}  {note}".rstrip() for name, note in notes.items())


def _is_told(error: Exception) -> bool:
    """Say whether an error is told in one line; any other one is a mistake of ours, whose traceback is wanted."""
    from engine.io.storage import is_of_store

    return isinstance(error, ValueError | RuntimeError | OSError) or is_of_store(error)


def _one_line(error: Exception) -> str:
    """Return the message of an error on one line; of a missing file, with its name; of a storage, what to do."""
    from engine.io.storage import StorageError, is_of_store

    if isinstance(error, FileNotFoundError) and error.filename is not None:
        return f"{error.filename}: there is no such file or folder."
    line = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, StorageError):
        return f"{line}; {_WHEN_BACK}"
    return f"the storage failed ({line}); {_WHEN_BACK}" if is_of_store(error) else line


_WHEN_BACK = "repeat the command to go on when it is back"


def _count(text: str) -> int:
    """Read a positive integer."""
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected an integer of at least 1, found {text!r}")
    return int(text)


def _examples(task: str) -> str:
    """Return the examples below the help of a task."""
    lines = [
        (f"{task}.py", f"the space {DEFAULT_SPACE}"),
        (f"{task}.py flickr8k_100", "another space"),
        (f"{task}.py method.inner_steps=4 seed=1", "other values"),
        (f"{task}.py --config my_space.yaml", "a space of your own"),
        (f"{task}.py --list", "all spaces"),
    ]
    if task in _OF_NO_SPACE:
        lines = [(f"{task}.py", "what runs"), *((f"{task}.py --{flag}", "and act on it") for flag in _FLAGS[task])]
    if task in _DEFAULTS:
        lines = [
            (f"{task}.py", f"the table {_DEFAULTS[task]}"),
            (f"{task}.py flickr8k", "another table"),
            (f"{task}.py flickr8k --dry-run", "its studies, and which of them are finished"),
            (f"{task}.py flickr8k protocol.seeds=2", "a value that replaces that of all lines"),
            (f"{task}.py --config my_table.yaml", "a table of your own"),
        ]
    if task == "import_published":
        lines = [
            (f"{task}.py published/flickr30k_100_lors --distilled distilled_3000.pt --out lors.safetensors", "a set"),
            (f"{task}.py published/flickr30k_100_lors --buffers buffers/", "experts, into the store of the space"),
        ]
    if "samples" in _FLAGS[task]:
        lines.insert(2, (f"{task}.py flickr8k_100 --samples 8", "search with eight trials"))
    width = max(len(command) for command, _ in lines)
    shown = "\n".join(f"  {command:<{width}}  {meaning}" for command, meaning in lines)
    return f"examples:\n{shown}\n\nVLDD_TRACEBACK=1 shows where an error was raised."
