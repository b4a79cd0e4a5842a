"""Damaged sets, in our format and in published ones: a finite set, or one sentence."""

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
import torch

from engine.rng import named_generator
from engine.synthetic.import_published import read_published_set
from engine.synthetic.set import SyntheticSet, load_set
from engine.synthetic.similarity import SimilarityOptions, make_similarity
from tests.fuzz.seeds import MUTATIONS, damaged, try_many

PAIRS = 3
pytestmark = pytest.mark.timeout(240)


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=named_generator(0, str(shape)))


def our_set(path: Path) -> None:
    similarity = make_similarity(SimilarityOptions(rank=2), PAIRS, named_generator(0, "similarity"))
    images, texts = drawn(PAIRS, 3, 2, 2), drawn(PAIRS, 4)
    SyntheticSet(images, texts, {"image": 0.1, "text": 0.2}, {"a": 1}, similarity=similarity, loss="wbce").save(path)


def published_set(path: Path) -> None:
    parts = [drawn(PAIRS), drawn(PAIRS, 2), drawn(2, PAIRS).T]
    entries = {"image": drawn(PAIRS, 3, 2, 2), "text": drawn(PAIRS, 4), "similarity_params": parts, "syn_lr": 0.1}
    torch.save({**entries, "similarity_mat": parts[0].diag() + parts[1] @ parts[2].T}, path)


def with_damaged_header(data: bytes, random: Random) -> bytes:
    """Return a safetensors file whose header is damaged, with the header's true length."""
    size = int.from_bytes(data[:8], "little")
    header = damaged(data[8 : 8 + size], random)
    return len(header).to_bytes(8, "little") + header + data[8 + size :]


def with_damaged_entry(data: bytes, random: Random) -> bytes:
    """Return a file of torch.save of which one entry is damaged, with the entry's true checksum."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    name = random.choice([*entries, *[name for name in entries if name.endswith("data.pkl")] * 5])
    entries[name] = damaged(entries[name], random)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for entry, content in entries.items():
            archive.writestr(entry, content)
    return file.getvalue()


Spoil = Callable[[bytes, Random], bytes]
KINDS: dict[str, tuple[Callable[[Path], None], Callable[[Path], SyntheticSet], Spoil]] = {
    "set.safetensors": (our_set, load_set, with_damaged_header),
    "published.pt": (published_set, read_published_set, with_damaged_entry),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_set(kind: str, tmp_path: Path) -> None:
    write, load, deeper = KINDS[kind]
    path = tmp_path / kind
    write(path)
    whole = path.read_bytes()

    def spoil(random: Random) -> None:
        path.write_bytes(random.choice((damaged, deeper, deeper))(whole, random))

    def read() -> None:
        found = load(path)
        found.check()
        assert len(found) == len(found.texts) > 0
        found.save(tmp_path / "again.safetensors")
        load_set(tmp_path / "again.safetensors")

    read()
    try_many(kind, spoil, read, count=MUTATIONS // len(KINDS))
