"""A synthetic set as a folder that other tools read: PNG and captions, and beside them what else was learned.

``train/0001.png`` and ``train/metadata.jsonl`` are an image folder of the ``datasets`` library, and ``train.tar`` in
their place is a WebDataset. ``learned.safetensors`` holds ``text_embedding`` [n, d] (or token embeddings with their
mask, [n, tokens, d + 1]), those for other text encoders (``text_embedding.1`` ...) and, where one was learned,
``similarity`` [n, n]; ``learned.json`` the rest.
"""

import io
import json
import math
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor, nn

from engine.io.files import digest, parsed, read_json, write_json
from engine.io.paths import without_folders
from engine.io.sentences import shown
from engine.io.storage import Location, read_whole
from engine.synthetic.described import (
    check_students,
    check_version,
    checked_loss,
    checked_metadata,
    checked_text_of,
    checked_tiles,
)
from engine.synthetic.set import SyntheticSet
from engine.synthetic.similarity import Identity, similarity_of
from engine.tensors import MODALITIES, Modality, finite_tensor

FORMAT_VERSION = 1
TENSORS, DESCRIPTION, CARD = "learned.safetensors", "learned.json", "README.md"
EMBEDDING = "text_embedding"
FOLDER, TABLE, TAR = "train", "metadata.jsonl", "train.tar"


class Pair(NamedTuple):
    """The name of a pair's image without its ending, the image as a PNG, and the caption."""

    name: str
    png: bytes
    caption: str


def write_folder(folder: Path, synthetic: SyntheticSet, *, tar: bool = False) -> None:
    """Write a set with captions into an empty folder, its pixels clamped to [0, 1] and rounded to 8 bits.

    With ``tar``, the pairs are one WebDataset, ``train.tar``, and its samples hold their text embeddings too.
    """
    assert synthetic.captions is not None
    digits, images = max(4, len(str(len(synthetic)))), eight_bits(synthetic.images)
    pairs = [
        Pair(f"{number:0{digits}d}", as_png(image), caption)
        for number, (image, caption) in enumerate(zip(images, synthetic.captions, strict=True), start=1)
    ]
    texts = synthetic.texts.detach().cpu()
    (_write_tar if tar else _write_images)(folder, pairs, texts)
    tensors, similarity = {EMBEDDING: texts.contiguous()}, synthetic.similarity()
    tensors |= {f"{EMBEDDING}.{k}": one.detach().cpu().contiguous() for k, one in enumerate(synthetic.spaces, start=1)}
    if similarity is not None:
        tensors["similarity"] = similarity.detach().cpu().contiguous()
    save_file(tensors, folder / TENSORS)
    described = {
        "format_version": FORMAT_VERSION,
        "pairs": len(synthetic),
        "loss": synthetic.loss,
        "learning_rates": synthetic.learning_rates(),
        "students": [synthetic.of_student(k + 1).learning_rates() for k in range(len(synthetic.students))],
        **({"text_of": list(synthetic.text_of)} if synthetic.spaces else {}),
        **({"tiles": synthetic.tiles} if synthetic.tiles > 1 else {}),
        "metadata": without_folders(synthetic.metadata),
    }
    write_json(folder / DESCRIPTION, described)


def eight_bits(images: Float[Tensor, "n 3 h w"]) -> UInt8[np.ndarray, "n 3 h w"]:
    """Return pixels clamped to [0, 1] and rounded to multiples of 1/255, as 0 to 255."""
    array: np.ndarray = (images.detach().cpu().clamp(0, 1) * 255).round().to(torch.uint8).numpy()
    return array


def as_png(image: UInt8[np.ndarray, "3 h w"]) -> bytes:
    """Return an image as the bytes of a PNG."""
    written = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0))).save(written, "PNG", optimize=True)
    return written.getvalue()


