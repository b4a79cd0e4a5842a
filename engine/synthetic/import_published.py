"""Import of distilled sets and expert buffers that published code wrote with ``torch.save``."""

import math
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from engine.experts.store import ExpertStore
from engine.experts.trajectory import ExpertId
from engine.io.storage import matching, remove_tree
from engine.losses.contrastive import LossName
from engine.models.two_tower import TwoTower
from engine.rng import named_generator
from engine.synthetic.set import SyntheticSet
from engine.synthetic.similarity import Identity, similarity_of
from engine.tensors import MODALITIES, Modality, Params, finite_tensor

Normalisation = Literal["clip", "imagenet", "none"]

_STATISTICS: Mapping[Normalisation, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "clip": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}
_IMAGES = ("image", "images", "image_syn")
_TEXTS = ("text", "texts", "text_syn")
_RATES: Mapping[Modality, tuple[str, ...]] = {
    "image": ("syn_lr_img", "syn_lr_image", "syn_lr"),
    "text": ("syn_lr_txt", "syn_lr_text", "syn_lr"),
}
_PARTS = ("similarity_params", "sim_params")
_MATRIX = ("similarity_mat", "similarity", "sim_mat")


def read_published_set(
    path: Path, *, alpha: float | None = None, normalisation: Normalisation = "clip", loss: LossName | None = None
) -> SyntheticSet:
    """Read a distilled set of LoRS, RepBlend, or code that saves as these do.

    The file is a dictionary. Accepted names: ``image``, ``images`` or ``image_syn`` [n, 3, h, w]; ``text``, ``texts``
    or ``text_syn`` [n, d]; the learning rates ``syn_lr_img`` (``syn_lr_image``) and ``syn_lr_txt`` (``syn_lr_text``),
    or one ``syn_lr`` for both; the similarity as ``similarity_params`` (``sim_params``), a list of the diagonal [n] and
    L and R [n, r], or of one matrix [n, n], and as ``similarity_mat`` (``similarity``, ``sim_mat``), the whole matrix.

    Args:
        alpha: The factor of the low-rank part, S = diag(a) + (alpha / r) L R^T, which the file does not name. If the
            file has the whole matrix beside its parts, alpha is the value with which they agree.
        normalisation: The statistics that pixels were normalised with; they become RGB in [0, 1].
        loss: None is wbce with a similarity, as in all published scripts, and info_nce without.

    The set's metadata do not name its text encoder, which the caller knows. Not certain: L comes before R in the list
    in the published code of LoRS; of RepBlend's files we only know that its code builds on that one; published code
    normalises with the statistics of CLIP, whatever the encoder.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is of another kind, runs code, lacks an entry, or its shapes do not fit each other.

    References:
        arXiv 2406.03793, equation 4.
    """
    if alpha is not None and not (math.isfinite(alpha) and alpha > 0):
        raise ValueError(f"alpha: it is {alpha}, expected a number above 0.")
    content = _loaded(path)
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected a dictionary of a distilled set, found a {type(content).__name__}.")
    images = _entry(path, content, _IMAGES, dimensions=4)
    texts = _entry(path, content, _TEXTS, dimensions=2)
    if images.shape[1] != 3 or len(images) != len(texts):
        raise ValueError(
            f"{path}: expected images [n, 3, h, w] and texts [n, d] of as many pairs, "
            f"found {list(images.shape)} and {list(texts.shape)}."
        )
    similarity = _similarity(path, content, len(images), alpha)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in _STATISTICS[normalisation])
    synthetic = SyntheticSet(
        images * std + mean,
        texts,
        {modality: _learning_rate(path, content, _RATES[modality]) for modality in MODALITIES},
        {"published": {"file": path.name, "normalisation": normalisation}},
        similarity=similarity,
        loss=loss or ("info_nce" if isinstance(similarity, Identity) else "wbce"),
    )
    try:
        synthetic.check()
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return synthetic


