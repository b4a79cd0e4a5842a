"""Bi-trajectory matching: the base paper's method, with the exact gradient at constant memory."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Int64
from torch import Tensor

from engine import components
from engine.experts.trajectory import sample_segment
from engine.methods import Metrics, Sources, State, group
from engine.models.encode_once import encode_once
from engine.models.two_tower import TwoTower
from engine.synthetic.initialisation import Init, SeedPairs, initial_tensors
from engine.synthetic.set import SyntheticSet
from engine.tensors import MODALITIES, Params
from engine.unroll import Data, Draw, InnerLoss, Unroll


@dataclass(frozen=True, kw_only=True)
class Rates:
    """A student's learning rate a modality, as it starts."""

    image: float = 0.1
    text: float = 0.1


@dataclass(frozen=True, kw_only=True)
class Learn:
    """What of the synthetic set is learned; the ablations of one modality fix the other."""

    images: bool = True
    texts: bool = True
    rates: bool = True


@dataclass(frozen=True, kw_only=True)
class Method:
    """Match, in both towers, the expert's parameters ``span`` epochs on by ``inner_steps`` steps on synthetic pairs.

    ``inner_batch`` pairs (all, when None) make one inner step; batches run through a permutation of the pairs, so that
    each is used equally often. ``max_start`` is the number of start epochs, from 0 on.

    The published code trains its student at another temperature than the expert it is to match (the exponential of the
    logit scale is missing); here both use the same.

    References:
        arXiv 2308.07545, equation 3 and algorithm 1.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"experts"})

    num_pairs: int
    inner_steps: int = 8
    inner_batch: int | None = None
    span: int = 1
    max_start: int = 2
    inner_lr: Rates = field(default_factory=Rates)
    init: Init = field(default_factory=Init)
    learn: Learn = field(default_factory=Learn)
    gradient: Literal["exact", "stored"] = "exact"

    def epochs(self) -> Sequence[int]:
        """Return 0 .. max_start - 1 + span."""
        return range(self.max_start + self.span)

    def initial_state(self, seed_pairs: SeedPairs, sources: Sources, generator: torch.Generator) -> State:
        """Start from real pairs, cluster centres or noise."""
        images, texts = initial_tensors(self.init, seed_pairs, self.num_pairs, generator)
        return State(SyntheticSet(images, texts, {m: getattr(self.inner_lr, m) for m in MODALITIES}))

    def param_groups(self, state: State) -> list[dict[str, Any]]:
        """Return the images, the texts and the logarithms of the rates, as far as they are learned."""
        synthetic = state.synthetic
        groups = {
            "image": (self.learn.images, [synthetic.images]),
            "text": (self.learn.texts, [synthetic.texts]),
            "log": (self.learn.rates, list(synthetic.log_rates.values())),
        }
        return [group(name, parameters) for name, (learned, parameters) in groups.items() if learned]

    def backward(self, state: State, sources: Sources, generator: torch.Generator) -> Metrics:
        """Add the gradient of the matching loss of one random segment."""
        synthetic = state.synthetic
        segment = sample_segment(sources.experts, generator, span=self.span, max_start=self.max_start)
        batches = inner_batches(len(synthetic), self.inner_batch, self.inner_steps, generator)
        used, batches = only_used(batches)
        encoded = encode_once(sources.student.image, synthetic.images[used])
        device = encoded.inputs.device
        rates = {m: value.exp() for m, value in synthetic.log_rates.items()}
        problem = Unroll(
            loss=pair_loss(sources.student),
            start={name: value.to(device, copy=True) for name, value in segment.start.items()},
            target={name: value.to(device) for name, value in segment.target.items()},
            data={"images": encoded.inputs, "texts": synthetic.texts.detach()[used]},
            rates={m: value.detach() for m, value in rates.items()},
            draws=[Draw(pairs.to(device)) for pairs in batches],
        )
        result = components.find("gradient", self.gradient)(problem)
        encoded.pull_back(result.data["images"])
        synthetic.texts[used].backward(result.data["texts"])
        for modality, value in rates.items():
            value.backward(result.rates[modality])
        losses = {f"loss/{m}": value.item() for m, value in result.losses.items()}
        return {"loss": sum(losses.values()), **losses, **{f"inner_lr/{m}": v.item() for m, v in rates.items()}}


def pair_loss(student: TwoTower) -> InnerLoss:
    """Return the inner loss of identity similarity: the contrastive loss of a draw's pairs."""

    def loss(params: Params, data: Data, draw: Draw) -> Tensor:
        return student.loss(params, data["images"][draw.pairs], data["texts"][draw.pairs])

    return loss


def inner_batches(
    num_pairs: int, batch: int | None, steps: int, generator: torch.Generator
) -> list[Int64[Tensor, " b"]]:
    """Return the pairs of each inner step: whole permutations cut into batches, one after the other."""
    size = min(batch or num_pairs, num_pairs)
    rounds = -(-steps * size // num_pairs)
    order = torch.cat([torch.randperm(num_pairs, generator=generator) for _ in range(rounds)])
    return list(order[: steps * size].split(size))


def only_used(batches: list[Int64[Tensor, " b"]]) -> tuple[Int64[Tensor, " u"], list[Int64[Tensor, " b"]]]:
    """Return the distinct pairs that ``batches`` name, and the batches as positions among those."""
    used, positions = torch.unique(torch.stack(batches), return_inverse=True)
    return used, list(positions)
