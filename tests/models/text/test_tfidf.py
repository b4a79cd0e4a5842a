import pytest
import torch

from engine.models.text import TextEncoder, tfidf
from engine.places import Places

CAPTIONS = [
    f"a {size} {colour} {shape} on the {place}"
    for size in ("small", "large")
    for colour in ("red", "blue", "green")
    for shape in ("ball", "box", "star")
    for place in ("grass", "sea")
]


def fitted(places: Places, captions: list[str] = CAPTIONS, **options: int) -> tfidf.TfidfEncoder:
    encoder = tfidf.build(places, **{"dim": 8, **options})
    encoder.fit(captions)
    return encoder


def test_is_a_text_encoder(places: Places) -> None:
    assert isinstance(tfidf.build(places), TextEncoder)


def test_unit_vectors_near_for_like_captions(places: Places) -> None:
    encoder = fitted(places)
    embeddings = encoder.embed(["a red ball on the grass", "a red ball", "a blue box on the sea"])
    assert embeddings.shape == (3, 8)
    assert embeddings.dtype == torch.float32
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(3))
    similarity = embeddings @ embeddings.T
    assert similarity[0, 1] > similarity[0, 2] + 0.3


def test_the_same_captions_give_the_same_numbers(places: Places) -> None:
    one, other = fitted(places), fitted(places)
    assert one.key == other.key
    assert torch.equal(one.embed(CAPTIONS), other.embed(CAPTIONS))


def test_unknown_words_give_zero(places: Places) -> None:
    assert torch.equal(fitted(places).embed(["zebra", ""]), torch.zeros(2, 8))


def test_key_tells_options_and_captions_apart(places: Places) -> None:
    keys = {
        fitted(places).key,
        fitted(places, dim=9).key,
        fitted(places, ngrams=1).key,
        fitted(places, CAPTIONS[1:]).key,
        tfidf.build(places, dim=8).key,
    }
    assert len(keys) == 5


def test_more_components_than_terms(places: Places) -> None:
    with pytest.raises(
        ValueError, match=r"text\.dim: 128 is too many for 2 captions with \d+ terms, expected at most 2"
    ):
        fitted(places, ["red ball", "blue ball"], dim=128).embed(["red ball"])


def test_captions_without_words(places: Places) -> None:
    with pytest.raises(ValueError, match=r"captions: none of the 2 training captions holds a word"):
        fitted(places, ["!", ""]).embed(["!"])


@pytest.mark.parametrize("option", ["dim", "ngrams"])
def test_options_out_of_range(places: Places, option: str) -> None:
    with pytest.raises(ValueError, match=rf"text\.{option}: expected a positive number, got 0"):
        tfidf.build(places, **{option: 0})


def test_embedding_before_fitting_is_our_mistake(places: Places) -> None:
    with pytest.raises(AssertionError, match="fit the encoder"):
        tfidf.build(places).embed(["red ball"])
