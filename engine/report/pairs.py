"""Figures of a synthetic set: its pairs before and after, their difference, a time-lapse, and its similarity."""

from base64 import b64encode
from collections.abc import Sequence

import polars
import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from engine.initial_pairs import read_initial_pairs
from engine.io.storage import read_whole
from engine.report.figures import Drawing, PairView, counted, new_axes
from engine.report.study import Study
from engine.results.audit import Audit, Shown
from engine.synthetic.set import load_set
from engine.tracking.pictures import BEFORE_AFTER, CAPTIONS
from engine.tracking.time_lapse import animated, as_image, small_webp

SHOWN, PX = 12, 160
"""Pairs that are shown, and the largest width of their images in pixels."""
WEBP = "data:image/webp;base64,"
STARTED, LEARNED, DIFFERENCE = "start", "learned", "difference"


def pairs_figure(study: Study) -> Drawing | None:
    """Return the first pairs of a study's set at the start and as learned; None where either is not there."""
    best, file = study.best, study.set_file
    initial = study.folder / "initial" / best.history.initial if best and best.history.initial else None
    if best is None or file is None or initial is None or not initial.is_file():
        return None
    before, after = read_initial_pairs(initial)[0], load_set(file).images.detach()
    captions, table = (best.folder / name for name in (CAPTIONS, BEFORE_AFTER))
    said = polars.read_csv(read_whole(captions), separator="\t") if captions.is_file() else None
    gain, views = pair_views(before, after, said)
    nearest = "Below, the real captions whose embeddings are nearest (cosine) to the text of the pair."
    lines = [
        f"The first {len(views)} of {counted(len(after), 'pair')}: the image at the start, as learned, and their "
        f"difference (grey is none; multiplied by {gain:.2g}).",
        nearest if said is not None else "",
    ]
    page = (table.name, read_whole(table)) if table.is_file() else None
    return Drawing("pairs", " ".join(filter(None, lines)), pairs=views, file=page)


def pair_views(
    before: Float[Tensor, "n 3 h w"], after: Float[Tensor, "n 3 h w"], captions: polars.DataFrame | None
) -> tuple[float, list[PairView]]:
    """Return the factor of the differences, which stretches the largest to half the range, and the first pairs."""
    shown, was = after[:SHOWN].clamp(0, 1).nan_to_num(), before[:SHOWN].clamp(0, 1).nan_to_num()
    change = shown - was
    gain = min(0.5 / max(change.abs().max().item(), 1e-6), 100.0)
    sides = {STARTED: was, LEARNED: shown, DIFFERENCE: 0.5 + gain * change}
    views = []
    for pair in range(len(shown)):
        row = captions.row(pair) if captions is not None and pair < len(captions) else None
        said = {} if row is None else {STARTED: str(row[1]), LEARNED: str(row[2])}
        images = {side: WEBP + small_webp(as_image(values[pair]), px=PX, quality=85) for side, values in sides.items()}
        views.append(PairView(pair, images, {"unchanged": said[STARTED]} if len({*said.values()}) == 1 else said))
    return gain, views


def audit_figures(audit: Audit | None) -> list[Drawing]:
    """Return the images of a set beside their nearest photos, and test captions that are still found and lost."""
    if audit is None:
        return []
    caption = (
        f"The {len(audit.copies)} images that are nearest to a training image, and that image; two look alike where at "
        f"most {audit.nearest.alike} bits differ."
    )
    found = [Drawing("copies", caption, pairs=_views("", audit.copies))]
    if audit.recalls is None or not (audit.recalls.still or audit.recalls.gone):
        return found
    caption = (
        "Test captions with their photos, the clearest cases: those that students of the set and of all pairs find "
        "among the first ten, and those that only students of all pairs do."
    )
    views = [*_views("still found", audit.recalls.still), *_views("lost", audit.recalls.gone)]
    return [*found, Drawing("retrieval", caption, pairs=views)]


def _views(side: str, shown: Sequence[Shown]) -> list[PairView]:
    return [
        PairView(number, {name: WEBP + data for name, data in one.images.items()}, {side: one.text})
        for number, one in enumerate(shown)
    ]


def time_lapse_figure(study: Study) -> Drawing | None:
    """Return the animation of the best trial's set over outer steps; None with fewer than two frames."""
    best = study.best
    if best is None or len(best.frames) < 2:
        return None
    steps, files = zip(*best.frames, strict=True)
    page = animated(files)
    caption = (
        f"Time-lapse of the first images of {best.name} over outer steps {steps[0]} to {steps[-1]}, "
        f"{len(files)} frames at its validations."
    )
    return Drawing("time-lapse", caption, image=WEBP + b64encode(page).decode(), file=("time-lapse.webp", page))


def draw_similarity(matrix: Float[Tensor, "n n"]) -> tuple[str, Figure]:
    """Return caption and heat map of how far the similarity of each image with each text is from the identity.

    White is 0.
    """
    figure, axes = new_axes(height=4.2)
    values = (matrix - torch.eye(len(matrix))).numpy()
    limit = float(abs(values).max()) or 1.0
    drawn = axes.imshow(values, cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")
    axes.grid(visible=False)
    axes.set_xlabel("text of pair")
    axes.set_ylabel("image of pair")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(integer=True))
    figure.colorbar(drawn, ax=axes, label="target similarity - identity", shrink=0.85)
    rest = matrix[~torch.eye(len(matrix), dtype=torch.bool)]
    off = f"; off it from {rest.min():.3f} to {rest.max():.3f}" if len(rest) else ""
    caption = (
        f"Learned target similarity of {len(matrix)} images and texts, less the identity, which it was at the start. "
        f"The similarity on the diagonal is {matrix.diagonal().mean():.3f} in the mean{off}."
    )
    return caption, figure
