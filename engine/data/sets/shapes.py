"""The built-in data set: drawn and captioned scenes, deterministic, made in seconds, nothing to download.

Two or three shapes of some colour, size and texture are arranged in one of six layouts in front of one of ten
backdrops: more than 10 ** 9 scenes, of which a data set holds a few thousand, each once. An image has five captions,
four of which omit something. Backdrops and colours are easy to learn, shapes and textures harder, layouts hardest.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Ge

from engine.data.cache import cached_array
from engine.data.classes import Classes
from engine.data.pairs import PairDataset, Size
from engine.io.files import digest
from engine.io.paths import Paths
from engine.io.progress import bar
from engine.provenance import source_digest
from engine.ranges import Count
from engine.rng import draw_seed, named_generator
from engine.shapes import classes, drawing, scene, wording

CAPTIONS_PER_IMAGE = 5


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """Drawn scenes; none occurs twice, within a split or across splits.

    Another ``seed`` draws other scenes. ``image_px`` changes the resolution of a picture, not the scene.
    """

    image_px: Annotated[int, Ge(8)] = 32
    train_images: Count = 4000
    val_images: Count = 500
    test_images: Count = 500
    seed: int = 0

    def load(self, paths: Paths) -> dict[str, PairDataset]:
        """Draw train, val and test, or read them from the cache."""
        datasets = {}
        for split, scenes in split_scenes(self._images, seed=self.seed).items():
            rng = _numpy_generator(self.seed, f"shapes/{split}/captions")
            captions = [text for one in scenes for text in wording.captions_of(one, count=CAPTIONS_PER_IMAGE, rng=rng)]
            datasets[split] = PairDataset(
                images=_drawn(paths, scenes, image_px=self.image_px, name=f"{self.seed}/shapes/{split}/images"),
                image_names=tuple(_name(split, index) for index in range(len(scenes))),
                captions=tuple(captions),
                caption_image=np.repeat(np.arange(len(scenes), dtype=np.int64), CAPTIONS_PER_IMAGE),
            )
        return datasets

    def sizes(self, paths: Paths) -> dict[str, Size]:
        """Return the size of each split without drawing an image."""
        return {split: Size(number, CAPTIONS_PER_IMAGE * number) for split, number in self._images.items()}

    def classes(self, attribute: str) -> Classes:
        """Return the classes of test by what its scenes show: ``backdrop``, ``shape`` or ``colour``.

        Raises:
            ValueError: the attribute is another one.
        """
        if attribute not in classes.PROMPTS:
            raise ValueError(
                f"--classes is {attribute!r}, expected {', '.join(classes.PROMPTS)} of shapes, or a YAML file."
            )
        test = enumerate(split_scenes(self._images, seed=self.seed)["test"])
        found = {_name("test", index): classes.classes_of(one, attribute) for index, one in test}
        return Classes(attribute, classes.PROMPTS[attribute], found)

    @property
    def _images(self) -> dict[str, int]:
        """The number of images of each split."""
        return {"train": self.train_images, "val": self.val_images, "test": self.test_images}


def _name(split: str, index: int) -> str:
    """Return the name of an image."""
    return f"{split}/{index:05d}"


def split_scenes(sizes: dict[str, int], *, seed: int) -> dict[str, list[scene.Scene]]:
    """Draw ``sizes[split]`` scenes for each split, all different.

    Splits are filled from the last to the first, so that val and test do not change when train grows.
    """
    rng, scenes = _numpy_generator(seed, "shapes/scenes"), dict[scene.Scene, None]()
    while len(scenes) < sum(sizes.values()):
        scenes[scene.draw_scene(rng)] = None
    rest = iter(scenes)
    dealt = {split: [next(rest) for _ in range(sizes[split])] for split in reversed(sizes)}
    return {split: dealt[split] for split in sizes}


def _drawn(paths: Paths, scenes: Sequence[scene.Scene], *, image_px: int, name: str) -> np.ndarray:
    """Draw scene ``i`` from the stream ``name`` of seed ``i``; the cache key holds the scenes and the drawing code."""

    def fill(array: np.ndarray) -> None:
        with bar("drawing shapes", total=len(scenes), unit="scenes") as progress:
            for index, one in enumerate(scenes):
                array[index] = drawing.draw(one, image_px=image_px, rng=_numpy_generator(index, name))
                progress.advance()

    source = source_digest("data/sets/shapes.py", "rng.py", "shapes/drawing.py", "shapes/scene.py")
    key = digest("shapes/1", source, name, str(image_px), *map(repr, scenes))
    shape = (len(scenes), 3, image_px, image_px)
    return cached_array(paths.cache / "images", key, shape=shape, dtype=np.uint8, fill=fill)


def _numpy_generator(seed: int, name: str) -> np.random.Generator:
    return np.random.default_rng(draw_seed(named_generator(seed, name)))
