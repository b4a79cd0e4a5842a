"""Figures of a report: their captions, and drawings as SVG whose text and lines take the colour of the page."""

import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

INK = "#010203"
"""The colour of text and lines, which the page replaces by its own."""
COLOURS = ("#3b82c4", "#dd7a2f", "#2f9e6e", "#c4539a", "#a98f1d", "#7b6fd0", "#c0504d", "#4aa3b5")
"""Colours of series, which can be told apart on white and on black; markers tell them apart without colour."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
STYLE: Mapping[str, Any] = {
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
    **dict.fromkeys(("axes.spines.top", "axes.spines.right", "legend.frameon", "text.parse_math"), False),
    **dict.fromkeys(("figure.facecolor", "axes.facecolor"), "none"),
    "font.size": 10, "axes.titlesize": 10, "axes.labelsize": 10, "legend.fontsize": 9,
    "xtick.labelsize": 9, "ytick.labelsize": 9,
    "axes.grid": True, "grid.color": INK, "grid.alpha": 0.12, "grid.linewidth": 0.6, "axes.axisbelow": True,
    "lines.linewidth": 1.6, "lines.markersize": 5, "svg.fonttype": "none", "figure.constrained_layout.use": True,
}  # fmt: skip
WIDTH, HEIGHT = 5.2, 3.4  # inches; a column of the page


@dataclass(frozen=True)
class PairView:
    """One pair before and after: images as data URIs, and the nearest real captions."""

    number: int
    images: Mapping[str, str]
    captions: Mapping[str, str]


@dataclass(frozen=True)
class Drawing:
    """A figure of a report: a drawing as ``svg``, an ``image`` as data URI, or ``pairs``; ``file`` is it on a disk."""

    name: str
    caption: str
    svg: str = ""
    image: str = ""
    pairs: Sequence[PairView] = ()
    file: tuple[str, bytes] | None = field(default=None, repr=False)


def styled() -> Any:
    """Return the context in which figures are drawn and turned into SVG."""
    return rc_context(dict(STYLE))


def new_axes(*, height: float = HEIGHT) -> tuple[Figure, Axes]:
    """Return an empty figure of one plot, ``WIDTH`` by ``height`` inches."""
    figure = Figure(figsize=(WIDTH, height))
    return figure, figure.add_subplot()


def drawing(name: str, caption: str, figure: Figure) -> Drawing:
    """Return a figure as an SVG element without outside addresses, and as a file that can be opened alone."""
    target = io.StringIO()
    with rc_context({**STYLE, "svg.hashsalt": name}):
        FigureCanvasSVG(figure).print_svg(target, metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", target.getvalue(), flags=re.DOTALL)
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r' (?:xmlns(?::\w+)?|version)="[^"]*"', "", svg, count=4).replace("xlink:href", "href")
    svg = re.sub(r'<svg [^>]*?viewBox="([^"]*)"[^>]*>', r'<svg viewBox="\1" role="img">', svg, count=1)
    svg = prefixed(svg, name)
    svg = re.sub(r"font: ((?:bold |italic )?[\d.]+px) [^;\"]*", r"font: \1 sans-serif", svg)
    svg = svg.replace(INK, "currentColor")
    alone = svg.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" style="background:white;color:black" ', 1)
    return Drawing(name, caption, svg=svg, file=(f"{name}.svg", alone.encode()))


def prefixed(svg: str, prefix: str) -> str:
    """Return an SVG element whose ids begin with ``prefix``, since ids of a page have to be different."""
    return re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{prefix}-", svg)


def log_ticks(low: float, high: float) -> list[float]:
    """Return about three to six round numbers (1, 2 or 5 times a power of ten) that cover ``low`` to ``high``."""
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in ((1,), (1, 3), (1, 2, 5), tuple(range(1, 10))):
        ticks = [digit * 10.0**exponent for exponent in exponents for digit in digits]
        inside = [tick for tick in ticks if low <= tick <= high]
        if len(inside) >= 3:
            return inside[:: -(-len(inside) // 6)]
    return [low, high] if low < high else [low]


def set_log_axis(axis: Any, ticks: Sequence[float], spell: Any) -> None:
    """Make an axis logarithmic, with ``ticks`` that ``spell`` turns into text."""
    axis._set_axes_scale("log")
    axis.set_ticks(ticks, [spell(tick) for tick in ticks])
    axis.set_ticks([], minor=True)


def put_legend_above(axes: Axes) -> None:
    """Add a legend of three columns above a plot."""
    axes.legend(ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0), columnspacing=1.2, handletextpad=0.4)


def counted(number: int, thing: str) -> str:
    """Return a number with its noun."""
    return f"{number:,} {thing}" + ("" if number == 1 else "s")
