"""The command line of the tasks."""

import argparse
import errno
import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Literal, get_args, get_origin

import pytest
from fsspec.exceptions import FSTimeoutError

from engine.config import components
from engine.config.completion import words_of
from engine.config.errors import fields_of
from engine.config.spaces import spaces, tables
from engine.io.progress import bar, echo
from engine.io.shell import near
from engine.io.storage import StorageError
from engine.results.files import document
from engine.results.render import render_text
from engine.results.row import Row
from tasks import distill
from tasks.__main__ import main, verbs
from tasks.cli import complete_words, run, with_notes

SAME_PHOTO = ("refuse", "first", "last")
ROOT = Path(__file__).resolve().parents[2]


def parsed(task: str, *words: str) -> dict[str, object]:
    return vars(import_module(f"tasks.{task}").PARSER.parse_args(words))


@pytest.mark.parametrize(
    ("words", "space", "overrides", "samples"),
    [
        ([], "shapes_100", [], None),
        (["flickr8k_100", "--samples", "8", "method.inner_steps=16"], "flickr8k_100", ["method.inner_steps=16"], 8),
        (["method.inner_steps=4"], "shapes_100", ["method.inner_steps=4"], None),
        (["a=1", "--samples=2", "mine.yaml", "b=x=y"], "mine.yaml", ["a=1", "b=x=y"], 2),
        (["--config", "a=b/mine.yaml", "a=-1"], "a=b/mine.yaml", ["a=-1"], None),
    ],
)
def test_words_are_a_space_and_overrides(
    words: list[str], space: str, overrides: list[str], samples: int | None
) -> None:
    found = parsed("distill", *words)
    assert (found["space"], found["overrides"], found["samples"]) == (space, overrides, samples)


@pytest.mark.parametrize("task", verbs())
def test_every_task_offers_only_the_flags_that_it_has(task: str) -> None:
    needed = {"new": ["mine", "--data", "photos"], "export": ["--out", "mine"]}.get(task, [])
    found = set(parsed(task, *needed)) - {"space", "overrides", "list"}
    runs = {"dry_run", "local"}
    own = {
        "distill": runs | {"samples", "fresh", "said", "from_run"},
        "evaluate": runs | {"set", "students", "classes", "said"},
        "coreset": runs | {"said"},
        "compare": runs | {"said"},
        "report": {"all", "published", "format", "out"},
        "actors": {"stop"},
        "doctor": {"storage"},
        "new": {"name", "data", "copy", "captions", "pairs"},
    }
    own["export"] = {"set", "out", "register", "score", "tar", "licence", "terms", "local", "said"}
    own["train_experts"] = runs | {"said"}
    own["import_published"] = {"distilled", "buffers", "out", "alpha", "normalisation"}
    assert found == own.get(task, runs)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["one", "two"], "expected one space, found one and two"),
        (["one", "--config", "two"], "expected one space, found one and two"),
        (["--samples", "0"], "argument --samples: expected an integer of at least 1, found '0'"),
        (["--samples", "x"], "argument --samples: expected an integer of at least 1, found 'x'"),
        (["one", "--from-run", "x"], "--from-run takes the study of a run, expected it without the space one"),
        (["--json", "--quiet"], "not allowed with argument --json"),
        (["--json", "--dry-run"], "--dry-run describes and makes nothing, expected it without --quiet and --json"),
        (["--sample", "3"], "unrecognized arguments: --sample"),
    ],
)
def test_wrong_words(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parsed("distill", *words)
    assert caught.value.code == 2
    assert told in capsys.readouterr().err


def test_help_shows_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parsed("distill", "--help")
    assert caught.value.code == 0
    shown = capsys.readouterr().out
    assert f"{near(ROOT / 'tasks' / 'distill.py')} flickr8k_100 --samples 8" in shown
    assert "[space] [key=value ...]" in shown
    assert "--samples" not in import_module("tasks.coreset").PARSER.format_help()


def translated(error: OSError) -> OSError:
    """Return an OSError that a package which reaches object stores made of another error."""
    error.__cause__ = FSTimeoutError()
    return error


def outcome(error: BaseException | int, *words: str) -> int:
    def task(args: argparse.Namespace) -> int:
        if isinstance(error, int):
            return error
        raise error

    return run(task, words, parser=distill.PARSER)


ROWS = [Row(name="lörs", pairs=3, mean={"mean_recall": 20.0})]


def talking(args: argparse.Namespace) -> list[Row]:
    """A task that prints, draws a bar, and ends with a table."""
    echo("Ray: a private one")
    print("a warning", file=sys.stderr)
    with bar("working", total=2) as progress:
        progress.advance(2)
    return ROWS


def test_quiet_prints_the_table_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(talking, ["--quiet"], parser=distill.PARSER) == 0
    assert capsys.readouterr() == (render_text(ROWS), "")


def test_json_is_all_of_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(talking, ["--json"], parser=distill.PARSER) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out) == document(ROWS)
    assert captured.err == "Ray: a private one\na warning\n"
    assert run(talking, [], parser=distill.PARSER) == 0
    assert capsys.readouterr() == ("Ray: a private one\n", "a warning\n"), "the task prints its table itself"


