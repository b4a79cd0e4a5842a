"""Classes of images: the prompts that stand for each, and which images are of which."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from engine.io.files import digest


@dataclass(frozen=True)
class Classes:
    """Classes called ``name`` together; ``prompts`` of each, and the classes of each image by its name in the data.

    An image may be of several classes.
    """

    name: str
    prompts: Mapping[str, Sequence[str]]
    of_image: Mapping[str, Sequence[str]]

    @property
    def identity(self) -> str:
        """The digest of all of it, in any order of classes and of images."""
        return digest(json.dumps(asdict(self), sort_keys=True))

    def among(self, image_names: Sequence[str]) -> tuple[Int64[Tensor, " i"], Bool[Tensor, "i c"]]:
        """Return the places of the images that have a class, and which are of which class, in the order of prompts.

        Raises:
            ValueError: no image has a class.
        """
        rows = [row for row, name in enumerate(image_names) if self.of_image.get(name)]
        if not rows:
            given = next(iter(self.of_image), "nothing")
            raise ValueError(
                f"{self.name}: none of {len(image_names):,} images of test has a class; they have names like "
                f"{image_names[0]!r}, and the labels those like {given!r}."
            )
        belongs = [[one in self.of_image[image_names[row]] for one in self.prompts] for row in rows]
        return torch.tensor(rows), torch.tensor(belongs)

    def sentence(self, image_names: Sequence[str]) -> str:
        """Return in words how many images have a class, and what always naming the largest class would score."""
        found = [one for name in image_names for one in set(self.of_image.get(name, ()))]
        labelled = sum(bool(self.of_image.get(name)) for name in image_names)
        (largest, count), *_ = Counter(found).most_common(1)
        return (
            f"top-1 and top-5 are zero-shot accuracies of {labelled:,} of {len(image_names):,} test images over "
            f"{len(self.prompts)} classes ({self.name}); {largest!r} for every image would be right for "
            f"{100 * count / labelled:.1f} %"
        )
