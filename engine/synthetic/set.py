"""The synthetic set: learned images, text embeddings and learning rates of the student, and its file."""

import copy
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar, cast

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from engine.io.files import atomic_path
from engine.io.sentences import shown
from engine.io.storage import Location, as_file, location
from engine.losses.contrastive import LossName
from engine.synthetic.described import (
    check_students,
    check_version,
    checked_loss,
    checked_metadata,
    checked_text_of,
    checked_tiles,
)
from engine.synthetic.similarity import Identity, similarity_of
from engine.synthetic.tiles import check_tiles
from engine.tensors import MODALITIES, Modality, check_finite, finite_tensor

FORMAT_VERSION = 1
_SIMILARITY = "similarity."
"""How the names of the tensors of a similarity begin in the file."""
_STUDENT = re.compile(r"students\.(\d+)\.")
"""How the names of the learning rates of a further student begin in the file."""
_SPACE = re.compile(r"spaces\.(\d+)$")
"""The names of the texts for the text encoders of further students in the file."""
_LARGEST_LOG = 690
"""The exponential function of this number, and of its negative, is finite and above 0."""


class SyntheticSet(nn.Module):
    """``n`` images and ``n`` texts; row i of each side belongs together, or as ``similarity`` says.

    ``images`` are RGB pixels nominally in [0, 1], not clamped. ``texts`` live in the embedding space of one text
    encoder, or are token embeddings with their mask as the last channel, [n, tokens, d + 1], where it is trained.
    ``similarity()`` is the target of image i and text j, None for the identity, and ``loss`` the loss that students of
    the set are trained with. ``log_rates`` are the natural logarithms of the student's learning rates, one per
    modality, so that these stay positive; ``students`` has those of each further student that the set is learned for.
    ``spaces`` are the pairs' texts for other text encoders, and ``text_of`` says which texts each further student
    reads: 0 for ``texts``, k for the k-th of ``spaces``. ``captions`` are the real captions nearest to the texts; None
    where they were not looked up. With ``tiles`` above 1 each image is a mosaic of that many tiles a side, of which a
    student sees one at a time, enlarged. ``metadata`` holds plain JSON values (the sections of the study, seed).
    """

    similarity: nn.Module

    def __init__(
        self,
        images: Float[Tensor, "n 3 h w"],
        texts: Float[Tensor, "n *d"],
        learning_rates: Mapping[Modality, float],
        metadata: Mapping[str, Any] | None = None,
        *,
        similarity: nn.Module | None = None,
        loss: LossName = "info_nce",
        captions: Sequence[str] | None = None,
        tiles: int = 1,
    ) -> None:
        super().__init__()
        if len(images) != len(texts):
            raise ValueError(f"a synthetic set needs as many texts as images, but got {len(texts)} and {len(images)}.")
        if captions is not None and len(captions) != len(images):
            raise ValueError(f"a synthetic set of {len(images)} pairs has {len(captions)} captions.")
        check_tiles(tiles, images)
        self.tiles = tiles
        self.images = nn.Parameter(images.detach().clone())
        self.texts = nn.Parameter(texts.detach().clone())
        self.log_rates = nn.ParameterDict(
            {m: nn.Parameter(torch.tensor(math.log(learning_rates[m]))) for m in MODALITIES}
        )
        self.students = nn.ModuleList()
        self.spaces = nn.ParameterList()
        self.text_of: tuple[int, ...] = ()
        self.similarity = similarity or Identity()
        matrix = self.similarity()
        if matrix is not None and matrix.shape != (len(images), len(images)):
            raise ValueError(f"the similarity of {len(images)} pairs has the shape {tuple(matrix.shape)}.")
        self.loss: LossName = loss
        self.captions = None if captions is None else tuple(captions)
        self.metadata = dict(metadata or {})

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.images)

    def learning_rates(self) -> dict[Modality, float]:
        """Return the student's learning rate of each modality."""
        return {m: math.exp(self.log_rates[m].item()) for m in MODALITIES}

    def add_students(self, text_of: Sequence[int], spaces: Sequence[Tensor] = ()) -> "SyntheticSet":
        """Learn for further students, whose rates begin as those of the own one, and return the set.

        ``spaces`` are the pairs' texts for other text encoders, each [n, ...], and ``text_of`` has a number for each
        student: that of the texts that it reads.

        Raises:
            ValueError: a space has another number of texts, or a student reads texts that are not there.
        """
        if wrong := [len(texts) for texts in spaces if len(texts) != len(self)]:
            raise ValueError(f"a synthetic set of {len(self)} pairs has {wrong[0]} texts for another text encoder.")
        if {0, *text_of} != set(range(len(spaces) + 1)):
            raise ValueError(f"text_of is {list(text_of)}, expected every number from 1 to {len(spaces)}, or 0.")
        self.students.extend(copy.deepcopy(self.log_rates) for _ in text_of)
        self.spaces.extend(nn.Parameter(texts.detach().clone()) for texts in spaces)
        self.text_of = tuple(text_of)
        return self

    def of_student(self, number: int) -> "SyntheticSet":
        """Return this set with learning rates and texts of a further student (1, 2, ...) in place of the own one's (0).

        Both share all that they learn.
        """
        return with_part(self.with_texts_of(number), "log_rates", self.students[number - 1]) if number else self

    def with_texts_of(self, number: int) -> "SyntheticSet":
        """Return this set with the texts that a further student (1, 2, ...) reads in place of the own one's (0)."""
        space = self.text_of[number - 1] if number else 0
        return with_part(self, "texts", self.spaces[space - 1]) if space else self

    def all_log_rates(self) -> dict[str, Tensor]:
        """Return the logarithms of all learning rates by their names in the file."""
        known = {"log_rates": self.log_rates} | {f"students.{k}": rates for k, rates in enumerate(self.students)}
        return {f"{place}.{m}": cast(nn.ParameterDict, rates)[m] for place, rates in known.items() for m in MODALITIES}

    def check(self) -> None:
        """Check that all numbers are finite, the similarity of every pair too, and that learning rates are above 0.

        Raises:
            ValueError: one is not; the message names its tensor.
        """
        for name, value in self.state_dict().items():
            check_finite(name, value)
        if (matrix := self.similarity()) is not None:
            check_finite("similarity", matrix)
        for name, value in self.all_log_rates().items():
            if abs(log_rate := value.item()) > _LARGEST_LOG:
                raise ValueError(
                    f"{name} is {log_rate:.4g}, expected the logarithm of a learning rate, "
                    f"between -{_LARGEST_LOG} and {_LARGEST_LOG}."
                )

    def size_bytes(self) -> int:
        """Return the bytes of everything that is learned, as it is stored."""
        return sum(value.numel() * value.element_size() for value in self.parameters())

    def save(self, path: Location) -> None:
        """Write the set as one safetensors file, atomically; ``metadata`` and ``captions`` go into its header."""
        tensors = {name: value.detach().cpu().contiguous() for name, value in self.state_dict().items()}
        metadata = json.dumps(self.metadata, sort_keys=True)
        header = {"format_version": str(FORMAT_VERSION), "loss": self.loss, "metadata": metadata}
        header |= {} if self.captions is None else {"captions": json.dumps(self.captions)}
        header |= {"text_of": json.dumps(self.text_of)} if self.spaces else {}
        header |= {"tiles": str(self.tiles)} if self.tiles > 1 else {}
        with atomic_path(path) as temporary:
            save_file(tensors, temporary, metadata=header)