@pytest.mark.parametrize("flag", ["--quiet", "--json"])
def test_an_error_is_seen_behind_either_flag(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert outcome(ValueError("seed is -1."), flag) == 2
    assert capsys.readouterr() == ("", "error: seed is -1.\n")


def test_the_exit_code_is_that_of_the_task() -> None:
    assert outcome(0) == 0
    assert outcome(3) == 3


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ValueError("seed is -1,\n expected more."), "error: seed is -1, expected more.\n"),
        (ValueError(), "error: ValueError\n"),
        (FileNotFoundError("there is no x."), "error: there is no x.\n"),
        (FileNotFoundError(2, "No such file", "a/b"), "error: a/b: there is no such file or folder.\n"),
        (FileNotFoundError(2, "No such file", b"a/\xe9"), "error: a/\\udce9: there is no such file or folder.\n"),
        (
            UnicodeEncodeError("utf-8", "caf\udce9", 3, 4, "surrogates not allowed"),
            "error: 'caf\\udce9' cannot be written as utf-8 (surrogates not allowed).\n",
        ),
    ],
)
def test_an_error_of_the_user_is_one_line(error: Exception, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert outcome(error) == 2
    assert capsys.readouterr() == ("", told)


@pytest.mark.parametrize("code", [errno.ENOTDIR, errno.EACCES, errno.EROFS, errno.ENAMETOOLONG, errno.EISDIR])
def test_an_error_of_the_operating_system_names_the_file(code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert outcome(OSError(code, os.strerror(code), "a/b")) == 1
    assert capsys.readouterr().err == f"error: a/b: {os.strerror(code).lower()}.\n"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (StorageError("storage: s3://a failed (x)"), "storage: s3://a failed (x)"),
        (FSTimeoutError("too\nlate"), "the storage failed (too late)"),
        (translated(PermissionError("Access Denied")), "the storage failed (Access Denied)"),
    ],
)
def test_an_error_of_the_storage_says_that_one_can_go_on(
    error: Exception, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert outcome(error) == 1
    assert capsys.readouterr().err == f"error: {told}; repeat the command to go on when it is back\n"


def test_an_interrupt_is_130(capsys: pytest.CaptureFixture[str]) -> None:
    assert outcome(KeyboardInterrupt()) == 130
    assert capsys.readouterr().err == "interrupted; repeat the command to go on\n"


def test_a_signal_to_the_process_ends_it_once_its_clean_up_is_done(tmp_path: Path) -> None:
    code = f"""if True:
        import os, pathlib, signal, sys, time
        from tasks import cli, distill
        def task(args):
            try:
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(60)
            finally:
                os.kill(os.getpid(), signal.SIGTERM)  # a second one does not disturb what is cleaned up
                time.sleep(0.2)
                pathlib.Path({str(tmp_path / "cleaned")!r}).touch()
        sys.exit(cli.run(task, [], parser=distill.PARSER))
    """
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (143, "terminated; repeat the command to go on\n")
    assert (tmp_path / "cleaned").exists()


def test_the_console_script_runs_a_task(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["distill", "--list"]) == 0
    assert capsys.readouterr().out == f"{with_notes(spaces())}\n"
    with pytest.raises(SystemExit):
        main(["distil"])
    assert "invalid choice: 'distil'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("vldistill dis", {"distill"}),
        ("vldistill report --mark", {"--markdown"}),
        ("cd a && ./vldistill  distill  flickr8k_100 method.init=k", {"method.init=kmeans"}),
    ],
)
def test_the_tab_key_completes_verbs_flags_keys_and_values(line: str, expected: set[str], tmp_path: Path) -> None:
    found = tmp_path / "found"
    variables = {
        **os.environ,
        "_ARGCOMPLETE": "1",
        "_ARGCOMPLETE_SUPPRESS_SPACE": "1",
        "_ARGCOMPLETE_STDOUT_FILENAME": str(found),
        "_ARGCOMPLETE_COMP_WORDBREAKS": " ",
        "_ARGCOMPLETE_IFS": "\n",
        "COMP_LINE": line,
        "COMP_POINT": str(len(line)),
    }
    subprocess.run([sys.executable, "-m", "tasks"], cwd=ROOT, env=variables, capture_output=True, timeout=60)
    assert {word.strip() for word in found.read_text(encoding="utf-8").split("\n") if word.strip()} == expected


