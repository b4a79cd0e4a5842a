"""The embedded default: a drawn world of captioned scenes, deterministic and made in seconds, with nothing to download.

Two or three coloured, sized and textured shapes lie in one of six layouts before one of ten backdrops: more than
10 ** 9 scenes of which a data set holds a few thousand, each once. Five captions describe an image, four of which
leave something out. Backdrops and colours are easy to learn, shapes and textures harder, layouts hardest.
"""

import inspect
from collections.abc import Sequence

import numpy as np
from tqdm import tqdm

from engine.data.cache import cached_array
from engine.data.pairs import PairDataset, Size
from engine.data.shapes import drawing, scene, wording
from engine.io.files import digest
from engine.io.paths import Paths
from engine.rng import draw_seed, named_generator

CAPTIONS_PER_IMAGE = 5


def load(
    paths: Paths,
    *,
    image_px: int = 32,
    train_images: int = 4000,
    val_images: int = 500,
    test_images: int = 500,
    seed: int = 0,
) -> dict[str, PairDataset]:
    """Return train, val and test; no scene occurs twice, within a split or across splits.

    ``seed`` makes another world. Scenes do not depend on ``image_px``; a picture does only in its resolution.

    Raises:
        ValueError: an option is out of range.
    """
    sizes = {"train": train_images, "val": val_images, "test": test_images}
    for key, value in {"image_px": image_px, **{f"{split}_images": n for split, n in sizes.items()}}.items():
        least = 8 if key == "image_px" else 1
        if value < least:
            raise ValueError(f"data.{key}: expected at least {least}, got {value}.")
    scenes = split_scenes(sizes, seed=seed)
    return {split: _dataset(paths, split, chosen, image_px=image_px, seed=seed) for split, chosen in scenes.items()}


def sizes(
    paths: Paths,
    *,
    image_px: int = 32,
    train_images: int = 4000,
    val_images: int = 500,
    test_images: int = 500,
    seed: int = 0,
) -> dict[str, Size]:
    """Return the size of each split that ``load`` would return, drawing nothing."""
    images = {"train": train_images, "val": val_images, "test": test_images}
    return {split: Size(number, CAPTIONS_PER_IMAGE * number) for split, number in images.items()}


def split_scenes(sizes: dict[str, int], *, seed: int) -> dict[str, list[scene.Scene]]:
    """Return as many scenes for each split as asked for, all different.

    They are dealt from the last split to the first, so that val and test stay as they are when train grows.
    """
    scenes = iter(scene.distinct_scenes(sum(sizes.values()), _numpy_generator(seed, "shapes/scenes")))
    dealt = {split: [next(scenes) for _ in range(sizes[split])] for split in reversed(sizes)}
    return {split: dealt[split] for split in sizes}


def _dataset(paths: Paths, split: str, scenes: Sequence[scene.Scene], *, image_px: int, seed: int) -> PairDataset:
    rng = _numpy_generator(seed, f"shapes/{split}/captions")
    captions = [text for one in scenes for text in wording.captions_of(one, count=CAPTIONS_PER_IMAGE, rng=rng)]
    return PairDataset(
        images=_drawn(paths, scenes, image_px=image_px, name=f"{seed}/shapes/{split}/images"),
        image_names=tuple(f"{split}/{index:05d}" for index in range(len(scenes))),
        captions=tuple(captions),
        caption_image=np.repeat(np.arange(len(scenes), dtype=np.int64), CAPTIONS_PER_IMAGE),
    )


def _drawn(paths: Paths, scenes: Sequence[scene.Scene], *, image_px: int, name: str) -> np.ndarray:
    """Draw the scenes, each with random numbers of its own; keyed by them and by the text of the drawing code."""

    def fill(array: np.ndarray) -> None:
        for index, one in enumerate(tqdm(scenes, desc="drawing shapes", disable=None)):
            array[index] = drawing.draw(one, image_px=image_px, rng=_numpy_generator(index, name))

    source = inspect.getsource(drawing) + inspect.getsource(scene)
    key = digest("shapes/1", source, name, str(image_px), *map(repr, scenes))
    shape = (len(scenes), 3, image_px, image_px)
    return cached_array(paths.cache / "images", key, shape=shape, dtype=np.uint8, fill=fill)


def _numpy_generator(seed: int, name: str) -> np.random.Generator:
    return np.random.default_rng(draw_seed(named_generator(seed, name)))
