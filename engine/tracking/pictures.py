"""Pictures of a synthetic set: its images before and after, and the real captions nearest to its texts."""

import textwrap
import unicodedata
import warnings
from collections.abc import Sequence
from functools import cache
from itertools import product
from pathlib import Path

import matplotlib
import numpy as np
import polars
from jaxtyping import Float, Shaped
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font
from torch import Tensor

from engine.io.files import atomic_path
from engine.io.progress import echo
from engine.synthetic.nearest import Prepare, words_of
from engine.synthetic.set import SyntheticSet

BEFORE_AFTER, CAPTIONS = "before_after.png", "captions.tsv"
"""The files of a set's pictures."""
SHOWN_PAIRS, PAIRS_PER_ROW = 12, 3
IMAGE, GAP, GUTTER, MARGIN, TITLE, LINE = 1.5, 0.08, 0.42, 0.18, 0.2, 0.135  # inches
CAPTION_CHARACTERS, CAPTION_LINES = 26, 4
SMALL_PX = 112
"""Below this height images are enlarged without smoothing, so that single pixels can be seen."""
FIRST = "DejaVu Sans"
"""The family of matplotlib itself, which has Latin, Greek, Cyrillic, Arabic and many symbols."""
_BOXES = "Last Resort"
"""How the name of a font begins that has a box for every character."""
_reported: list[str] = []


def write_set_pictures(
    folder: Path,
    before: SyntheticSet,
    after: SyntheticSet,
    *,
    captions: Sequence[str],
    texts: Shaped[np.ndarray, "m f"],
    prepare: Prepare | None = None,
) -> None:
    """Write ``before_after.png`` with the first pairs, and ``captions.tsv`` with the nearest caption of every text.

    The cells of the table are separated by tabs; one with a tab, a line break or a quotation mark stands in quotes.
    ``texts`` are the embeddings of ``captions`` before ``prepare``, which turns them into the student's input. A set
    that holds its captions keeps them.
    """
    first, now = (one.captions or words_of(one.texts, captions, texts, prepare=prepare) for one in (before, after))
    page = draw_pairs(before.images, after.images, first, now)
    with atomic_path(folder / BEFORE_AFTER) as temporary, warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph \d+", UserWarning)  # with_glyphs reports these
        FigureCanvasAgg(page).print_png(str(temporary))
    table = polars.DataFrame({"pair": range(len(first)), "nearest at the start": list(first), "nearest now": list(now)})
    with atomic_path(folder / CAPTIONS) as temporary:
        temporary.write_text(table.write_csv(separator="\t"), encoding="utf-8")


def draw_pairs(
    before: Float[Tensor, "n 3 h w"],
    after: Float[Tensor, "n 3 h w"],
    captions_before: Sequence[str],
    captions_after: Sequence[str],
) -> Figure:
    """Return a page of the first ``SHOWN_PAIRS`` pairs: start on the left, learned on the right, captions below.

    Pixels outside [0, 1] are clamped, and NaN is black. A caption is cut after ``CAPTION_LINES`` lines. It is in the
    fonts of this machine that have its characters; those in no font are boxes.
    """
    count = min(SHOWN_PAIRS, len(before))
    columns, rows = min(count, PAIRS_PER_ROW), -(-count // PAIRS_PER_ROW)
    pair_width, pair_height = 2 * IMAGE + GAP + GUTTER, IMAGE + (CAPTION_LINES + 1) * LINE
    width, height = 2 * MARGIN + columns * pair_width - GUTTER, 2 * MARGIN + TITLE + rows * pair_height
    sides = (("start", before, captions_before), ("learned", after, captions_after))
    families = with_glyphs("".join([*captions_before[:count], *captions_after[:count]]))
    with matplotlib.rc_context({"font.family": families, "text.parse_math": False}):
        figure = Figure(figsize=(width, height), dpi=150, facecolor="white")
        for pair, (side, (title, images, captions)) in product(range(count), enumerate(sides)):
            row, column = divmod(pair, columns)
            left = MARGIN + column * pair_width + side * (IMAGE + GAP)
            bottom = height - MARGIN - TITLE - row * pair_height - IMAGE
            axes = figure.add_axes((left / width, bottom / height, IMAGE / width, IMAGE / height))
            pixels = np.nan_to_num(images[pair].detach().float().cpu().numpy(), nan=0.0).clip(0.0, 1.0)
            axes.imshow(pixels.transpose(1, 2, 0), interpolation="nearest" if pixels.shape[1] < SMALL_PX else None)
            axes.set_axis_off()
            if row == 0:
                axes.set_title(title, loc="left", size=9, weight="bold", pad=4)
            axes.text(0, -0.03, _wrapped(captions[pair]), size=7, va="top", transform=axes.transAxes)
    return figure


def _wrapped(caption: str) -> str:
    """Return a caption in lines that fit below its image; East Asian characters are twice as wide as others."""
    shown = "".join(letter if letter.isprintable() else " " for letter in caption)
    wide = any(unicodedata.east_asian_width(letter) in "WF" for letter in shown)
    width = CAPTION_CHARACTERS // 2 if wide else CAPTION_CHARACTERS
    return "\n".join(textwrap.wrap(shown, width, max_lines=CAPTION_LINES, placeholder=" …"))


def with_glyphs(text: str) -> list[str]:
    """Return families of which each next one has characters of ``text`` that those before it lack, ``FIRST`` first.

    Once a process, one line at the terminal says which characters no font on this machine has.
    """
    families, missing = [FIRST], {letter for letter in text if letter.isprintable()} - _letters(FIRST)
    plain = {font.name for font in fontManager.ttflist if font.style == "normal" and font.weight in (400, "normal")}
    for family in sorted(plain) if missing else ():
        if not family.startswith(_BOXES) and (found := missing & _letters(family)):
            families.append(family)
            missing -= found
    if missing and not _reported:
        _reported.append("".join(sorted(missing)[:10]))
        echo(
            f"before_after.png: no font on this machine has {len(missing)} of the captions' characters (such as "
            f"{_reported[0]}), which are drawn as boxes; captions.tsv has them, and a font such as Noto Sans CJK would."
        )
    return families


@cache
def _letters(family: str) -> frozenset[str]:
    """Return the characters of the font that matplotlib draws a family in."""
    try:
        file = findfont(FontProperties(family=family), fallback_to_default=False)
        return frozenset(map(chr, get_font(file).get_charmap()))
    except (ValueError, OSError, RuntimeError):  # a font that was deleted, or cannot be drawn
        return frozenset()
