"""What is drawn on a terminal, and that a pipe gets lines alone."""

import os
import pty
import subprocess
import sys
import termios
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LONG = "a/" * 100
CODE = f"""if True:
    import sys
    from engine.io.progress import bar, echo
    with bar("working", total=3, unit="[sets]") as progress:
        progress.advance()
        echo("above [bold] {LONG}")
        print("warned", file=sys.stderr)
        progress.advance(2)
    with bar("gone", total=1, stays=False):
        pass
    echo("last")
"""


def on_terminal(**streams: int) -> str:
    """Run the code with streams on a terminal of 80 columns, and return what that shows as it is sent."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "80"}
    given = {name: theirs if stream else subprocess.DEVNULL for name, stream in streams.items()}
    process = subprocess.Popen([sys.executable, "-c", CODE], cwd=ROOT, env=environment, **given)
    os.close(theirs)
    found = b""
    while chunk := _read(ours):
        found += chunk
    os.close(ours)
    assert process.wait(60) == 0
    return found.decode()


def _read(stream: int) -> bytes:
    try:
        return os.read(stream, 4096)
    except OSError:  # how Linux says that nobody writes any more
        return b""


def test_lines_appear_whole_above_a_bar_that_stays() -> None:
    shown = on_terminal(stdout=1, stderr=1)
    assert f"above [bold] {LONG}\r\n" in shown
    assert "warned" in shown
    assert "1/3 [sets]" in shown
    end = shown[shown.rindex("working") :]
    assert "3/3 [sets]" in end
    assert "last" in end
    assert shown.endswith("last\r\n")


def test_a_bar_on_stderr_leaves_another_stdout_alone() -> None:
    shown = on_terminal(stdout=0, stderr=1)
    assert "3/3 [sets]" in shown
    assert "above" not in shown


def test_a_pipe_gets_lines_alone() -> None:
    environment = os.environ | {"FORCE_COLOR": "1"}
    done = subprocess.run([sys.executable, "-c", CODE], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == (f"above [bold] {LONG}\nlast\n", "warned\n")
