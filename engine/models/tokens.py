"""Texts of a trained encoder: token ids, learnable token embeddings, and the transformer that reads them."""

from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

Pooling = Literal["mean", "cls"]


class TokenEmbeddings(nn.Module):
    """The frozen table of token embeddings, which turns ids into texts [tokens, dim + 1]; the last channel is the mask.

    Ids below zero are padding. The mask is compared with one half and so gets a gradient of zero: a synthetic text
    keeps its length.
    """

    def __init__(self, table: nn.Module) -> None:
        super().__init__()
        self.table = table

    def forward(self, ids: Int[Tensor, "b n"]) -> Float[Tensor, "b n channels"]:
        present = (ids >= 0).unsqueeze(-1)
        vectors = self.table(ids.long().clamp(min=0))
        return torch.cat([vectors * present, present.to(vectors)], dim=-1)


class EncoderOfTokens(nn.Module):
    """A transformer from token embeddings with their mask to one vector per text, pooled as the frozen one is.

    Padding behind the longest text of a batch is not run through it.
    """

    def __init__(self, model: Any, *, pooling: Pooling, normalize: bool) -> None:
        super().__init__()
        self.model = model
        self.pooling: Pooling = pooling
        self.normalize = normalize

    def forward(self, prepared: Float[Tensor, "b n channels"]) -> Float[Tensor, "b f"]:
        mask = mask_of(prepared)
        mask = mask[:, : max(1, int(mask.any(dim=0).sum()))]
        hidden = self.model(inputs_embeds=prepared[:, : mask.shape[1], :-1], attention_mask=mask).last_hidden_state
        pooled = pool(hidden, mask, pooling=self.pooling)
        return nn.functional.normalize(pooled, dim=1) if self.normalize else pooled


def mask_of(prepared: Float[Tensor, "b n channels"]) -> Int[Tensor, "b n"]:
    """Return 1 where a prepared text has a token and 0 where it is padding."""
    return (prepared[..., -1] > 0.5).long()


def pool(hidden: Float[Tensor, "b n dim"], mask: Int[Tensor, "b n"], *, pooling: Pooling) -> Float[Tensor, "b dim"]:
    """Return the mean of the states where ``mask`` is 1, or the state of the first token."""
    if pooling == "cls":
        return hidden[:, 0]
    weight = mask.unsqueeze(-1).to(hidden)
    return (hidden * weight).sum(1) / weight.sum(1).clamp(min=1)


def unused_parameters(encoder: EncoderOfTokens, channels: int) -> list[str]:
    """Return the parameters that an encoder's output does not depend on, which therefore cannot be trained."""
    named = dict(encoder.requires_grad_().named_parameters())
    with torch.enable_grad():
        output = encoder(next(iter(named.values())).new_ones(1, 3, channels))
        gradients = torch.autograd.grad(output.sum(), list(named.values()), allow_unused=True)
    encoder.requires_grad_(False)
    return [name for name, gradient in zip(named, gradients, strict=True) if gradient is None]