def _write_images(folder: Path, pairs: list[Pair], texts: Tensor) -> None:
    (folder / FOLDER).mkdir()
    for pair in pairs:
        (folder / FOLDER / f"{pair.name}.png").write_bytes(pair.png)
    rows = [json.dumps({"file_name": f"{p.name}.png", "text": p.caption}, ensure_ascii=False) for p in pairs]
    (folder / FOLDER / TABLE).write_text("\n".join(rows) + "\n", encoding="utf-8")


def _write_tar(folder: Path, pairs: list[Pair], texts: Tensor) -> None:
    with tarfile.open(folder / TAR, "w") as archive:
        for pair, text in zip(pairs, texts, strict=True):
            embedding = io.BytesIO()
            np.save(embedding, text.numpy(), allow_pickle=False)
            files = {"png": pair.png, "txt": pair.caption.encode(), "text_embedding.npy": embedding.getvalue()}
            for ending, data in files.items():
                member = tarfile.TarInfo(f"{pair.name}.{ending}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))


def read_folder(folder: Location) -> SyntheticSet:
    """Read a set from a folder that ``write_folder`` wrote, in either form; captions and pairs may have been edited.

    Raises:
        FileNotFoundError: a file of it is missing.
        ValueError: a file is damaged, of another format version, or does not belong to the others.
    """
    if not (folder / DESCRIPTION).is_file():
        raise FileNotFoundError(f"{folder}: there is no synthetic set here, expected {DESCRIPTION} of an exported one.")
    described = read_json(folder / DESCRIPTION)
    described = described if isinstance(described, dict) else {}
    check_version(folder / DESCRIPTION, described.get("format_version"), FORMAT_VERSION)
    try:
        tensors = load(read_whole(folder / TENSORS))
    except SafetensorError as error:
        raise ValueError(f"{folder / TENSORS}: expected tensors in safetensors, but {error}.") from error
    spaces = [f"{EMBEDDING}.{number + 1}" for number in range(len(tensors.keys() - {EMBEDDING, "similarity"}))]
    if not {EMBEDDING, *spaces} <= tensors.keys():
        found = sorted(tensors)
        raise ValueError(f"{folder / TENSORS}: expected {EMBEDDING} and perhaps similarity, found {found}.")
    where = folder / (TAR if (folder / TAR).is_file() else f"{FOLDER}/{TABLE}")
    pairs = list(_tarred(where) if where.name == TAR else _listed(where))
    if len(pairs) != len(tensors[EMBEDDING]):
        embedded = len(tensors[EMBEDDING])
        raise ValueError(f"{where}: it has {len(pairs)} pairs, expected the {embedded} of {TENSORS}.")
    images = [_pixels(where, pair) for pair in pairs]
    for pair, image in zip(pairs, images, strict=True):
        if image.shape != images[0].shape:
            sizes = [list(one.shape[1:]) for one in (image, images[0])]
            raise ValueError(f"{where}: {pair.name}.png is {sizes[0]} pixels high and wide, expected {sizes[1]}.")
    count = len(pairs)
    texts, *others = (
        finite_tensor(
            f"{folder / TENSORS}: {name}", tensors[name], count, *[None] * (2 if tensors[name].ndim == 3 else 1)
        )
        for name in (EMBEDDING, *spaces)
    )
    matrix = tensors.get("similarity")
    if matrix is not None:
        matrix = finite_tensor(f"{folder / TENSORS}: similarity", matrix, count, count)
    further = described.get("students", [])
    if not isinstance(further, list):
        raise ValueError(f"{folder / DESCRIPTION}: students is {shown(further)}, expected a list of learning rates.")
    text_of = checked_text_of(folder / DESCRIPTION, described.get("text_of", [0] * len(further)))
    tiles = checked_tiles(folder / DESCRIPTION, described.get("tiles", 1))
    if any(side % tiles for side in images[0].shape[1:]):
        size = list(images[0].shape[1:])
        raise ValueError(f"{folder / DESCRIPTION}: tiles is {tiles}, expected a divisor of {size}, the images' pixels.")
    if len(text_of) != len(further):
        raise ValueError(f"{folder / DESCRIPTION}: text_of is {text_of}, expected a number for each of students.")
    synthetic = SyntheticSet(
        torch.stack(images),
        texts,
        _rates(folder / DESCRIPTION, "learning_rates", described.get("learning_rates")),
        checked_metadata(folder / DESCRIPTION, described.get("metadata", {})),
        similarity=Identity() if matrix is None else similarity_of({"matrix": matrix}),
        loss=checked_loss(folder / DESCRIPTION, described.get("loss")),
        captions=[pair.caption for pair in pairs],
        tiles=tiles,
    ).add_students(text_of, others)
    for number, given in enumerate(further):
        rates = _rates(folder / DESCRIPTION, f"students.{number}", given)
        for modality, log_rate in cast(nn.ParameterDict, synthetic.students[number]).items():
            log_rate.data.fill_(math.log(rates[modality]))
    check_students(folder / DESCRIPTION, synthetic.metadata, len(further))
    return synthetic


def _listed(table: Location) -> Iterator[Pair]:
    """Yield the pairs of an image folder in the order of its table."""
    for number, line in enumerate(read_whole(table).strip().split(b"\n"), start=1):
        try:
            row = parsed(line)
        except ValueError as error:
            raise ValueError(f"{table}: line {number}: expected JSON, but it cannot be parsed ({error}).") from error
        name, text = (row.get(key) if isinstance(row, dict) else None for key in ("file_name", "text"))
        if not isinstance(name, str) or not isinstance(text, str) or not name.endswith(".png") or "/" in name:
            expected = "'file_name', a PNG beside this file, and 'text'"
            raise ValueError(f"{table}: line {number} is {shown(row)}, expected {expected}.")
        yield Pair(name.removesuffix(".png"), read_whole(table.parent / name), text)


def _tarred(path: Location) -> Iterator[Pair]:
    """Yield the pairs of a WebDataset in the order of their images."""
    try:
        with tarfile.open(fileobj=io.BytesIO(read_whole(path))) as archive:
            files = {one.name: archive.extractfile(one).read() for one in archive if one.isfile()}  # type: ignore[union-attr]
    except (tarfile.TarError, EOFError, OSError) as error:
        raise ValueError(f"{path}: expected a tar, but it cannot be read ({error}).") from error
    for name in (file.removesuffix(".png") for file in files if file.endswith(".png")):
        if f"{name}.txt" not in files:
            raise ValueError(f"{path}: it has {name}.png without {name}.txt, expected both.")
        try:
            yield Pair(name, files[f"{name}.png"], files[f"{name}.txt"].decode())
        except UnicodeDecodeError as error:
            raise ValueError(f"{path}: {name}.txt is not in UTF-8.") from error


def _pixels(where: Location, pair: Pair) -> Float[Tensor, "3 h w"]:
    """Return the pixels of a PNG in [0, 1]."""
    try:
        with Image.open(io.BytesIO(pair.png), formats=["PNG"]) as image:
            array = np.array(image.convert("RGB"))
    except Exception as error:
        reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        raise ValueError(f"{where}: {pair.name}.png: expected a PNG, but it cannot be decoded ({reason}).") from error
    return torch.from_numpy(array.transpose(2, 0, 1).copy()).float() / 255


def _rates(path: Location, key: str, given: Any) -> dict[Modality, float]:
    """Return the learning rates of a description, which are numbers above 0."""
    rates = given if isinstance(given, dict) else {}
    for modality in MODALITIES:
        rate = rates.get(modality)
        if isinstance(rate, bool) or not isinstance(rate, int | float) or not 1e-300 < rate < 1e300:
            raise ValueError(f"{path}: {key}.{modality} is {shown(rate)}, expected a number above 0.")
    return {modality: float(rates[modality]) for modality in MODALITIES}


def set_digest(path: Location) -> str:
    """Return the digest of the file of a set, or of all files of an exported one but its card."""
    if not path.is_dir():
        return digest(read_whole(path))
    files = sorted(one for one in path.rglob("*") if one.is_file() and one.name != CARD)
    return digest(*(part for one in files for part in (one.name, read_whole(one))))
