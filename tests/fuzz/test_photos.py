"""Damaged photos: an image, or one sentence."""

import io
from pathlib import Path
from random import Random

import numpy as np
import pytest
from PIL import Image

from engine.data.images import decode
from tests.fuzz.seeds import MUTATIONS, damaged, try_many

FORMATS = ["JPEG", "PNG", "WEBP", "AVIF", "TIFF", "GIF", "BMP", "DDS"]
UNREAD = {"DDS"}
pytestmark = [pytest.mark.timeout(240), pytest.mark.filterwarnings("ignore")]


def encoded(form: str) -> bytes:
    """Return a small photo, turned by its EXIF tags where the format has any."""
    pixels = np.random.default_rng(0).integers(0, 255, (24, 16, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x112], exif[0x10F], exif[0x11A] = 6, "a camera", 72.0
    exif.get_ifd(0x8769)[0x829A] = 0.01
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form, **({} if form in ("BMP", "GIF", "DDS") else {"exif": exif}))
    return file.getvalue()


@pytest.mark.parametrize("form", FORMATS)
def test_a_damaged_photo(form: str, tmp_path: Path) -> None:
    file, whole = tmp_path / "photo", encoded(form)

    def spoil(random: Random) -> None:
        file.write_bytes(damaged(whole, random))

    def read() -> None:
        pixels = decode(file, image_px=8)
        assert (pixels.shape, pixels.dtype) == ((3, 8, 8), np.uint8)

    file.write_bytes(whole)
    if form not in UNREAD:
        read()
    try_many(form, spoil, read, count=MUTATIONS // len(FORMATS))