def import_buffers(folder: Path, student: TwoTower, store: ExpertStore) -> dict[ExpertId, int]:
    """Write every expert of ``img_replay_buffer_<n>.pt`` and its ``txt_replay_buffer_<n>.pt`` into an empty ``store``.

    A buffer is a list of experts, each a list of snapshots from epoch 0 on, each a list of tensors without names: these
    take the names of ``student``'s parameters in their order, if every shape fits. Images and texts are paired by the
    number in the files' names. Everything is read and checked before anything is written, and an error while writing
    leaves nothing behind. Returns the last epoch of each expert.

    Not certain: tensors of one shape in another order cannot be distinguished; experts have seen pixels normalised by
    the statistics of published code, which may not be those of this student's encoder.

    Raises:
        FileNotFoundError: there are no such files, or one lacks its partner.
        ValueError: a file runs code or does not fit the student, or the store holds experts already.
    """
    pairs = _buffer_files(folder)
    if store.experts():
        raise ValueError(f"{store.folder}: it holds experts already, expected none; name another folder as storage.")
    for _ in _trajectories(pairs, student):
        pass
    was_there, last = store.folder.exists(), {}
    try:
        for expert, trajectory in enumerate(_trajectories(pairs, student)):
            for epoch, params in enumerate(trajectory):
                store.save(expert, epoch, params)
            last[expert] = len(trajectory) - 1
    except BaseException:
        for made in matching(store.folder, "expert_*"):
            remove_tree(made)
        if not was_there:
            remove_tree(store.folder)
        raise
    return last


