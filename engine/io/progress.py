"""Progress bars and other drawings below the printed lines, on a terminal only."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text


class Bar:
    """How far one piece of work is, as a line with a bar and the time that is left."""

    def __init__(self, label: str, *, total: float, unit: str = "", done: float = 0) -> None:
        texts = [TextColumn("{task." + name + "}", markup=False) for name in ("description", "fields[count]")]
        columns = texts[0], BarColumn(), texts[1], TimeElapsedColumn(), TimeRemainingColumn()
        self._total, self._unit = total, unit
        self._progress = Progress(*columns, console=console())
        self._task = self._progress.add_task(label, total=total, count="")
        self.move(done)

    def advance(self, amount: float = 1) -> None:
        """Add to what is done."""
        self.move(self.done + amount)

    def move(self, done: float) -> None:
        """Set what is done."""
        self.done = done
        count = f"{done:,.10g}/{self._total:,.10g} {self._unit}".rstrip()
        self._progress.update(self._task, completed=done, count=count)

    def __rich__(self) -> RenderableType:
        return self._progress.get_renderable()


@contextmanager
def bar(label: str, *, total: float, unit: str = "", done: float = 0, stays: bool = True) -> Iterator[Bar]:
    """Show a bar while the block runs, and afterwards where it ``stays``."""
    shown = Bar(label, total=total, unit=unit, done=done)
    with live(lambda: shown, stays=stays):
        yield shown


@contextmanager
def live(drawn: Callable[[], RenderableType], *, stays: bool = True) -> Iterator[None]:
    """Draw what a function returns four times a second while the block runs; what is printed appears above it.

    A pipe or a file, in place of a terminal on stderr, gets nothing.
    """
    if not sys.stderr.isatty():
        yield
        return
    on_terminal = sys.stdout.isatty()
    shown = Live(get_renderable=drawn, console=console(), transient=not stays, redirect_stdout=on_terminal)
    with shown:
        yield


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
