import csv
import math
import warnings
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.font_manager import findfont, get_font
from PIL import Image

from engine.synthetic.set import SyntheticSet
from engine.tracking import pictures
from engine.tracking.pictures import draw_pairs, write_set_pictures

LONG = "A man in a red shirt climbs a very large granite rock face while all his friends watch from the ground below"
FAMILIES = ("DejaVu Sans", "STIXGeneral")
"""Both are in matplotlib itself."""
WIDE = "Two women with warm woolen mittens swim, as a mammoth with $5 and $6 would, among many wild snowmen"


def synthetic(images: torch.Tensor, texts: torch.Tensor) -> SyntheticSet:
    return SyntheticSet(images, texts, {"image": 0.1, "text": 0.1})


def flat(colours: list[tuple[int, int, int]], px: int) -> torch.Tensor:
    """Return images of one colour each."""
    return (torch.tensor(colours) / 255)[:, :, None, None].expand(-1, -1, px, px).clone()


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def box(page: np.ndarray, colour: tuple[int, int, int]) -> tuple[int, int, int, int]:
    """Return top, left, bottom and right (exclusive) of the only rectangle of a colour."""
    rows, columns = np.nonzero((page == colour).all(axis=2))
    top, left, bottom, right = rows.min(), columns.min(), rows.max() + 1, columns.max() + 1
    assert len(rows) == (bottom - top) * (right - left), "the rectangle is full"
    return int(top), int(left), int(bottom), int(right)


