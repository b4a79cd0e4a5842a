"""How each program that the pages name is tried; a program that is not named here fails.

Tasks run to their end in this process. What needs other machines, or stands for the whole of the tests, is read by the
program's own parser where it has one, and the files that it names are there; the task inside of it is resolved.
"""

import argparse
import os
import re
import shlex
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import click
from ray.scripts.scripts import cli as ray_cli

from engine.config.load import load, resolve
from engine.studies.registered import EXPERIMENT
from engine.tracking.mlflow.registry import run_of_study
from tasks import cli
from tasks.__main__ import verbs
from tests.docs.pages import ROOT, Command
from tests.docs.reader import Desk, shown_components, typed

MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def run(command: Command, desk: Desk) -> None:
    """Run or check one command; the assertion that fails says which."""
    words = [*command.words]
    while re.fullmatch(r"[A-Z_]+=\S*", words[0]):
        words.pop(0)
    program, *rest = words
    assert program in PROGRAMS, f"{command.place}: no test knows the program {program!r}"
    try:
        PROGRAMS[program](rest, desk)
    except (SystemExit, click.ClickException) as error:
        raise AssertionError(f"{command.place}: {command.line}: {error}") from error


def _python(words: Sequence[str], desk: Desk) -> None:
    if words[0] != "-m":
        script = Path(words[0])
        assert (ROOT / "tasks" / script.name).is_file(), words
        assert str(script.parent) in ("tasks", "~"), words
        return _task(script.stem, words[1:], desk)
    module, *rest = words[1:]
    if module == "pytest":
        return _files(rest)
    if module == "pip":
        return None if rest[0] == "install" else _unknown(words)
    assert find_spec(module), words
    if module == "benchmarks.scale":
        scale = import_module(module)
        job = vars(scale.Job())
        given = {key.removeprefix("--"): value for key, value in zip(rest[::2], rest[1::2], strict=True)}
        assert given.keys() <= job.keys(), words
        assert "| dollars |" in scale.tables(scale.Job(**{key: type(job[key])(value) for key, value in given.items()}))
        return None
    return None if module == "tests.golden" and rest == ["--write"] else _unknown(words)


def _task(task: str, words: Sequence[str], desk: Desk) -> None:
    """Run a task, after the files are as it expects them."""
    assert task in verbs(), task
    module, words = import_module(f"tasks.{task}"), [_named(word, desk) for word in words]
    args = module.PARSER.parse_args(words)
    if task == "new":
        desk.remove(f"{args.name}.yaml")
    elif task == "report" and not (args.all or args.published or Path(args.space).is_dir()):
        desk.name_study(Path(args.space).stem)
    elif task in ("export", "import_published") and args.out:
        desk.remove(args.out)
    elif "dry_run" in args and typed(args, "data"):
        desk.lay_out(load(args.space, args.overrides))
    if "dry_run" in args and not (args.dry_run or getattr(args, "list", False)) and _long(task, args):
        words.append("--dry-run")
    code = cli.run(module.main, words, parser=module.PARSER)
    assert code == 0 or (task, code) == ("doctor", 1), f"{task} {shlex.join(words)} ended with {code}"


def _long(task: str, args: argparse.Namespace) -> bool:
    """Return whether a command would train something else than the tiny study or the reader's own photos."""
    shown = any(name in word for word in args.overrides for _, name in shown_components())
    return task == "compare" or bool(getattr(args, "students", None)) or typed(args, "data.root") or shown


def _named(word: str, desk: Desk) -> str:
    """Put a study's or a run's own name where a page says SPACE, NAME or RUN_ID."""
    if word == "RUN_ID":
        job = desk.jobs[0]
        run = run_of_study(job.mlflow_uri, EXPERIMENT, job.key)
        assert run is not None
        return str(run.run_id)
    return "shapes_100" if word == "SPACE" else word


def _remote_task(words: Sequence[str]) -> None:
    """Check a task as another machine would get it: its words are understood, and its study resolves."""
    words = list(words)
    while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
        words.pop(0)
    if words[0] == "python":
        words.pop(0)
    task = Path(words[0]).stem
    assert (ROOT / "tasks" / f"{task}.py").is_file(), words
    args = import_module(f"tasks.{task}").PARSER.parse_args(words[1:])
    resolve(load(args.space, args.overrides))


def _ray(words: Sequence[str], desk: Desk) -> None:
    """Let Ray's own command line read the words; what it would start on the head is checked, too."""
    command, rest = ray_cli, list(words)
    while isinstance(command, click.Group):
        command = command.commands[rest.pop(0)]
    with command.make_context("ray", rest) as context:
        given = context.params
    if files := given.get("cluster_config_file"):
        _files([files])
    if script := given.get("script"):
        _remote_task([script, *given["script_args"]])
    if entry := given.get("entrypoint"):
        _remote_task(entry)
    if inner := given.get("cmd"):
        inside = shlex.split(inner)
        _ray(inside[1:], desk) if inside[0] == "ray" else _remote_task(inside)


def _mlflow(words: Sequence[str], desk: Desk) -> None:
    """Let MLflow's own command line read the words; it is imported where it is needed, for it takes seconds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its import
        from mlflow.cli import cli as mlflow_cli
    with mlflow_cli.commands[words[0]].make_context("mlflow", list(words[1:])):
        pass


def _files(words: Sequence[str]) -> None:
    for word in words:
        assert word.startswith("-") or (ROOT / word).exists(), word


def _make(words: Sequence[str], desk: Desk) -> None:
    for target in words:
        assert re.search(rf"^{re.escape(target)}:", MAKEFILE, re.MULTILINE), target


def _sbatch(words: Sequence[str], desk: Desk) -> None:
    _files(words[:1])
    _remote_task(["distill", *words[1:]])


def _kubectl(words: Sequence[str], desk: Desk) -> None:
    assert words[:2] == ["create", "-f"], words
    _files(words[2:])


def _source(words: Sequence[str], desk: Desk) -> None:
    assert list(words) == [".venv/bin/activate"], words


def _ci(words: Sequence[str], desk: Desk) -> None:
    assert not words
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def _unknown(words: Sequence[str]) -> None:
    raise AssertionError(f"no test knows what {shlex.join(words)} does")


PROGRAMS: dict[str, Callable[[Sequence[str], Desk], None]] = {
    "python": _python,
    ".venv/bin/python": _python,
    "vldistill": lambda words, desk: _task(words[0], words[1:], desk),
    "make": _make,
    "ray": _ray,
    "mlflow": _mlflow,
    "sbatch": _sbatch,
    "kubectl": _kubectl,
    ".": _source,
    ".ci/run": _ci,
}
