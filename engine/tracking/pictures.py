"""Pictures of a run: synthetic images before and after, curves, bars."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from engine.io.files import atomic_path

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F3C8D", "#555555")
INK, FAINT = "#222222", "#8A8A8A"
STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
DPI = 150
PAIRS_PER_ROW = 3
CELL, GAP, GUTTER, MARGIN = 1.5, 0.08, 0.42, 0.18
CAPTION_POINTS, CAPTION_CHARACTERS, CAPTION_LINES, LINE_HEIGHT = 7.0, 26, 4, 0.135
TITLE_HEIGHT = 0.3
SMALL_PX = 112


def before_after(
    path: Path,
    before: Float[Tensor, "n 3 h w"],
    after: Float[Tensor, "n 3 h w"],
    captions_before: Sequence[str],
    captions_after: Sequence[str],
    *,
    limit: int = 12,
) -> None:
    """Write a PNG with the first ``limit`` pairs: the real start on the left, what was learned on the right.

    Below each stands its (nearest) caption. Pixels outside [0, 1] are clamped; small images are enlarged unsmoothed.
    """
    count = min(limit, len(before), len(after), len(captions_before), len(captions_after))
    assert count > 0, "nothing to show"
    lines = _caption_lines([*captions_before[:count], *captions_after[:count]])
    grid = _Grid(count, caption_height=lines * LINE_HEIGHT + 0.12)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(grid.width, grid.height), dpi=DPI, facecolor="white")
        for number in range(count):
            _show(figure, grid, number, 0, _pixels(before[number]), captions_before[number])
            _show(figure, grid, number, 1, _pixels(after[number]), captions_after[number])
        _save(figure, path)


class _Grid:
    """Places of image pairs on a page, in inches from its upper left corner."""

    def __init__(self, count: int, *, caption_height: float) -> None:
        self.columns = min(count, PAIRS_PER_ROW)
        rows = -(-count // self.columns)
        self.pair = 2 * CELL + GAP
        self.row = CELL + caption_height
        self.width = 2 * MARGIN + self.columns * self.pair + (self.columns - 1) * GUTTER
        self.height = MARGIN + TITLE_HEIGHT + rows * self.row

    def left_top(self, number: int, side: int) -> tuple[float, float]:
        row, column = divmod(number, self.columns)
        return MARGIN + column * (self.pair + GUTTER) + side * (CELL + GAP), TITLE_HEIGHT + MARGIN / 2 + row * self.row


def _show(figure: Figure, grid: _Grid, number: int, side: int, pixels: np.ndarray, caption: str) -> None:
    left, top = grid.left_top(number, side)
    box = (left / grid.width, 1 - (top + CELL) / grid.height, CELL / grid.width, CELL / grid.height)
    axes = figure.add_axes(box)
    axes.imshow(pixels, interpolation="nearest" if pixels.shape[0] < SMALL_PX else "antialiased")
    axes.set_axis_off()
    if number < grid.columns:
        _write(figure, grid, left, top - 0.22, ("start", "learned")[side], size=9, weight="bold")
    _write(figure, grid, left, top + CELL + 0.05, _wrapped(caption), size=CAPTION_POINTS)


def _write(
    figure: Figure, grid: _Grid, left: float, top: float, text: str, *, size: float, weight: str = "normal"
) -> None:
    figure.text(
        left / grid.width,
        1 - top / grid.height,
        text,
        size=size,
        weight=weight,
        ha="left",
        va="top",
        linespacing=1.15,
        parse_math=False,
    )


def _pixels(image: Float[Tensor, "3 h w"]) -> np.ndarray:
    pixels = np.nan_to_num(image.detach().float().cpu().numpy(), nan=0.0)
    return np.clip(pixels, 0.0, 1.0).transpose(1, 2, 0)


def _wrapped(caption: str) -> str:
    return "\n".join(
        textwrap.wrap(caption.strip(), CAPTION_CHARACTERS, max_lines=CAPTION_LINES, placeholder=" …") or [""]
    )


def _caption_lines(captions: Sequence[str]) -> int:
    return max(_wrapped(caption).count("\n") + 1 for caption in captions)


def curves(
    path: Path, series: Mapping[str, Sequence[tuple[int, float]]], ylabel: str, *, xlabel: str = "outer step"
) -> None:
    """Write a PNG with one line a series of (step, value); points that are not finite leave a gap."""
    assert any(series.values()), "nothing to show"
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 3.8), dpi=DPI, facecolor="white", layout="constrained")
        axes = figure.add_subplot()
        for number, (name, points) in enumerate(series.items()):
            _line(axes, name, sorted(points), number)
        axes.set_xlabel(xlabel)
        axes.set_ylabel(ylabel)
        axes.grid(axis="y", color="#E6E6E6", linewidth=0.8)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=8, steps=[1, 2, 5, 10], integer=True))
        if len(series) > 1:
            figure.legend(loc="outside right upper", frameon=False, fontsize=8)
        _save(figure, path)


def _line(axes: Axes, name: str, points: Sequence[tuple[int, float]], number: int) -> None:
    steps, values = [step for step, _ in points], [value for _, value in points]
    marker = "o" if len(points) <= 20 else ""
    dash = ("-", "--", ":")[number // len(COLOURS) % 3]
    colour = COLOURS[number % len(COLOURS)]
    label = textwrap.shorten(name, 28, placeholder="…").replace("$", r"\$")
    axes.plot(steps, values, dash, marker=marker, markersize=3.5, linewidth=1.6, color=colour, label=label)


def bars(path: Path, values: Mapping[str, tuple[float, float | None]], xlabel: str) -> None:
    """Write a PNG with one horizontal bar a name: a mean and, as a whisker, its standard deviation or None."""
    assert values, "nothing to show"
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 0.7 + 0.34 * len(values)), dpi=DPI, facecolor="white", layout="constrained")
        axes = figure.add_subplot()
        means = [mean for mean, _ in values.values()]
        spreads = [spread or 0.0 for _, spread in values.values()]
        axes.barh(range(len(values)), means, height=0.66, color=COLOURS[0])
        known = [(mean, place, spread) for place, (mean, spread) in enumerate(values.values()) if spread is not None]
        for mean, place, spread in known:
            axes.errorbar(mean, place, xerr=spread, color=INK, elinewidth=1.2, capsize=2)
        reach = max(mean + spread for mean, spread in zip(means, spreads, strict=True))
        for place, (mean, spread) in enumerate(zip(means, spreads, strict=True)):
            axes.text(mean + spread + 0.015 * reach, place, f"{mean:.1f}", va="center", size=8)
        names = [textwrap.shorten(name, 34, placeholder="…") for name in values]
        axes.set_yticks(range(len(values)), names, parse_math=False)
        axes.invert_yaxis()
        axes.set_xlabel(xlabel)
        axes.margins(x=0.1)
        _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    with atomic_path(path) as temporary:
        FigureCanvasAgg(figure).print_png(str(temporary))