def _loaded(path: Path) -> Any:
    """Read a file of tensors and plain containers; one that would run code is refused."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such file.")
    try:
        with warnings.catch_warnings(action="ignore"):  # of kinds of tensors that are refused below
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        first = str(error).strip().splitlines()[:1]
        reason = re.split(r"(?<=[a-z])\. ", first[0])[0] if first else type(error).__name__
        raise ValueError(
            f"{path}: expected a file of torch.save that holds tensors and nothing else, but it cannot be read as such "
            f"({reason.rstrip('.')})."
        ) from error


def _entry(path: Path, content: Mapping[Any, Any], names: Sequence[str], *, dimensions: int) -> Tensor:
    """Return the tensor under the first of ``names`` that the file has."""
    name = _first(content, names)
    if name is None:
        found = " ".join(", ".join(map(str, content)).split())[:200] or "nothing"
        raise ValueError(f"{path}: expected one of the entries {', '.join(names)}, found {found}.")
    return finite_tensor(f"{path}: {name}", content[name], *[None] * dimensions)


def _first(content: Mapping[Any, Any], names: Sequence[str]) -> str | None:
    return next((name for name in names if name in content), None)


def _learning_rate(path: Path, content: Mapping[Any, Any], names: Sequence[str]) -> float:
    """Return a learning rate, which must be above zero because sets store its logarithm."""
    name = _first(content, names)
    number = None if name is None else content[name]
    if isinstance(number, Tensor) and number.numel() == 1:
        number = finite_tensor(f"{path}: {name}", number.float(), *number.shape).item()
    if isinstance(number, bool) or not isinstance(number, int | float) or not 1e-300 < number < 1e300:
        found = " ".join(repr(number).split())[:80]
        raise ValueError(f"{path}: {name or names[0]} is {found}, expected one learning rate above 0.")
    return float(number)


def _similarity(path: Path, content: Mapping[Any, Any], size: int, alpha: float | None) -> nn.Module:
    """Return the similarity of a set: from its parts if the file has them, else its matrix, else the identity."""
    name, whole = _first(content, _PARTS), _first(content, _MATRIX)
    matrix = None if whole is None else finite_tensor(f"{path}: {whole}", content[whole], size, size)
    if name is None:
        return Identity() if matrix is None else similarity_of({"matrix": matrix})
    parts = [content[name]] if isinstance(content[name], Tensor) else content[name]
    if not isinstance(parts, list | tuple):
        raise ValueError(f"{path}: {name} is a {type(parts).__name__}, expected a list of one or three tensors.")
    if len(parts) == 1:
        return similarity_of({"matrix": finite_tensor(f"{path}: {name}", parts[0], size, size)})
    if len(parts) != 3:
        raise ValueError(f"{path}: {name} has {len(parts)} entries, expected one matrix, or a, L and R.")
    diagonal = finite_tensor(f"{path}: {name}[0]", parts[0], size)
    left = finite_tensor(f"{path}: {name}[1]", parts[1], size, None)
    right = finite_tensor(f"{path}: {name}[2]", parts[2], *left.shape)
    scale = None if alpha is None else alpha / left.shape[1]
    if matrix is not None:
        precision = max(torch.finfo(value.dtype).eps for value in (*parts, content[whole]))
        scale = _scale(path, diagonal, left, right, matrix, given=scale, precision=precision)
    if scale is None:
        raise ValueError(f"{path}: it does not name the alpha of its low-rank similarity, expected it as --alpha.")
    return similarity_of({"diagonal": diagonal, "left": left, "right": right, "scale": torch.tensor(scale)})


def _scale(
    path: Path, diagonal: Tensor, left: Tensor, right: Tensor, matrix: Tensor, *, given: float | None, precision: float
) -> float:
    """Return ``given``, or the factor that fits the parts best to their whole matrix, if it makes them equal.

    Parts and matrix were rounded to ``precision``, the machine epsilon of the file's coarsest numbers.
    """
    product, rest = left @ right.T, matrix - diagonal.diag()
    square = float(product.square().sum())
    fitting = float((rest * product).sum()) / square if square > 0 else 1.0
    scale = fitting if given is None else given
    rounded = 4 * precision * (abs(scale) * left.abs() @ right.abs().T + diagonal.abs().diag() + matrix.abs())
    if not math.isfinite(scale) or bool(((scale * product - rest).abs() > 1e-4 + 1e-3 * rest.abs() + rounded).any()):
        which = "that alpha" if given is not None else "any alpha"
        raise ValueError(f"{path}: the similarity is not made of its parts for {which}, expected one that is.")
    return scale


def _buffer_files(folder: Path) -> list[tuple[Path, Path]]:
    """Return the files of both modalities, paired by their number."""
    found: dict[str, dict[int, Path]] = {"img": {}, "txt": {}}
    for prefix, files in found.items():
        for path in folder.glob(f"{prefix}_replay_buffer_*.pt"):
            word = path.stem.rpartition("_")[2]
            if not (word.isascii() and word.isdigit()):
                raise ValueError(f"{path}: expected a number at the end of its name, found {word!r}.")
            files[int(word)] = path
    images, texts = found.values()
    if not images and not texts:
        raise FileNotFoundError(f"{folder}: expected img_replay_buffer_0.pt and txt_replay_buffer_0.pt, found neither.")
    for number in sorted(images.keys() ^ texts.keys()):
        absent = "txt" if number in images else "img"
        raise FileNotFoundError(f"{folder}: {absent}_replay_buffer_{number}.pt is absent, expected both.")
    return [(images[number], texts[number]) for number in sorted(images)]


def _trajectories(pairs: Sequence[tuple[Path, Path]], student: TwoTower) -> Iterator[list[Params]]:
    """Yield the named snapshots of each expert, with one file of each modality in memory at a time."""
    like = [tower.init_params(named_generator(0, "names")) for tower in student.towers()]
    for files in pairs:
        sides = [_experts(path) for path in files]
        if [len(one) for one in sides[0]] != [len(one) for one in sides[1]]:
            raise ValueError(f"{files[1]}: its experts have other numbers of epochs than those of {files[0].name}.")
        for number, (image, text) in enumerate(zip(*sides, strict=True)):
            yield [
                {
                    **_named(files[0], f"[{number}][{epoch}]", image[epoch], like[0]),
                    **_named(files[1], f"[{number}][{epoch}]", text[epoch], like[1]),
                }
                for epoch in range(len(image))
            ]


def _experts(path: Path) -> list[Any]:
    """Return the experts of a buffer, each a list of snapshots."""
    content = _loaded(path)
    if not isinstance(content, list) or not content or not all(isinstance(one, list) and one for one in content):
        raise ValueError(f"{path}: expected a list of experts, each a list of snapshots.")
    return content


def _named(path: Path, where: str, snapshot: Any, like: Params) -> Params:
    """Return copies of the tensors of a snapshot with the names of ``like``, in order."""
    if not isinstance(snapshot, list | tuple) or len(snapshot) != len(like):
        found = f"{len(snapshot)} tensors" if isinstance(snapshot, list | tuple) else type(snapshot).__name__
        raise ValueError(f"{path}: snapshot {where} has {found}, expected the {len(like)} of this space's student.")
    return {
        name: finite_tensor(f"{path}: snapshot {where} at {name}", value, *own.shape).clone()
        for (name, own), value in zip(like.items(), snapshot, strict=True)
    }