Learned = TypeVar("Learned", bound=nn.Module)


def with_part(module: Learned, name: str, other: nn.Module | nn.Parameter) -> Learned:
    """Return a module with ``other`` in place of its module or parameter ``name``; all its other parts are shared."""
    view = copy.copy(module)
    parts = "_parameters" if isinstance(other, nn.Parameter) else "_modules"
    setattr(view, parts, {**getattr(module, parts), name: other})
    return view


def load_set(path: Location | str) -> SyntheticSet:
    """Read a set that ``SyntheticSet.save`` wrote, or a folder that it was exported to, whose pixels have 8 bits.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, of another kind, or of a later format version, its tensors do not belong to
            one set, or a number is not finite.
    """
    path = location(path, key="the set") if isinstance(path, str) else path
    if path.is_dir():
        from engine.synthetic.folder import read_folder

        return read_folder(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no synthetic set here.")
    try:
        with as_file(path) as local, safe_open(local, "pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a mapping)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path}: expected a synthetic set in safetensors, but {error}.") from error
    described, text_of = _described(path, header)
    tensors = _shaped(path, tensors)
    spaces = [tensors[f"spaces.{number}"] for number in range(_number(_SPACE, tensors))]
    try:
        similar = (name for name in tensors if name.startswith(_SIMILARITY))
        learned = {name.removeprefix(_SIMILARITY): tensors[name] for name in similar}
        rates, similarity = dict.fromkeys(MODALITIES, 1.0), similarity_of(learned)
        synthetic = SyntheticSet(
            tensors["images"], tensors["texts"], rates, similarity=similarity, **described
        ).add_students(text_of or [0] * _number(_STUDENT, tensors), spaces)
        synthetic.load_state_dict(tensors)  # the learning rates too, bitwise
        synthetic.check()
    except (ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise ValueError(f"{path}: its tensors make no synthetic set: {reason}.") from error
    check_students(path, synthetic.metadata, len(synthetic.students))
    return synthetic


def _described(path: Location, header: Mapping[str, str]) -> tuple[dict[str, Any], list[int]]:
    """Return the options of a set in the header of its file, and the texts that further students read."""
    check_version(path, header.get("format_version"), str(FORMAT_VERSION))
    parsed: dict[str, Any] = {}
    for key in ("metadata", "captions", "text_of", "tiles"):
        try:
            parsed[key] = json.loads(header[key]) if key in header else None
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path}: expected {key} in JSON, but it cannot be parsed ({error}).") from error
    captions = parsed["captions"]
    if captions is not None and not (isinstance(captions, list) and all(isinstance(one, str) for one in captions)):
        raise ValueError(f"{path}: expected captions that are a list of texts, found {shown(captions)}.")
    metadata = checked_metadata(path, parsed["metadata"] if "metadata" in header else {})
    loss = checked_loss(path, header.get("loss", "info_nce"))
    tiles = checked_tiles(path, parsed["tiles"] if "tiles" in header else 1)
    options = {"loss": loss, "metadata": metadata, "captions": captions, "tiles": tiles}
    return options, checked_text_of(path, parsed["text_of"] or [])


def _number(kind: re.Pattern[str], names: Iterable[str]) -> int:
    """Return how many further students, or texts for other encoders, the tensors of a set's file hold."""
    return len({found[1] for name in names if (found := kind.match(name))})


def _shaped(path: Location, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a set's file in float32, after comparing their names and shapes and looking at them all."""
    rates = ["log_rates", *(f"students.{number}" for number in range(_number(_STUDENT, tensors)))]
    texts = ["texts", *(f"spaces.{number}" for number in range(_number(_SPACE, tensors)))]
    expected = {"images", *texts, *(f"{place}.{m}" for place in rates for m in MODALITIES)}
    if {name for name in tensors if not name.startswith(_SIMILARITY)} != expected:
        raise ValueError(f"{path}: expected the tensors {sorted(expected)}, but it holds {sorted(tensors)}.")
    images = finite_tensor(f"{path}: images", tensors["images"], None, 3, None, None)
    pairs = len(images)
    shapes: dict[str, list[int | None]] = {
        **{name: [pairs, *[None] * (2 if tensors[name].ndim == 3 else 1)] for name in texts},
        f"{_SIMILARITY}matrix": [pairs, pairs],
        f"{_SIMILARITY}diagonal": [pairs],
        f"{_SIMILARITY}left": [pairs, None],
        f"{_SIMILARITY}right": [pairs, None],
    }
    rest = {name: value for name, value in tensors.items() if name != "images"}
    return {
        "images": images,
        **{name: finite_tensor(f"{path}: {name}", value, *shapes.get(name, [])) for name, value in rest.items()},
    }
