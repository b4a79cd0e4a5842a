"""A synthetic set as people look at it: its images before and after, and the real captions nearest to its texts."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from engine.io.files import atomic_path
from engine.synthetic.nearest import Prepare, nearest_captions
from engine.synthetic.set import SyntheticSet
from engine.tracking.pictures import before_after


def write_set_pictures(
    folder: Path,
    before: SyntheticSet,
    after: SyntheticSet,
    *,
    captions: Sequence[str],
    texts: Shaped[np.ndarray, "m f"],
    prepare: Prepare | None = None,
) -> None:
    """Write ``before_after.png``, and ``captions.tsv`` with the captions nearest to each text at the start and now.

    ``texts`` are the captions as the student takes them, before ``prepare``.
    """
    first, now = (
        [captions[index] for index in nearest_captions(synthetic.texts, texts, prepare=prepare).tolist()]
        for synthetic in (before, after)
    )
    before_after(folder / "before_after.png", before.images.detach(), after.images.detach(), first, now)
    lines = [f"{pair}\t{a}\t{b}" for pair, (a, b) in enumerate(zip(first, now, strict=True))]
    with atomic_path(folder / "captions.tsv") as temporary:
        temporary.write_text("\n".join(["pair\tnearest at the start\tnearest now", *lines]) + "\n", encoding="utf-8")
