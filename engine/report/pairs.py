"""Figures of a synthetic set: its pairs before and after, their difference, a time-lapse, and its similarity."""

import io

import polars
import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image
from torch import Tensor

from engine.initial_pairs import read_initial_pairs
from engine.io.storage import read_whole
from engine.report.figures import Drawing, PairView, counted, data_uri, new_axes
from engine.report.study import Study
from engine.results.audit import Audit, Recalls, Shown
from engine.synthetic.set import SyntheticSet, load_set
from engine.tracking.pictures import BEFORE_AFTER, CAPTIONS
from engine.tracking.time_lapse import animated, as_image

SHOWN, PX = 12, 160
"""Pairs that are shown, and the largest width of their images in pixels."""
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
        images = {side: data_uri(_webp(as_image(values[pair])), "webp") for side, values in sides.items()}
        views.append(PairView(pair, images, {"unchanged": said[STARTED]} if len({*said.values()}) == 1 else said))
    return gain, views


def copies_figure(audit: Audit) -> Drawing:
    """Return the images of a set that are nearest to a training image, beside it."""
    caption = (
        f"The {len(audit.copies)} images that are nearest to a training image, and that image; two look alike where at "
        f"most {audit.nearest.alike} bits differ."
    )
    return Drawing("copies", caption, pairs=[_view(number, one) for number, one in enumerate(audit.copies)])


def retrieval_figure(recalls: Recalls) -> Drawing:
    """Return test captions with their photos that students of the set still find, and that they lost."""
    sides = {"still found": recalls.still, "lost": recalls.gone}
    views = [_view(number, one, side) for side, shown in sides.items() for number, one in enumerate(shown)]
    caption = (
        "Test captions with their photos, the clearest cases: those that students of the set and of all pairs find "
        "among the first ten, and those that only students of all pairs do."
    )
    return Drawing("retrieval", caption, pairs=views)


def _view(number: int, one: Shown, side: str = "") -> PairView:
    images = {name: f"data:image/webp;base64,{data}" for name, data in one.images.items()}
    return PairView(number, images, {side: one.text})


def _webp(image: Image.Image) -> bytes:
    """Return an image as WebP, without loss where it is small enough for its pixels to be seen."""
    small = image.width < PX
    image.thumbnail((PX, PX))
    target = io.BytesIO()
    image.save(target, "WEBP", lossless=small, quality=85)
    return target.getvalue()


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
    return Drawing("time-lapse", caption, image=data_uri(page, "webp"), file=("time-lapse.webp", page))


def draw_similarity(matrix: Float[Tensor, "n n"]) -> Figure:
    """Return how far the similarity of every image with every text is from the identity, as a heat map; white is 0."""
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
    return figure


def similarity_caption(matrix: Float[Tensor, "n n"]) -> str:
    """Return the caption of a similarity, with the means on and off its diagonal."""
    own = matrix.diagonal()
    rest = matrix[~torch.eye(len(matrix), dtype=torch.bool)]
    off = f"; off it from {rest.min():.3f} to {rest.max():.3f}" if len(rest) else ""
    return (
        f"Learned target similarity of {len(matrix)} images and texts, less the identity, which it was at the start. "
        f"The similarity on the diagonal is {own.mean():.3f} in the mean{off}."
    )


def set_of(study: Study) -> SyntheticSet | None:
    """Return the set of a study, or the best so far; None where there is none yet."""
    file = study.set_file
    return None if file is None else load_set(file)