@pytest.mark.parametrize(
    ("task", "line", "expected"),
    [
        ("distill", "flickr8k_100_l", {"flickr8k_100_lora"}),
        ("distill", "flickr8k_100 method.inner_s", {"method.inner_steps="}),
        ("distill", "method.gradient=tr", {"method.gradient=truncated"}),
        ("distill", "method.name=mdm method.weig", {"method.weight="}),
        ("distill", "protocol.select_epoch=best_on_v", {"protocol.select_epoch=best_on_val"}),
        ("distill", "method.name=repb", {"method.name=repblend"}),
        ("distill", "protocol.shared_learning_rate=t", {"protocol.shared_learning_rate=true"}),
        ("distill", "data.name=table data.same_photo=", {f"data.same_photo={word}" for word in SAME_PHOTO}),
        ("distill", "flickr8k_100 student.image.lora.ra", {"student.image.lora.rank="}),
        ("distill", "seed=1 no_such_space protocol.sch", {"protocol.schedule="}),
        ("distill", "mine", {"mine/", "mine.yaml"}),
        ("distill", "mine/", {"mine/other.yml"}),
        ("compare", "flickr8k_a", {"flickr8k_ablations"}),
        ("compare", "shapes protocol.sel", {"protocol.select_step=", "protocol.select_epoch="}),
    ],
)
def test_words_are_completed(
    task: str, line: str, expected: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    for name in ("mine.yaml", "mine.csv", "mine/other.yml", ".mine.yaml"):
        (tmp_path / name).touch()
    *words, prefix = line.split(" ")
    found = complete_words(prefix, argparse.Namespace(words=words, config=None), import_module(f"tasks.{task}").PARSER)
    assert {word for word in found if word.startswith(prefix)} == expected


def test_the_words_of_every_option_are_read_without_importing_it() -> None:
    code = """if True:
        import sys
        from engine.config import components
        from engine.config.completion import words_of
        for family, (package, entry, _) in components.FAMILIES.items():
            for name in components.names(family):
                words_of(f"{package}.{name}", entry)
        print("torch" in sys.modules)
    """
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True).stdout == "False\n"
    for family, (package, entry, _) in components.FAMILIES.items():
        for name in components.names(family):
            fields = fields_of(components.options(components.find(family, name)))
            read = words_of(f"{package}.{name}", entry)
            assert {key.partition(".")[0] for key in read} == set(fields), name
            for key, annotation in fields.items():
                if get_origin(annotation) is Literal:
                    assert read[key] == list(get_args(annotation))


def test_a_list_is_that_of_the_task(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "--list"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(tables())


@pytest.mark.parametrize("script", ["vldistill", "tasks/distill.py"])
def test_the_examples_of_a_help_run_as_they_are_printed(script: str, tmp_path: Path) -> None:
    (tmp_path / "my vldistill").mkdir()
    own = tmp_path / "my vldistill" / "vldistill"
    own.write_text(
        f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(ROOT)!r})\nfrom tasks.__main__ import main\n"
        "sys.exit(main())\n",
        encoding="utf-8",
    )
    own.chmod(0o755)
    command = [str(own), "distill"] if script == "vldistill" else [sys.executable, str(ROOT / script)]
    shown = subprocess.run([*command, "--help"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    line = next(line.strip() for line in shown.splitlines() if line.endswith("all spaces")).removesuffix("all spaces")
    done = subprocess.run(line, shell=True, cwd=tmp_path, capture_output=True, text=True)
    assert "shapes_100" in done.stdout, (line, done.stderr)


def test_other_errors_and_wished_tracebacks_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ZeroDivisionError):
        outcome(ZeroDivisionError())
    monkeypatch.setenv("VLDD_TRACEBACK", "1")
    with pytest.raises(ValueError, match=r"^x$"):
        outcome(ValueError("x"))


def test_list_shows_every_space_and_runs_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert outcome(ZeroDivisionError(), "--list") == 0
    shown = capsys.readouterr().out
    assert shown == f"{with_notes(spaces())}\n"
    names = [line.split()[0] for line in shown.splitlines()]
    assert set(names) >= {"flickr8k_100", "flickr8k_100_small", "shapes_100", "published/flickr30k_1000_bi_trajectory"}
    assert names.index("published/flickr30k_500_lors") < names.index("published/flickr30k_1000_bi_trajectory")


@pytest.mark.parametrize(
    ("word", "code", "said"), [("--list", 141, ""), ("no_such_space", 2, "error: command line: the space is ")]
)
def test_a_reader_that_is_gone_hides_no_error_and_is_none(word: str, code: int, said: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "tasks.distill", word]
    done = subprocess.run(command, cwd=ROOT, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=120)
    os.close(writer)
    assert (done.returncode, done.stderr[: len(said) or None]) == (code, said)


@pytest.mark.parametrize("word", ["--help", "--list"])
def test_help_and_list_wait_for_no_library(word: str) -> None:
    code = f"""if True:
        import atexit, sys
        atexit.register(lambda: print([m for m in ("torch", "ray", "mlflow") if m in sys.modules]))
        from tasks import cli, distill
        sys.exit(cli.run(lambda args: 1, ["{word}"], parser=distill.PARSER))
    """
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]"
