import io
import os
import struct
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps, features

from engine.data import images as images_module
from engine.data.images import contents, decode, images_key
from engine.data.listed import Listed
from engine.data.undecodable import UndecodableError
from tests.data.photos import noise, save_photo, save_photos


def arrays(files: Sequence[Path], *, image_px: int, cache: Path) -> np.ndarray:
    names, key = [file.name for file in files], images_key(contents(files), image_px)
    listed = Listed(str(files[0].parent), names, [["a caption"]] * len(names), image_px, "content", key)
    return listed.images("train", cache).open()


def test_array_holds_every_image_in_order(tmp_path: Path) -> None:
    files = save_photos(tmp_path / "photos", [f"{index}.png" for index in range(70)])
    array = arrays(files, image_px=8, cache=tmp_path / "cache")
    assert array.shape == (70, 3, 8, 8)
    assert array.dtype == np.uint8
    for index in (0, 1, 69):
        np.testing.assert_array_equal(array[index], decode(files[index], image_px=8))


def test_keyed_by_content_not_by_name_or_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = save_photos(tmp_path / "photos", ["a.png", "b.png"])
    first = arrays(files, image_px=8, cache=tmp_path / "cache")
    os.utime(files[0], (1, 1))
    renamed = [file.rename(file.with_stem(f"{file.stem}-renamed")) for file in files]
    decodings: list[Path] = []
    monkeypatch.setattr(images_module, "decode", lambda file, *, image_px: decodings.append(file))
    again = arrays(renamed, image_px=8, cache=tmp_path / "cache")
    assert decodings == []
    np.testing.assert_array_equal(first, again)


def test_changed_content_of_equal_size_is_decoded_again(tmp_path: Path) -> None:
    file = tmp_path / "a.bmp"
    found = []
    for value in (10, 200):
        Image.new("RGB", (8, 8), (value, value, value)).save(file)
        os.utime(file, (1, 1))
        found.append(arrays([file], image_px=4, cache=tmp_path / "cache"))
    assert found[0].max() == 10
    assert found[1].min() == 200


def test_order_and_size_are_part_of_the_key(tmp_path: Path) -> None:
    files = save_photos(tmp_path / "photos", ["a.png", "b.png"])
    cache = tmp_path / "cache"
    forward, backward = (arrays(order, image_px=8, cache=cache) for order in (files, files[::-1]))
    np.testing.assert_array_equal(forward, backward[::-1])
    assert arrays(files, image_px=4, cache=cache).shape == (2, 3, 4, 4)


def test_other_code_decodes_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files, made = save_photos(tmp_path / "photos", ["a.png", "b.png"]), []
    for code in ("one", "one", "other"):
        monkeypatch.setattr(images_module, "source_digest", lambda *names, code=code: code)
        arrays(files, image_px=4, cache=tmp_path / "cache")
        made.append(len(list((tmp_path / "cache").rglob("*.npy"))))
    assert made == [1, 1, 2]


def test_upright_by_exif(tmp_path: Path) -> None:
    left_white = np.zeros((8, 16, 3), np.uint8)
    left_white[:, :8] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # shown after a quarter turn clockwise: the left side comes to the top
    Image.fromarray(left_white).save(tmp_path / "turned.png", exif=exif)
    image = decode(tmp_path / "turned.png", image_px=8)
    assert image[:, :3].min() > 200
    assert image[:, 5:].max() < 55


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "CMYK", "1"])
def test_every_8_bit_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    ending = "tiff" if mode == "CMYK" else "png"
    Image.new("RGB", (6, 6), (255, 255, 255)).convert(mode).save(tmp_path / f"white.{ending}")
    np.testing.assert_array_equal(decode(tmp_path / f"white.{ending}", image_px=3), 255)


def test_palette_with_transparency_is_decoded_silently(tmp_path: Path) -> None:
    image = Image.new("P", (4, 4))
    image.putpalette([9, 9, 9, 200, 0, 0])
    image.save(tmp_path / "p.png", transparency=b"\x00\xff")
    assert decode(tmp_path / "p.png", image_px=4).max() == 9


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("turn", range(1, 9))
def test_every_turn_of_every_format_is_that_of_pillow(tmp_path: Path, form: str, turn: int) -> None:
    if form == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow reads no AVIF")
    exif = Image.Exif()
    exif[0x0112] = turn
    noise(0, 12, 8).save(tmp_path / "a", form, exif=exif)
    with Image.open(tmp_path / "a") as opened:
        upright = ImageOps.exif_transpose(opened).convert("RGB")
    expected = np.asarray(upright.resize((6, 6), Image.Resampling.BICUBIC)).transpose(2, 0, 1)
    np.testing.assert_array_equal(decode(tmp_path / "a", image_px=6), expected)


