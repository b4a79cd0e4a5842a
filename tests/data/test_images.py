import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engine.data import images as images_module
from engine.data.images import decode, decoded_images, locate_images
from tests.data.photos import save_photo, save_photos

ANNOTATION = Path("captions.json")


def test_array_holds_every_image_in_order(tmp_path: Path) -> None:
    files = save_photos(tmp_path / "photos", [f"{index}.png" for index in range(70)])
    array = decoded_images(files, image_px=8, cache=tmp_path / "cache")
    assert array.shape == (70, 3, 8, 8)
    assert array.dtype == np.uint8
    for index in (0, 1, 69):
        np.testing.assert_array_equal(array[index], decode(files[index], image_px=8))


def test_keyed_by_content_not_by_name_or_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = save_photos(tmp_path / "photos", ["a.png", "b.png"])
    first = decoded_images(files, image_px=8, cache=tmp_path / "cache")
    os.utime(files[0], (1, 1))
    renamed = [file.rename(file.with_stem(f"{file.stem}-renamed")) for file in files]
    decodings: list[Path] = []
    monkeypatch.setattr(images_module, "decode", lambda file, *, image_px: decodings.append(file))
    again = decoded_images(renamed, image_px=8, cache=tmp_path / "cache")
    assert decodings == []
    np.testing.assert_array_equal(first, again)


def test_changed_content_of_equal_size_is_decoded_again(tmp_path: Path) -> None:
    file = tmp_path / "a.bmp"
    arrays = []
    for value in (10, 200):
        Image.new("RGB", (8, 8), (value, value, value)).save(file)
        os.utime(file, (1, 1))
        arrays.append(decoded_images([file], image_px=4, cache=tmp_path / "cache"))
    assert arrays[0].max() == 10
    assert arrays[1].min() == 200


def test_order_and_size_are_part_of_the_key(tmp_path: Path) -> None:
    files = save_photos(tmp_path / "photos", ["a.png", "b.png"])
    cache = tmp_path / "cache"
    forward, backward = (decoded_images(order, image_px=8, cache=cache) for order in (files, files[::-1]))
    np.testing.assert_array_equal(forward, backward[::-1])
    assert decoded_images(files, image_px=4, cache=cache).shape == (2, 3, 4, 4)


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


@pytest.mark.parametrize("content", [b"", b"no image at all", b"\x89PNG\r\n\x1a\n broken"])
def test_corrupt_image_is_named(tmp_path: Path, content: bytes) -> None:
    good = save_photo(tmp_path / "good.png", 0)
    bad = tmp_path / "bad.png"
    bad.write_bytes(content)
    with pytest.raises(ValueError, match=r"bad\.png: expected an image, but it cannot be decoded"):
        decoded_images([good, bad], image_px=8, cache=tmp_path / "cache")
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
        decoded_images([], image_px=0, cache=tmp_path)


def test_missing_images_are_counted(tmp_path: Path) -> None:
    save_photos(tmp_path, ["a.png", "c.png"])
    with pytest.raises(FileNotFoundError, match=r"captions\.json: image 'b\.png' is not in .*; 2 of 4 images"):
        locate_images(tmp_path, ["a.png", "b.png", "c.png", "d.png"], annotation=ANNOTATION)


@pytest.mark.parametrize("name", ["../out.png", "below/../../out.png", "linked/../../out.png", "ABSOLUTE", ""])
def test_names_that_leave_the_folder_are_refused(tmp_path: Path, name: str) -> None:
    root, outside = tmp_path / "root", tmp_path / "rootless"
    outside_file = save_photo(outside / "out.png", 0)
    (root / "below").mkdir(parents=True)
    (root / "linked").symlink_to(outside)
    name = str(outside_file) if name == "ABSOLUTE" else name
    with pytest.raises(ValueError, match=r"captions\.json: image .* leads out of the image folder"):
        locate_images(root, [name], annotation=ANNOTATION)


def test_links_below_the_folder_are_followed(tmp_path: Path) -> None:
    root, disk = tmp_path / "root", tmp_path / "disk"
    file = save_photo(disk / "train2014" / "a.png", 0)
    root.mkdir()
    (root / "train2014").symlink_to(disk / "train2014")
    (root / "b.png").symlink_to(file)
    names = ["train2014/a.png", "b.png"]
    assert locate_images(root, names, annotation=ANNOTATION) == [root / name for name in names]


def test_folder_that_is_a_link_is_fine(tmp_path: Path) -> None:
    save_photo(tmp_path / "disk" / "a.png", 0)
    (tmp_path / "root").symlink_to(tmp_path / "disk")
    assert locate_images(tmp_path / "root", ["a.png"], annotation=ANNOTATION) == [tmp_path / "root" / "a.png"]
