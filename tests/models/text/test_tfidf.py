import pytest
import torch

from engine.io.paths import Paths
from engine.models.text import TextEncoder, tfidf

CAPTIONS = [
    f"a {size} {colour} {shape} on the {place}"
    for size in ("small", "large")
    for colour in ("red", "blue", "green")
    for shape in ("ball", "box", "star")
    for place in ("grass", "sea")
]


def fitted(paths: Paths, captions: list[str] = CAPTIONS, **options: int) -> tfidf.TfidfEncoder:
    encoder = tfidf.build(paths, **{"dim": 8, **options})
    encoder.fit(captions)
    return encoder


def test_is_a_text_encoder(paths: Paths) -> None:
    assert isinstance(tfidf.build(paths), TextEncoder)


def test_unit_vectors_near_for_like_captions(paths: Paths) -> None:
    encoder = fitted(paths)
    embeddings = encoder.embed(["a red ball on the grass", "a red ball", "a blue box on the sea"])
    assert embeddings.shape == (3, 8)
    assert embeddings.dtype == torch.float32
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(3))
    similarity = embeddings @ embeddings.T
    assert similarity[0, 1] > similarity[0, 2] + 0.3


def test_the_same_captions_give_the_same_numbers(paths: Paths) -> None:
    one, other = fitted(paths), fitted(paths)
    assert one.key == other.key
    assert torch.equal(one.embed(CAPTIONS), other.embed(CAPTIONS))


def test_unknown_words_give_zero(paths: Paths) -> None:
    assert torch.equal(fitted(paths).embed(["zebra", ""]), torch.zeros(2, 8))


def test_key_tells_options_and_captions_apart(paths: Paths) -> None:
    keys = {
        fitted(paths).key,
        fitted(paths, dim=9).key,
        fitted(paths, ngrams=1).key,
        fitted(paths, CAPTIONS[1:]).key,
        tfidf.build(paths, dim=8).key,
    }
    assert len(keys) == 5


def test_more_components_than_terms(paths: Paths) -> None:
    with pytest.raises(
        ValueError, match=r"text\.dim: 128 is too many for 2 captions with \d+ terms, expected at most 2"
    ):
        fitted(paths, ["red ball", "blue ball"], dim=128).embed(["red ball"])


def test_captions_without_words(paths: Paths) -> None:
    with pytest.raises(ValueError, match=r"captions: none of the 2 training captions holds a word"):
        fitted(paths, ["!", ""]).embed(["!"])


def test_embedding_before_fitting_is_our_mistake(paths: Paths) -> None:
    with pytest.raises(AssertionError, match="fit the encoder"):
        tfidf.build(paths).embed(["red ball"])