def exif_of(*entries: tuple[int, int, int, bytes]) -> bytes:
    """Return EXIF data of entries (tag, type, count, value), the values of eight bytes after them."""
    behind = b"".join(value for *_, value in entries if len(value) > 4)
    start = 8 + 2 + 12 * len(entries) + 4
    body = b"".join(
        struct.pack("<HHL", tag, kind, count) + (value.ljust(4, b"\0") if len(value) <= 4 else struct.pack("<L", start))
        for tag, kind, count, value in entries
    )
    return b"Exif\0\0II*\0" + struct.pack("<LH", 8, len(entries)) + body + bytes(4) + behind


@pytest.mark.filterwarnings("ignore")  # Pillow's, which the engine silences
def test_damaged_exif_data_hide_no_photo_and_a_readable_turn_counts(tmp_path: Path) -> None:
    turned = (0x0112, 3, 1, struct.pack("<H", 6))
    left_white = np.zeros((8, 16, 3), np.uint8)
    left_white[:, :8] = 255
    plain = Image.fromarray(left_white)
    plain.save(tmp_path / "ratio.jpg", exif=exif_of(turned, (0x011A, 10, 1, struct.pack("<ll", -1, 0))))
    image = decode(tmp_path / "ratio.jpg", image_px=8)
    assert image[:, :3].min() > 200
    assert image[:, 5:].max() < 55
    whole, generator = exif_of(turned, (0x011A, 5, 1, struct.pack("<LL", 72, 1))), np.random.default_rng(0)
    for number in range(100):
        damaged = bytearray(whole)
        for place in generator.integers(6, len(whole), 3):
            damaged[place] = generator.integers(256)
        plain.save(tmp_path / f"{number}.jpg", exif=bytes(damaged))
        decode(tmp_path / f"{number}.jpg", image_px=8)


@pytest.mark.parametrize("form", ["EPS", "PPM", "ICO", "TGA", "DDS", "JPEG2000"])
def test_other_formats_are_not_opened_whatever_their_name(tmp_path: Path, form: str) -> None:
    if form == "EPS":
        (tmp_path / "a.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")
    else:
        noise(0, 16, 16).save(tmp_path / "a.jpg", form)
    with pytest.raises(ValueError, match=r"a\.jpg: .* cannot be decoded \(it is none of JPEG, PNG, .*, or damaged\)"):
        decode(tmp_path / "a.jpg", image_px=4)


@pytest.mark.parametrize(
    "error", [RuntimeError("no item"), NotImplementedError(), struct.error("range"), MemoryError()]
)
def test_whatever_pillow_raises_names_the_file(
    tmp_path: Path, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = save_photo(tmp_path / "a.png", 0)

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(Image.Image, "convert", fail)
    with pytest.raises(
        UndecodableError, match=rf"a\.png: .* cannot be decoded \({str(error) or type(error).__name__}\)\.$"
    ):
        decode(file, image_px=4)


def test_damaged_avif_is_decoded_or_named(tmp_path: Path) -> None:
    if not features.check("avif"):
        pytest.skip("this Pillow reads no AVIF")
    written = io.BytesIO()
    noise(2, 48, 48).save(written, "AVIF", quality=30)
    for place in range(40, len(written.getvalue()), 7):
        damaged = bytearray(written.getvalue())
        damaged[place] ^= 0x55
        (tmp_path / "a.avif").write_bytes(damaged)
        with suppress(UndecodableError):
            decode(tmp_path / "a.avif", image_px=4)


@pytest.mark.parametrize("at_once", [2, 512])
def test_all_broken_images_are_told_at_once(tmp_path: Path, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images_module, "SHARD", at_once)
    files = save_photos(tmp_path, [f"{index}.png" for index in range(9)])
    for file in files[1:8]:
        file.write_bytes(b"broken")
    with pytest.raises(
        UndecodableError, match=r"^7 of 9 images cannot be decoded: .*1\.png \(.*5\.png \(.*and 2 more\.$"
    ):
        arrays(files, image_px=4, cache=tmp_path / "cache")
    assert list((tmp_path / "cache").rglob("*.npy")) == []


@pytest.mark.parametrize("content", [b"", b"no image at all", b"\x89PNG\r\n\x1a\n broken"])
def test_corrupt_image_is_named(tmp_path: Path, content: bytes) -> None:
    good = save_photo(tmp_path / "good.png", 0)
    bad = tmp_path / "bad.png"
    bad.write_bytes(content)
    with pytest.raises(ValueError, match=r"bad\.png: expected an image, but it cannot be decoded"):
        arrays([good, bad], image_px=8, cache=tmp_path / "cache")
    assert list((tmp_path / "cache").rglob("*.npy")) == []


def test_truncated_image_is_named(tmp_path: Path) -> None:
    file = save_photo(tmp_path / "half.png", 0, width=200, height=200)
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(ValueError, match=r"half\.png: expected an image"):
        decode(file, image_px=8)


def test_16_bit_image_is_refused(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(ValueError, match=r"deep\.png.*mode I;16 is not 8-bit"):
        decode(tmp_path / "deep.png", image_px=4)


def test_image_px_must_be_positive(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="image_px: expected a positive number of pixels, got 0"):
        Listed(str(tmp_path), [], [], 0, "content", "key").images("train", tmp_path)
