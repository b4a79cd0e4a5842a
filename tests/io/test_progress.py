"""What is drawn on a terminal, and that a pipe gets lines alone."""

import os
import pty
import re
import subprocess
import sys
import termios
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from engine.io import progress
from engine.io.progress import Bar

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


SLOW = """
import time
from engine.io.progress import bar
with bar("working", total=4, unit="sets") as progress:
    for _ in range(4):
        time.sleep(0.5)
        progress.advance()
with bar("too short", total=1):
    pass
"""


def in_a_pipe(code: str, seconds: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"VLDD_PROGRESS_S": seconds}
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)


def test_a_pipe_gets_a_line_now_and_then_of_what_takes_long() -> None:
    done = in_a_pipe(SLOW, "0.6")
    assert done.returncode == 0, done.stderr
    *between, last = done.stderr.splitlines()
    assert between
    assert all(re.fullmatch(r"working: [1-4]/4 sets after 0:00:0\d(, .*/s, 0:00:0\d left)?", line) for line in between)
    assert re.fullmatch(r"working: 4/4 sets after 0:00:0\d", last)
    assert in_a_pipe(SLOW, "100").stderr == ""


@pytest.mark.parametrize("given", ["often", "0", "-1", "nan"])
def test_seconds_between_lines_are_a_number_above_zero(given: str) -> None:
    last = in_a_pipe(SLOW, given).stderr.splitlines()[-1]
    assert (
        last
        == f"ValueError: VLDD_PROGRESS_S is {given!r}, expected the seconds between two lines of progress, above 0."
    )


class Clock:
    """A time that tests let pass."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now

    def move(self, bar: Bar, done: float, *, after: float) -> None:
        self.now += after
        bar.move(done)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def drawn(bar: Bar, *, width: int = 80) -> str:
    console = Console(width=width, file=StringIO(), color_system=None)
    console.print(bar)
    return console.file.getvalue().rstrip()


def test_a_bar_of_long_parts_shows_its_rate_and_counts_down_between_them(clock: Clock) -> None:
    bar = Bar("preparing captions of train", total=30_000, unit="rows")
    assert "left" not in drawn(bar)
    clock.move(bar, 5_000, after=100)
    assert drawn(bar).endswith("50/s, 0:08:20 left")
    clock.now += 60
    assert drawn(bar).endswith("50/s, 0:07:20 left"), "as fast as before, while the next part is computed"
    clock.move(bar, 10_000, after=140)
    assert drawn(bar).endswith("33/s, 0:10:00 left"), "the mean of all parts"
    assert "10,000/30,000 rows" in drawn(bar)
    clock.now += 10**6
    assert drawn(bar).endswith("0:00:00 left")
    bar.move(30_000)
    assert "left" not in drawn(bar)


@pytest.mark.parametrize(("seconds", "shown"), [(0.05, "20/s"), (0.4, "2.5/s"), (2, "30/min"), (90, "40/h")])
def test_a_rate_is_a_number_above_one(seconds: float, shown: str, clock: Clock) -> None:
    bar = Bar("scoring", total=1000)
    clock.move(bar, 100, after=100 * seconds)
    assert f" {shown}, " in drawn(bar)


def test_what_was_done_before_has_no_part_in_the_rate(clock: Clock) -> None:
    bar = Bar("training 4 experts", total=40, unit="epochs")
    clock.now += 30  # a process starts
    bar.begin(20)
    clock.move(bar, 22, after=20)
    assert drawn(bar).endswith("6.0/min, 0:03:00 left")
    bar = Bar("scoring", total=10, unit="sets")
    clock.move(bar, 7, after=0.2)  # scores that are kept
    clock.move(bar, 8, after=60)
    assert drawn(bar).endswith("1.0/min, 0:02:00 left")
