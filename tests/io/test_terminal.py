"""Output reaches its end whatever the encoding of stdout, and without any stdout."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CODE = r"""if True:
    import sys
    from engine.io.progress import echo
    from tasks import cli, distill
    def task(args):
        echo("\u2500 \xe9 \u72d7 \udce9")
        print("the last line \u2500")
        raise ValueError("the reason \u72d7 \udce9")
    sys.exit(cli.run(task, [], parser=distill.PARSER))
"""


def run(closed: str = "", **variables: str) -> subprocess.CompletedProcess[bytes]:
    """Run a task that prints and fails, without the streams that are ``closed``."""
    words = ["sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, "-c", CODE]
    return subprocess.run(words, cwd=ROOT, env={**os.environ, **variables}, capture_output=True, timeout=60)


@pytest.mark.parametrize(
    "variables",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "latin-1"},
        {"PYTHONIOENCODING": "utf-8:strict"},
        {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"},
    ],
)
def test_what_cannot_be_encoded_is_replaced(variables: dict[str, str]) -> None:
    done = run(**variables)
    assert done.stdout.splitlines()[-1].startswith(b"the last line ")
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith(b"error: the reason ")
    assert done.stderr.count(b"\n") == 1


def test_without_stdout_the_error_is_told() -> None:
    done = run(closed=">&-")
    assert (done.returncode, done.stderr.count(b"\n")) == (2, 1), done.stderr
