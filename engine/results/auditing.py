"""Compare a synthetic set with its data: words, groups of words, nearest photos, and what its students find."""

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import yaml
from jaxtyping import Bool, Float, UInt8
from PIL import Image

from engine.data.pairs import PairDataset
from engine.data.shared import ALIKE, closest, perceptual_hashes
from engine.models.words import Analyzer, analyzer
from engine.results.audit import DRAWS, Audit, Group, Nearest, Recalls, Share, Shown
from engine.rng import named_generator
from engine.synthetic.folder import eight_bits
from engine.synthetic.set import SyntheticSet
from engine.synthetic.tiles import tiles_of
from engine.tracking.time_lapse import small_webp

SHOWN = 6
"""Pairs that are shown with their nearest photos, and captions that are shown as kept and as lost."""
FOUND = 2
"""The largest digit of a caption whose image is among the first ten (``engine.evaluation.student.score_each``)."""


class Ranks(NamedTuple):
    """The digits of each student, one for each caption of test: of students of the set, and of all pairs."""

    of_set: Sequence[str]
    of_all: Sequence[str]


def audit(
    synthetic: SyntheticSet,
    train: PairDataset,
    test: PairDataset,
    *,
    captions: Sequence[str],
    folder: Path,
    ranks: Ranks | None = None,
) -> Audit:
    """Return what a set with its nearest ``captions`` kept and lost of ``train``; without ``ranks`` no retrieval.

    Perceptual hashes are kept below ``folder``.
    """
    terms, order = analyzer(1), named_generator(0, "audit")
    use = Counter(word for caption in train.captions for word in terms(caption))
    orders = [torch.randperm(len(train), generator=order)[: len(captions)].tolist() for _ in range(DRAWS)]
    draws = [[train.captions[row] for row in rows] for rows in orders]
    known = [{word for caption in side for word in terms(caption)} for side in (train.captions, captions, *draws)]
    nearest, copies = _nearest(synthetic, train, folder)
    return Audit(
        pairs=len(synthetic),
        captions=len(train),
        words=len(use),
        coverage=_share([sum(use[word] for word in words) / max(use.total(), 1) for words in known]),
        groups=_groups([train.captions, captions, *draws], test.captions, terms, ranks),
        nearest=nearest,
        copies=copies,
        recalls=None if ranks is None else _recalls(ranks, test),
    )


@cache
def word_groups() -> Mapping[str, frozenset[str]]:
    """Return the words of each group, as ``words.yaml`` lists them."""
    groups = yaml.safe_load(Path(__file__).with_name("words.yaml").read_text(encoding="utf-8"))
    return {name: frozenset(words.split()) for name, words in groups.items()}


def _share(values: Sequence[float]) -> Share:
    """Return a share of all captions, of the set's, and of each draw, in percent."""
    everywhere, kept, *random = (100 * float(value) for value in values)
    return Share(everywhere=everywhere, kept=kept, random=float(np.mean(random)), random_std=float(np.std(random)))


def _groups(
    sides: Sequence[Sequence[str]], queries: Sequence[str], terms: Analyzer, ranks: Ranks | None
) -> list[Group]:
    """Return the groups of words in each side's captions, and what students find of ``queries`` with such words."""
    marks = [_marks(captions, terms) for captions in sides]
    shares = [] if ranks is None else [_found(side) for side in ranks]
    groups = []
    for name, asked, *columns in zip(word_groups(), _marks(queries, terms).T, *(side.T for side in marks), strict=True):
        known = shares and asked.any()
        found, by_all = [100 * float(one[asked].mean()) for one in shares] if known else (None, None)
        share = _share([column.mean() for column in columns])
        groups.append(Group(name=name, share=share, queries=int(asked.sum()), found=found, found_by_all=by_all))
    return groups


def _marks(captions: Sequence[str], terms: Analyzer) -> Bool[np.ndarray, "m g"]:
    """Return which captions have a word of which group."""
    words, groups = [set(terms(caption)) for caption in captions], word_groups().values()
    return np.array([[not one.isdisjoint(group) for group in groups] for one in words], dtype=bool)


def _found(ranks: Sequence[str]) -> Float[np.ndarray, " t"]:
    """Return the share of students that find the image of each caption of test."""
    return np.stack([np.frombuffer(one.encode(), np.uint8) - ord("0") <= FOUND for one in ranks]).mean(axis=0)


def _nearest(synthetic: SyntheticSet, train: PairDataset, folder: Path) -> tuple[Nearest, list[Shown]]:
    """Return the training image nearest to each image of a set by perceptual hashes, and the nearest pairs to see.

    Of a mosaic each tile is compared, and the one counts that is nearest to a photo.
    """
    tiles = synthetic.tiles**2
    images = np.ascontiguousarray(eight_bits(tiles_of(synthetic.images.detach(), synthetic.tiles).flatten(0, 1)))
    found = closest(perceptual_hashes(images, folder), perceptual_hashes(train.images, folder))
    nearest = [tiles * pair + int(one.argmin()) for pair, one in enumerate(np.reshape(found.bits, (-1, tiles)))]
    rows, bits = ([int(side[row]) for row in nearest] for side in (found.row, found.bits))
    names, copies = [train.image_names[row] for row in rows], []
    for pair in sorted(range(len(bits)), key=bits.__getitem__)[:SHOWN]:
        shown = {"learned": _webp(images[nearest[pair]]), "nearest photo": _webp(train.images[rows[pair]])}
        copies.append(Shown(images=shown, text=f"pair {pair + 1}, {names[pair]}: {bits[pair]} of 256 bits differ"))
    return Nearest(names=names, bits=bits, alike=ALIKE), copies


def _recalls(ranks: Ranks, test: PairDataset) -> Recalls:
    """Return what at least half of the students find, and captions to see that are kept and lost the most clearly."""
    by_set, by_all = (_found(side) >= 0.5 for side in ranks)
    own, full = (np.mean([np.frombuffer(one.encode(), np.uint8) for one in side], axis=0) for side in ranks)
    return Recalls(
        queries=len(by_set),
        kept=int((by_set & by_all).sum()),
        lost=int((by_all & ~by_set).sum()),
        gained=int((by_set & ~by_all).sum()),
        still=_examples(np.flatnonzero(by_set & by_all), own + full, test),
        gone=_examples(np.flatnonzero(by_all & ~by_set), full - own, test),
    )


def _examples(rows: np.ndarray, order: Float[np.ndarray, " t"], test: PairDataset) -> list[Shown]:
    """Return the captions of ``rows`` with the least ``order``, each of another image."""
    chosen = dict[int, int]()
    for row in rows[np.argsort(order[rows], kind="stable")].tolist():
        chosen.setdefault(int(test.caption_image[row]), row)
    first = list(chosen.items())[:SHOWN]
    return [Shown(images={"photo": _webp(test.images[image])}, text=test.captions[row]) for image, row in first]


def _webp(image: UInt8[np.ndarray, "3 h w"]) -> str:
    return small_webp(Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0))), px=128, quality=80)
