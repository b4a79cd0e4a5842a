"""Progress bars and other drawings below the printed lines on a terminal, and a line a minute elsewhere."""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from datetime import timedelta
from functools import cache

from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

EARLY_S = 1.0
"""Progress this soon after the beginning was made by earlier commands (kept scores), and has no part in the rate."""
PLAIN = "VLDD_PROGRESS_S"
PLAIN_S = 60.0
"""Seconds between two lines of what takes long, where there is no terminal to draw on; the variable has others."""
_LISTENER: ContextVar[Callable[[int], object] | None] = ContextVar("listener", default=None)


class Bar:
    """How far one piece of work is, as a line with a bar, the rate and the time that is left."""

    def __init__(self, label: str, *, total: float, unit: str = "", done: float = 0) -> None:
        self._label, self._total, self._unit, self._shown = label, total, unit, time.monotonic()
        described, count, pace = (
            TextColumn("{task." + name + "}", markup=False) for name in ("description", "fields[count]", "fields[pace]")
        )
        self.done = total
        beside = len(" ".join([label, self._count(), "0:00:00", "100/min, 10:00:00 left", ""]))
        drawn = BarColumn(bar_width=min(max(console().width - beside, 4), 40))
        self._progress = Progress(described, drawn, count, TimeElapsedColumn(), pace, console=console())
        self._task = self._progress.add_task(label, total=total, count="", pace="")
        self.begin(done)

    def begin(self, done: float) -> None:
        """Set what was done before, which has no part in the rate."""
        self._began = time.monotonic()
        self._from = self._last = (self._began, done)
        self.move(done)

    def advance(self, amount: float = 1) -> None:
        """Add to what is done."""
        self.move(self.done + amount)

    def move(self, done: float) -> None:
        """Set what is done."""
        self.done, now = done, time.monotonic()
        if now - self._began < EARLY_S:
            self._from = self._last = (now, done)
        elif done != self._last[1]:
            self._last = (now, done)
        self._progress.update(self._task, completed=done, count=self._count())

    def line(self) -> str:
        """Return how far the work is as a sentence, for a file."""
        elapsed = timedelta(seconds=round(time.monotonic() - self._shown))
        return ", ".join(filter(None, [f"{self._label}: {self._count()} after {elapsed}", self._pace()]))

    def _count(self) -> str:
        return f"{self.done:,.10g}/{self._total:,.10g} {self._unit}".rstrip()

    def _pace(self) -> str:
        """Return the mean rate and the time that is left, or nothing where these are not known yet or no more of use.

        The rate is that between moves, so that it does not fall while a long part is computed.
        """
        (started, before), (moved, done) = self._from, self._last
        if done <= before or done >= self._total:
            return ""
        rate = (done - before) / (moved - started)
        left = max((self._total - done) / rate - (time.monotonic() - moved), 0)
        return f"{_per_time(rate)}, {timedelta(seconds=round(left))} left"

    def __rich__(self) -> RenderableType:
        self._progress.update(self._task, pace=self._pace())
        return self._progress.get_renderable()


def _per_time(rate: float) -> str:
    """Return a number a second as text: a second, or a minute or an hour where it would be less than one."""
    times = (1, "s"), (60, "min"), (3600, "h")
    many, name = next(((many, name) for many, name in times if rate * many >= 1), times[-1])
    value = rate * many
    return f"{value:,.{0 if value >= 10 else 1}f}/{name}"


@contextmanager
def bar(label: str, *, total: float, unit: str = "", done: float = 0, stays: bool = True) -> Iterator[Bar]:
    """Show a bar while the block runs, and afterwards where it ``stays``."""
    shown = Bar(label, total=total, unit=unit, done=done)
    with live(lambda: shown, shown.line, stays=stays):
        yield shown


@contextmanager
def live(drawn: Callable[[], RenderableType], line: Callable[[], str], *, stays: bool = True) -> Iterator[None]:
    """Draw what ``drawn`` returns four times a second while the block runs; what is printed appears above it.

    A pipe or a file, in place of a terminal on stderr, gets ``line`` once a minute, and at the end of what took longer.

    Raises:
        ValueError: the seconds that the environment gives for a minute are no number above 0.
    """
    if not sys.stderr.isatty():
        with _plain(line, _seconds()):
            yield
        return
    on_terminal = sys.stdout.isatty()
    shown = Live(get_renderable=drawn, console=console(), transient=not stays, redirect_stdout=on_terminal)
    with shown:
        yield


@contextmanager
def _plain(line: Callable[[], str], seconds: float) -> Iterator[None]:
    """Write a line to stderr every so many seconds while the block runs, and at its end if there was one before."""
    ended, began = threading.Event(), time.monotonic()

    def write() -> None:
        with suppress(OSError):  # a full disk, or a reader that is gone
            sys.stderr.write(f"{line()}\n")
            sys.stderr.flush()

    def each_minute() -> None:
        while not ended.wait(seconds):
            write()

    thread = threading.Thread(target=each_minute, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        if time.monotonic() - began >= seconds:
            write()


def _seconds() -> float:
    """Return the seconds between two lines in a file."""
    given = os.environ.get(PLAIN, "")
    with suppress(ValueError):
        found = float(given) if given else PLAIN_S
        if 0 < found <= threading.TIMEOUT_MAX:
            return found
    raise ValueError(f"{PLAIN} is {given!r}, expected the seconds between two lines of progress, above 0.")


@contextmanager
def heard(listener: Callable[[int], object]) -> Iterator[None]:
    """Call ``listener`` with every number of ``tell`` while the block runs, in this thread."""
    token = _LISTENER.set(listener)
    try:
        yield
    finally:
        _LISTENER.reset(token)


def tell(items: int) -> None:
    """Say that more items of a long computation are done: to the bar that shows it, if there is one."""
    if (listener := _LISTENER.get()) is not None:
        listener(items)


def echo(sentence: str) -> None:
    """Print a line, above what is drawn, and not broken at the width of the terminal."""
    proxied = getattr(sys.stdout, "rich_proxied_file", None)
    if proxied is None:
        sys.stdout.write(f"{sentence}\n")
    else:
        console().print(Text(sentence), soft_wrap=True)


@cache
def console() -> Console:
    """Return the console of stderr, which all drawings share."""
    return Console(stderr=True)