@pytest.mark.parametrize(("count", "px"), [(1, 8), (4, 64), (14, 128)])
def test_every_pair_has_two_panels_in_reading_order(tmp_path: Path, count: int, px: int) -> None:
    before = [(200, 10 * pair, 0) for pair in range(count)]
    after = [(0, 10 * pair, 200) for pair in range(count)]
    texts = torch.eye(count, 16)
    first, now = synthetic(flat(before, px), texts), synthetic(flat(after, px), texts)
    write_set_pictures(tmp_path, first, now, captions=[LONG] * count, texts=texts.numpy())
    page = pixels(tmp_path / "before_after.png")
    shown = min(count, 12)
    panels = [box(page, colour) for pair in range(shown) for colour in (before[pair], after[pair])]
    sizes = {side for top, left, bottom, right in panels for side in (bottom - top, right - left)}
    assert sizes <= {223, 224, 225, 226, 227}, "1.5 inches at 150 dots each"
    assert all(a[:2] < b[:2] and (a[3] <= b[1] or a[2] <= b[0]) for a, b in pairwise(panels)), "apart, and in order"
    assert len({top for top, *_ in panels}) == -(-shown // 3)
    for pair in range(shown, count):
        assert not (page == before[pair]).all(axis=2).any(), "no more than twelve pairs"
    for top, left, bottom, right in panels:
        assert (page[bottom + 2 : bottom + 80, left:right] < 128).any(), "a caption stands below"
        assert (page[: top - 1, left:right] < 128).any(), "a title stands above"


def test_the_pixels_of_the_images_are_enlarged_unsmoothed_and_clamped(tmp_path: Path) -> None:
    image = torch.tensor([[1.8, 0.0], [-3.0, math.nan]]).expand(1, 3, 2, 2).clone().requires_grad_()
    figure = draw_pairs(image, torch.full((1, 3, 2, 2), 0.2), ["a"], ["b"])
    FigureCanvasAgg(figure).print_png(str(tmp_path / "a.png"))
    page = pixels(tmp_path / "a.png")
    top, left, bottom, right = box(page, (51, 51, 51))
    panel = page[top:bottom, 27 : 27 + right - left]  # the left margin is 0.18 inches
    height, width = panel.shape[:2]
    corners = panel[[height // 4, height // 4, -height // 4, -height // 4], [width // 4, -width // 4] * 2]
    assert corners[:, 0].tolist() == [255, 0, 0, 0]
    assert set(np.unique(panel[5:-5, 5:-5])) == {0, 255}


@pytest.mark.parametrize("count", [1, 5])
def test_captions_lie_within_the_page_and_do_not_meet(count: int) -> None:
    images = torch.zeros(count, 3, 8, 8)
    figure = draw_pairs(images, images, [LONG] * count, [WIDE] * count)
    renderer = FigureCanvasAgg(figure).get_renderer()
    boxes = [text.get_window_extent(renderer) for axes in figure.axes for text in axes.texts]
    assert len(boxes) == 2 * count
    page = figure.bbox
    assert all(page.x0 < b.x0 and b.x1 < page.x1 and page.y0 < b.y0 and b.y1 < page.y1 for b in boxes)
    assert not any(a.overlaps(b) for number, a in enumerate(boxes) for b in boxes[:number])
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts == ["A man in a red shirt\nclimbs a very large\ngranite rock face while\nall his friends watch …"]


def test_the_table_names_the_nearest_captions(tmp_path: Path) -> None:
    images = torch.zeros(2, 3, 4, 4)
    first, now = synthetic(images, torch.eye(3)[:2]), synthetic(images, torch.eye(3)[1:])
    write_set_pictures(tmp_path, first, now, captions=["a", "b", "c"], texts=np.eye(3, dtype=np.float32))
    assert (tmp_path / "captions.tsv").read_text() == "pair\tnearest at the start\tnearest now\n0\ta\tb\n1\tb\tc\n"


CELLS = ["a\ttab", "two\nlines", "a\rreturn", "\r\n", 'a 12" lamp', '"quoted"', "=1+1, or so", " blank "]


def test_captions_of_any_text_stay_whole_in_the_table(tmp_path: Path) -> None:
    count = len(CELLS)
    pair = synthetic(torch.zeros(count, 3, 4, 4), torch.eye(count))
    write_set_pictures(tmp_path, pair, pair, captions=CELLS, texts=np.eye(count, dtype=np.float32))
    with (tmp_path / "captions.tsv").open(encoding="utf-8", newline="") as file:
        assert list(csv.reader(file, "excel-tab"))[1:] == [[str(n), text, text] for n, text in enumerate(CELLS)]
    frame = polars.read_csv(tmp_path / "captions.tsv", separator="\t")
    assert frame["nearest now"].to_list() == CELLS


def test_a_page_draws_characters_in_a_font_that_has_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain, other = ({chr(code) for code in get_font(findfont(family)).get_charmap()} for family in FAMILIES)
    letter = min(one for one in other - plain if one.isprintable())
    pair = synthetic(torch.zeros(1, 3, 4, 4), torch.eye(1))
    write_set_pictures(tmp_path, pair, pair, captions=[f"a {letter}"], texts=np.eye(1, dtype=np.float32))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib warns of boxes
        FigureCanvasAgg(draw_pairs(pair.images, pair.images, [letter], [letter])).draw()
    assert capsys.readouterr().out == ""


def test_characters_that_no_font_has_are_reported_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures, "_reported", [])
    pair = synthetic(torch.zeros(2, 3, 4, 4), torch.eye(2))
    captions = ["\U00012000 only here", "\U00012001 and here"]  # cuneiform
    few = [font for font in pictures.fontManager.ttflist if font.name in FAMILIES]
    monkeypatch.setattr(pictures.fontManager, "ttflist", few)
    for _ in range(2):
        write_set_pictures(tmp_path, pair, pair, captions=captions, texts=np.eye(2, dtype=np.float32))
    told = capsys.readouterr().out
    assert told.startswith("before_after.png: no font on this machine has 2 of the captions' characters (such as ")
    assert told.count("\n") == 1


def test_wide_characters_lie_within_the_page_too() -> None:
    images = torch.zeros(2, 3, 8, 8)
    figure = draw_pairs(images, images, ["一只狗在草地上奔跑" * 9] * 2, ["一只狗在草地上奔跑" * 9] * 2)
    lines = [line for axes in figure.axes for text in axes.texts for line in text.get_text().split("\n")]
    assert len(lines) == 16
    assert all(len(line) <= 13 for line in lines)


def test_a_picture_is_whole_or_absent(tmp_path: Path) -> None:
    (tmp_path / "before_after.png").mkdir()
    pair = synthetic(torch.zeros(1, 3, 4, 4), torch.eye(1, 3))
    with pytest.raises(OSError, match=r"before_after\.png"):
        write_set_pictures(tmp_path, pair, pair, captions=["a"], texts=np.eye(1, 3, dtype=np.float32))
    assert [file.name for file in tmp_path.iterdir()] == ["before_after.png"], "nothing half-written is left"
