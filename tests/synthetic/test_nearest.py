"""Which real captions are nearest to synthetic texts."""

import numpy as np
import torch

from engine.rng import named_generator
from engine.synthetic.nearest import nearest_captions, one_vector_each


def test_the_nearest_embedding_by_cosine() -> None:
    real = np.eye(4, dtype=np.float32)
    texts = torch.tensor([[0.0, 0.0, 9.0, 1.0], [0.2, 0.1, 0.0, 0.0]])
    assert nearest_captions(texts, real).tolist() == [2, 0]


def test_chunks_change_nothing() -> None:
    random = np.random.default_rng(0)
    real = random.normal(size=(50, 6)).astype(np.float32)
    texts = torch.randn(9, 6, generator=named_generator(0, "texts"))
    assert torch.equal(nearest_captions(texts, real, chunk=7), nearest_captions(texts, real))


def test_token_embeddings_are_compared_by_their_means_under_the_mask() -> None:
    table = torch.randn(5, 3, generator=named_generator(0, "table"))
    ids = np.array([[0, 1, -1], [2, -1, -1], [3, 4, 2]], dtype=np.int32)

    def prepare(rows: torch.Tensor) -> torch.Tensor:
        present = (rows >= 0).unsqueeze(-1)
        return torch.cat([table[rows.long().clamp(min=0)], present.float()], dim=-1)

    prepared = prepare(torch.from_numpy(ids))
    torch.testing.assert_close(one_vector_each(prepared)[0], table[:2].mean(dim=0))
    order = [1, 2, 0]
    assert nearest_captions(2 * prepared[order], ids, prepare=prepare).tolist() == order
