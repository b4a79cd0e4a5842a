"""Damaged tables and annotations of captions: pairs of photos and texts, or one sentence."""

import io
import json
from random import Random

import polars
import pytest
from PIL import Image

from engine.data.sets import karpathy, table
from engine.io.paths import Paths
from tests.fuzz.seeds import MUTATIONS, damaged, try_many

SPLITS = ("train", "train", "val", "test")
ROWS = [
    {"image": f"{photo}.png", "caption": f'a "{word}", photo {photo}', "split": split}
    for photo, split in enumerate(SPLITS)
    for word in ("red", "größer")
]
ANNOTATION = {
    "images": [
        {"imgid": n, "filename": f"{n}.png", "split": split, "sentences": [{"raw": "a ball"}, {"raw": "größer"}]}
        for n, split in enumerate(SPLITS)
    ]
}
pytestmark = pytest.mark.timeout(240)


def table_of(form: str) -> bytes:
    """Return the rows as a file of this format."""
    frame, file = polars.DataFrame(ROWS), io.BytesIO()
    {"csv": frame.write_csv, "jsonl": frame.write_ndjson, "parquet": frame.write_parquet}[form](file)
    return file.getvalue()


@pytest.fixture
def photos(paths: Paths) -> Paths:
    """Write the photos of the rows."""
    (paths.data / "made").mkdir(parents=True)
    for number in range(len(SPLITS)):
        Image.new("RGB", (4, 4), (50 * number, 0, 0)).save(paths.data / "made" / f"{number}.png")
    return paths


FILES = {f"rows.{form}": table_of(form) for form in ("csv", "jsonl", "parquet")}
FILES |= {"dataset_made.json": json.dumps(ANNOTATION).encode()}


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_table(name: str, photos: Paths) -> None:
    file = photos.data / "made" / name
    options = {"root": "made", "image_px": 4}
    data_set = table.DataSet(table=name, **options)
    if name.endswith(".json"):
        data_set = karpathy.DataSet(annotations=name, images=".", **options)

    def spoil(random: Random) -> None:
        file.write_bytes(damaged(FILES[name], random))

    def read() -> None:
        for split in data_set.load(photos).values():
            assert split.captions
            assert all(caption.strip() for caption in split.captions)
            assert all((photos.data / "made" / image).is_file() for image in split.image_names)

    file.write_bytes(FILES[name])
    read()
    try_many(name, spoil, read, count=MUTATIONS // len(FILES))
