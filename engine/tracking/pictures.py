"""Pictures of a synthetic set: its images before and after, and the real captions nearest to its texts."""

import textwrap
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import matplotlib
import numpy as np
from jaxtyping import Float, Shaped
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from engine.io.files import atomic_path
from engine.synthetic.nearest import Prepare, nearest_captions
from engine.synthetic.set import SyntheticSet

SHOWN_PAIRS, PAIRS_PER_ROW = 12, 3
IMAGE, GAP, GUTTER, MARGIN, TITLE, LINE = 1.5, 0.08, 0.42, 0.18, 0.2, 0.135  # inches
CAPTION_CHARACTERS, CAPTION_LINES = 26, 4
SMALL_PX = 112
"""Below this height images are enlarged without smoothing, so that single pixels can be seen."""


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

    ``texts`` are the embeddings of ``captions`` before ``prepare``, which turns them into the student's input.
    """
    first, now = (
        [captions[index] for index in nearest_captions(synthetic.texts, texts, prepare=prepare).tolist()]
        for synthetic in (before, after)
    )
    page = draw_pairs(before.images, after.images, first, now)
    with atomic_path(folder / "before_after.png") as temporary:
        FigureCanvasAgg(page).print_png(str(temporary))
    lines = [f"{pair}\t{a}\t{b}" for pair, (a, b) in enumerate(zip(first, now, strict=True))]
    with atomic_path(folder / "captions.tsv") as temporary:
        temporary.write_text("\n".join(["pair\tnearest at the start\tnearest now", *lines]) + "\n", encoding="utf-8")


def draw_pairs(
    before: Float[Tensor, "n 3 h w"],
    after: Float[Tensor, "n 3 h w"],
    captions_before: Sequence[str],
    captions_after: Sequence[str],
) -> Figure:
    """Return a page of the first ``SHOWN_PAIRS`` pairs: start on the left, learned on the right, captions below.

    Pixels outside [0, 1] are clamped, and NaN is black. A caption is cut after ``CAPTION_LINES`` lines.
    """
    count = min(SHOWN_PAIRS, len(before))
    columns, rows = min(count, PAIRS_PER_ROW), -(-count // PAIRS_PER_ROW)
    pair_width, pair_height = 2 * IMAGE + GAP + GUTTER, IMAGE + (CAPTION_LINES + 1) * LINE
    width, height = 2 * MARGIN + columns * pair_width - GUTTER, 2 * MARGIN + TITLE + rows * pair_height
    sides = (("start", before, captions_before), ("learned", after, captions_after))
    with matplotlib.rc_context({"font.family": "DejaVu Sans", "text.parse_math": False}):
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
            wrapped = textwrap.wrap(captions[pair], CAPTION_CHARACTERS, max_lines=CAPTION_LINES, placeholder=" …")
            axes.text(0, -0.03, "\n".join(wrapped), size=7, va="top", transform=axes.transAxes)
    return figure
