"""The audit of a set: words and groups by hand, planted copies, and what students find."""

from pathlib import Path

import numpy as np
import pytest
import torch

from engine.data.pairs import PairDataset
from engine.results.audit import AUDIT, Audit, read_audit, write_audit
from engine.results.auditing import Ranks, audit, word_groups
from engine.rng import named_generator
from engine.synthetic.set import SyntheticSet

TRAIN = ("a red dog", "a dog", "a woman runs", "rocks", "a red bus", "a man runs")
TEST = ("a dog swims", "two dogs", "a woman", "a green zebra")


def photos(number: int, *, seed: int) -> np.ndarray:
    draw = named_generator(seed, "photos")
    coarse = torch.rand(number, 3, 17, 17, generator=draw)
    return (torch.nn.functional.interpolate(coarse, size=(34, 34)) * 255).byte().numpy()


def dataset(captions: tuple[str, ...], *, seed: int) -> PairDataset:
    names = tuple(f"{number}.jpg" for number in range(len(captions)))
    return PairDataset(photos(len(captions), seed=seed), names, captions, np.arange(len(captions), dtype=np.int64))


def audited(tmp_path: Path, *, captions: tuple[str, ...], ranks: Ranks | None = None) -> Audit:
    train, test = dataset(TRAIN, seed=0), dataset(TEST, seed=1)
    images = torch.from_numpy(np.stack([train.images[4], photos(1, seed=2)[0]])).float() / 255
    synthetic = SyntheticSet(images, torch.rand(2, 4), {"image": 0.1, "text": 0.1})
    return audit(synthetic, train, test, captions=captions, folder=tmp_path, ranks=ranks)


def test_coverage_is_weighted_by_use(tmp_path: Path) -> None:
    found = audited(tmp_path, captions=("a red dog", "the red one"))
    # red 2, dog 2, runs 2, woman, rocks, bus, man: 10 uses (words of one letter are none), of which red and dog are 4
    assert (found.words, found.captions, found.coverage.everywhere) == (7, 6, 100.0)
    assert found.coverage.kept == pytest.approx(40.0)
    assert 10.0 <= found.coverage.random < 60.0
    everything = audited(tmp_path, captions=TRAIN)
    assert everything.coverage.kept == everything.coverage.random == 100.0
    assert everything.coverage.random_std == 0.0


def test_groups_are_counted_in_the_data_the_set_and_what_is_found(tmp_path: Path) -> None:
    found = audited(tmp_path, captions=("a red dog", "dogs"), ranks=Ranks(["0333", "2333"], ["0303"]))
    groups = {one.name: one for one in found.groups}
    assert groups["animals"].share.everywhere == pytest.approx(100 * 2 / 6)
    assert groups["animals"].share.kept == 100.0
    assert groups["women and girls"].share.kept == 0.0
    assert groups["people"].share.everywhere == pytest.approx(100 * 2 / 6)
    animals = groups["animals"]
    assert (animals.queries, animals.found, animals.found_by_all) == (3, pytest.approx(100 / 3), pytest.approx(100 / 3))
    assert (groups["children"].queries, groups["children"].found) == (0, None)
    assert {cells[0] for cells in found.table()} == {"people", "women and girls", "men and boys", "animals", "colours"}


def test_a_caption_is_kept_or_lost_by_half_of_the_students(tmp_path: Path) -> None:
    ranks = Ranks(["0331", "2332"], ["0133", "3133"])
    recalls = audited(tmp_path, captions=TRAIN[:2], ranks=ranks).recalls
    assert recalls is not None
    assert (recalls.queries, recalls.kept, recalls.lost, recalls.gained) == (4, 1, 1, 1)
    assert [one.text for one in recalls.still] == ["a dog swims"]
    assert [one.text for one in recalls.gone] == ["two dogs"]


def test_a_copy_of_a_photo_is_found(tmp_path: Path) -> None:
    found = audited(tmp_path, captions=TRAIN[:2])
    assert (found.nearest.names[0], found.nearest.bits[0]) == ("4.jpg", 0)
    assert found.nearest.bits[1] > found.nearest.alike
    assert found.copies[0].text == "pair 1, 4.jpg: 0 of 256 bits differ"
    assert "Copies: 1 of 2 images look like" in found.sentences()[1]


def test_captions_of_another_language_have_words_and_no_groups(tmp_path: Path) -> None:
    train = dataset(("ein Hund läuft", "红色的狗"), seed=0)
    synthetic = SyntheticSet(torch.rand(1, 3, 34, 34), torch.rand(1, 4), {"image": 0.1, "text": 0.1})
    found = audit(synthetic, train, train, captions=("ein Hund läuft",), folder=tmp_path)
    assert (found.words, found.table()) == (10, [])
    assert "No training caption has an English word" in found.markdown()


def test_an_audit_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert read_audit(tmp_path) is None
    found = audited(tmp_path, captions=TRAIN[:2], ranks=Ranks(["0333"], ["0133"]))
    write_audit(tmp_path, found)
    read = read_audit(tmp_path)
    assert read is not None
    assert (read.sentences(), read.table(), read.copies[0].text) == (
        found.sentences(), found.table(), found.copies[0].text)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "expected a JSON file"),
        ("3", "got format_version None, expected 1"),
        ('{"format_version": 2}', "got format_version 2, expected 1"),
        ('{"format_version": 1, "pairs": "many"}', "it is not the audit of a set"),
    ],
)
def test_a_damaged_audit_is_one_sentence(text: str, told: str, tmp_path: Path) -> None:
    (tmp_path / AUDIT).write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=told) as caught:
        read_audit(tmp_path)
    assert str(tmp_path / AUDIT) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_words_are_lower_case_and_long_enough_to_be_found() -> None:
    for name, words in word_groups().items():
        assert words, name
        assert all(word == word.lower() and len(word) > 1 for word in words)
