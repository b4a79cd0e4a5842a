"""What all methods share that unroll a student: inner batches, the inner loss, and the gradient of what is lost."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Int64
from torch import Tensor

from engine.data.pairs import one_an_image
from engine.experts.shortcut import ShortcutSource
from engine.experts.trajectory import ExpertSource, Segment
from engine.losses.contrastive import LossName
from engine.losses.matching import Distance, matching_losses
from engine.methods import Metrics, Sources, group
from engine.models.encode_once import encode_once
from engine.models.two_tower import TwoTower
from engine.ranges import Positive
from engine.synthetic.set import SyntheticSet
from engine.tensors import Params
from engine.unroll import Data, InnerBatch, InnerLoss, OuterLosses, Unroll, exact, stored, truncated

GradientName = Literal["exact", "stored", "truncated"]
GRADIENTS = {"exact": exact.gradient, "stored": stored.gradient, "truncated": truncated.gradient}


@dataclass(frozen=True, kw_only=True)
class LearningRates:
    """A student's learning rate a modality, as it starts."""

    image: Positive = 0.1
    text: Positive = 0.1


@dataclass(frozen=True, kw_only=True)
class Learn:
    """What of the synthetic set is learned; the ablations of one modality fix the other."""

    images: bool = True
    texts: bool = True
    learning_rates: bool = True


def learned_groups(synthetic: SyntheticSet, learn: Learn) -> list[dict[str, Any]]:
    """Return the parameter groups of images, texts, logarithms of the rates and similarity, as far as there are any."""
    groups = {
        "image": (learn.images, [synthetic.images]),
        "text": (learn.texts, [synthetic.texts]),
        "log": (learn.learning_rates, list(synthetic.log_rates.values())),
        "similarity": (True, list(synthetic.similarity.parameters())),
    }
    return [group(name, parameters) for name, (learned, parameters) in groups.items() if learned and parameters]


def trajectories(source: ExpertSource, shortcut: int | None) -> ExpertSource:
    """Return the trajectories themselves, or shortcuts of their first ``shortcut`` epochs."""
    return source if shortcut is None else ShortcutSource(source, shortcut)


def epochs_read(*, span: int, max_start: int, text_max_start: int | None, shortcut: int | None) -> Sequence[int]:
    """Return the epochs that segments begin and end at, and those that a shortcut is made from.

    Raises:
        ValueError: a segment would end behind the end of the shortcut.
    """
    last = max(max_start, text_max_start or 0) - 1 + span
    if shortcut is not None and last > shortcut:
        raise ValueError(f"method.shortcut is {shortcut}, expected at least {last}, the last epoch of a segment.")
    return range((shortcut or last) + 1)


def inner_batches(
    num_pairs: int, batch: int | None, steps: int, generator: torch.Generator
) -> list[Int64[Tensor, " b"]]:
    """Return the pairs of each inner step: whole permutations cut into batches, one after the other."""
    size = min(batch or num_pairs, num_pairs)
    rounds = -(-steps * size // num_pairs)
    order = torch.cat([torch.randperm(num_pairs, generator=generator) for _ in range(rounds)])
    return list(order[: steps * size].split(size))


def inner_loss(student: TwoTower, *, loss: LossName = "info_nce", temperature: float | None = None) -> InnerLoss:
    """Return the inner loss: that of a draw's pairs, blended where it says so, at their similarity if it is learned."""

    def of_draw(params: Params, data: Data, draw: InnerBatch) -> Tensor:
        images, texts = data["images"][draw.pairs], data["texts"][draw.pairs]
        if draw.blend is not None:
            weight, partner = draw.blend.weight, draw.blend.partner
            images = weight * images + (1 - weight) * images[partner]
            texts = weight * texts + (1 - weight) * texts[partner]
        similarity = data["similarity"][draw.pairs][:, draw.pairs] if "similarity" in data else None
        return student.loss(params, images, texts, similarity=similarity, loss=loss, temperature=temperature)

    return of_draw


def match_segment(
    synthetic: SyntheticSet,
    student: TwoTower,
    segment: Segment,
    draws: list[InnerBatch],
    loss: InnerLoss,
    *,
    gradient: GradientName,
    distance: Distance = "per_modality",
    besides: OuterLosses | None = None,
) -> Metrics:
    """Add the gradient of the matching loss of one segment to everything in ``synthetic``, and return the losses.

    ``besides`` gives further losses at the end of the unroll.
    """
    device = synthetic.images.device
    start = {name: value.to(device, copy=True) for name, value in segment.start.items()}
    target = {name: value.to(device) for name, value in segment.target.items()}

    def end(params: Params) -> dict[str, Tensor]:
        losses = matching_losses(params, start, target, distance=distance)
        return losses if besides is None else {**losses, **besides(params)}

    return unroll_backward(synthetic, student, start, draws, loss, end, gradient=gradient)


def unroll_backward(
    synthetic: SyntheticSet,
    student: TwoTower,
    start: Params,
    draws: list[InnerBatch],
    loss: InnerLoss,
    end: OuterLosses,
    *,
    gradient: GradientName,
) -> Metrics:
    """Add the gradient of what is lost at the end of an unroll to everything in ``synthetic``, and return the losses.

    The frozen part of the image tower runs once on the images that the draws use; the similarity matrix is made once.
    """
    used, pairs = _only_used([draw.pairs for draw in draws])
    encoded = encode_once(student.image, synthetic.images[used])
    device = encoded.inputs.device
    outside: dict[str, Tensor] = {"texts": synthetic.texts[used]}
    similarity = synthetic.similarity()
    if similarity is not None:
        outside["similarity"] = similarity[used][:, used]
    learning_rates = {m: value.exp() for m, value in synthetic.log_rates.items()}
    problem = Unroll(
        loss=loss,
        start=start,
        end=end,
        data={"images": encoded.inputs, **{name: value.detach() for name, value in outside.items()}},
        learning_rates={m: value.detach() for m, value in learning_rates.items()},
        draws=[InnerBatch(own.to(device), draw.blend) for draw, own in zip(draws, pairs, strict=True)],
    )
    result = GRADIENTS[gradient](problem)
    encoded.pull_back(result.data["images"])
    roots = [*outside.values(), *learning_rates.values()]
    torch.autograd.backward(
        roots, [*(result.data[name] for name in outside), *(result.learning_rates[m] for m in learning_rates)]
    )
    losses = {f"loss/{name}": value.item() for name, value in result.losses.items()}
    return {"loss": sum(losses.values()), **losses, **{f"inner_lr/{m}": v.item() for m, v in learning_rates.items()}}


def loss_on_real(sources: Sources, count: int, generator: torch.Generator, *, weight: float = 1.0) -> OuterLosses:
    """Return ``weight`` times the contrastive loss, as a function of parameters, of real pairs that are drawn now.

    The pairs are of distinct images as far as there are enough.
    """
    pairs, student = sources.pairs, sources.student
    device = student.device
    chosen = one_an_image(pairs.caption_image, torch.randperm(len(pairs), generator=generator))[:count]
    images = pairs.image_rows(pairs.images_of(chosen), device)
    texts = student.text.prepare(pairs.text_rows(chosen, device))
    return lambda params: {"real": weight * student.loss(params, images, texts)}


def _only_used(batches: list[Int64[Tensor, " b"]]) -> tuple[Int64[Tensor, " u"], list[Int64[Tensor, " b"]]]:
    """Return the distinct pairs that ``batches`` name, and the batches as positions among those."""
    used, positions = torch.unique(torch.stack(batches), return_inverse=True)
    return used, list(positions)
