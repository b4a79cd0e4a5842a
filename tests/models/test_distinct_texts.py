"""A text encoder that does not tell the captions of a split apart is refused, where embeddings are made."""

import numpy as np
import pytest

from engine import build
from engine.config.load import load, resolve
from engine.io.paths import Paths
from engine.models.distinct_texts import check_distinct
from engine.models.text import tfidf, transformers
from tests.models.text.test_transformers import CAPTIONS, tiny_bert
from tests.tiny import SPACE

TEXTS = [f"caption number {number}" for number in range(40)]
RANDOM = np.random.default_rng(0).normal(size=(40, 8)).astype(np.float32)


def check(rows: np.ndarray, texts: list[str] = TEXTS) -> None:
    check_distinct("tfidf", "val", tfidf.TfidfEncoder(dim=8, ngrams=1), texts, rows)


def shared(number: int, rows: np.ndarray = RANDOM) -> np.ndarray:
    """Return rows of which this many are the same up to rounding."""
    return np.concatenate([rows[:1] * np.linspace(1, 1 + 1e-6, number, dtype=np.float32)[:, None], rows[number:]])


def test_a_tenth_of_the_captions_may_share_a_vector() -> None:
    check(RANDOM)
    check(shared(4))
    with pytest.raises(
        ValueError,
        match=r"^student\.text\.encoder: tfidf maps 5 of the 40 different captions of val to one and the same vector, "
        r"expected at most a tenth; choose an encoder of their language",
    ):
        check(shared(5))


def test_a_tenth_of_the_captions_may_be_unknown() -> None:
    rows = RANDOM.copy()
    rows[:4] = 0
    check(rows)
    rows[:5] = 0
    with pytest.raises(
        ValueError, match=r"tfidf knows no word in 5 of the 40 .* of val \(such as 'caption number 0'\)"
    ):
        check(rows)


def test_the_same_text_many_times_is_one_text() -> None:
    texts = ["A dog.", "a dog", "a  dog!"] * 13 + ["two cats"]
    rows = RANDOM[:2][[0] * 39 + [1]]
    check(rows, texts)


def test_two_captions_of_a_small_split_may_share_a_vector() -> None:
    check(RANDOM[[0, 0, 1, 2]], TEXTS[:4])


def test_token_ids_are_compared_exactly() -> None:
    ids = 30_000 + np.arange(80, dtype=np.int32).reshape(40, 2)
    check(ids)
    ids[:5] = ids[0]
    with pytest.raises(ValueError, match=r"maps 5 of the 40"):
        check(ids)


def test_many_captions_are_compared_with_some() -> None:
    texts = [f"number {number}" for number in range(3000)]
    rows = np.random.default_rng(1).normal(size=(3000, 8)).astype(np.float32)
    check(rows, texts)
    rows[np.random.default_rng(2).permutation(3000)[:600]] = rows[0]
    with pytest.raises(ValueError, match="one and the same vector"):
        check(rows, texts)


def test_unknown_words_of_different_numbers_are_unknown(paths: Paths) -> None:
    tiny_bert(paths.weights / "tiny-bert")
    encoder = transformers.build(paths, model="tiny-bert")
    captions = [*CAPTIONS, "狗" * 3, "zebra zebra"]
    with pytest.raises(ValueError, match=r"transformers tiny-bert knows no word in 2 of the 6 .* of test"):
        check_distinct("transformers tiny-bert", "test", encoder, captions, encoder.embed(captions).numpy())


@pytest.mark.parametrize(
    ("text", "expected", "kept"),
    [
        ("encoder: tfidf, dim: 1, train: frozen", "tfidf maps 100 of the 100", 1),
        (
            "encoder: transformers, model: tiny-bert, train: frozen",
            "transformers tiny-bert knows no word in 100 of the",
            0,
        ),
        ("encoder: transformers, model: tiny-bert, train: full", "transformers tiny-bert knows no word in 100", 1),
    ],
)
def test_a_study_stops_before_the_embeddings_are_kept(text: str, expected: str, kept: int, paths: Paths) -> None:
    tiny_bert(paths.weights / "tiny-bert")
    (paths.weights / "tiny-bert" / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n1\n2\n3\n4\n5\n6\n7\n8")
    study = resolve(load(SPACE, [f"student.text={{{text}, head: linear}}"]))
    with pytest.raises(ValueError, match=rf"^student\.text\.encoder: {expected}"):
        build.build_setup(study, paths)
    found = list((paths.cache / "captions").glob("*.npy"))
    assert len(found) == kept, "the training captions alone, and none that a network embeds"
