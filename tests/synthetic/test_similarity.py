"""Similarities: all kinds start as the identity, and say what they learn."""

import pytest
import torch

from engine.rng import named_generator
from engine.synthetic.similarity import SimilarityOptions, make_similarity, similarity_of


@pytest.mark.parametrize(("kind", "numbers"), [("identity", 0), ("low_rank", 6 * (1 + 2 * 3)), ("full", 36)])
def test_every_kind_starts_as_the_identity(kind: str, numbers: int) -> None:
    made = make_similarity(SimilarityOptions(kind=kind, rank=3, alpha=2.0), 6, named_generator(0, "similarity"))  # type: ignore[arg-type]
    assert sum(value.numel() for value in made.parameters()) == numbers
    matrix = made()
    assert (matrix is None) == (kind == "identity")
    if matrix is not None:
        assert torch.equal(matrix, torch.eye(6))


def test_a_low_rank_similarity_by_hand() -> None:
    made = make_similarity(SimilarityOptions(rank=2, alpha=3.0), 4, named_generator(0, "similarity"))
    with torch.no_grad():
        made.diagonal.copy_(torch.tensor([1.0, 2.0, 3.0, 4.0]))
        made.right.copy_(torch.arange(8.0).view(4, 2))
    expected = torch.diag(torch.tensor([1.0, 2.0, 3.0, 4.0]))
    for i in range(4):
        for j in range(4):
            expected[i, j] += 1.5 * sum(made.left[i, r].item() * made.right[j, r].item() for r in range(2))
    torch.testing.assert_close(made(), expected)


@pytest.mark.parametrize("kind", ["identity", "low_rank", "full"])
def test_tensors_give_a_similarity_back(kind: str) -> None:
    made = make_similarity(SimilarityOptions(kind=kind, rank=3), 5, named_generator(0, "similarity"))  # type: ignore[arg-type]
    again = similarity_of(dict(made.state_dict()))
    assert type(again) is type(made)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in made.state_dict().items())


def test_foreign_tensors_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^similarity: expected the tensors of a low_rank or a full one, found \['a'"):
        similarity_of({"a": torch.zeros(1)})
