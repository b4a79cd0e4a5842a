"""A student unrolled on a synthetic set: its inner batches and inner loss, and the gradient of the set."""

from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from engine.experts.trajectory import Segment
from engine.losses.contrastive import LossName
from engine.losses.matching import Distance, matching_losses
from engine.models.encode_once import encode_once
from engine.models.two_tower import TwoTower
from engine.synthetic.set import SyntheticSet
from engine.tensors import Params
from engine.unroll import GRADIENTS, GradientName
from engine.unroll.replay import replayed
from engine.unroll.steps import Data, InnerBatch, InnerLoss, OuterLoss, Unroll, rollout


def inner_batches(num_pairs: int, size: int | None, steps: int, generator: torch.Generator) -> list[InnerBatch]:
    """Draw the pairs of each inner step: permutations of all pairs, cut into batches of ``size`` (None: all pairs).

    No batch holds a pair twice, because a pair would then be its own negative: where a batch continues in the next
    permutation, the pairs that it already has are moved behind it. Each permutation is used up before the next, so
    that all pairs are used equally often up to one.
    """
    size = min(size or num_pairs, num_pairs)
    batches, rest = [], torch.empty(0, dtype=torch.int64)
    for _ in range(steps):
        if len(rest) < size:
            order = torch.randperm(num_pairs, generator=generator)
            first = order[~torch.isin(order, rest)][: size - len(rest)]
            rest = torch.cat([rest, first, order[~torch.isin(order, first)]])
        batches.append(InnerBatch(rest[:size]))
        rest = rest[size:]
    return batches


def inner_loss(student: TwoTower, *, loss: LossName = "info_nce", temperature: float | None = None) -> InnerLoss:
    """Return the loss of one inner batch: mixed where the batch has a mixup, towards the similarity if it is learned.

    ``temperature`` None is the student's own.
    """

    return partial(batch_loss, student=student, loss=loss, temperature=temperature)


def batch_loss(
    params: Params, data: Data, batch: InnerBatch, *, student: TwoTower, loss: LossName, temperature: float | None
) -> Float[Tensor, ""]:
    """Return the loss of ``inner_loss``."""
    images, texts = data["images"][batch.pairs], data["texts"][batch.pairs]
    if batch.mixup is not None:
        weight, partner = batch.mixup.weight, batch.mixup.partner
        images = weight * images + (1 - weight) * images[partner]
        texts = weight * texts + (1 - weight) * texts[partner]
    similarity = data["similarity"][batch.pairs][:, batch.pairs] if "similarity" in data else None
    return student.loss(params, images, texts, similarity=similarity, loss=loss, temperature=temperature)


def unroll_backward(
    synthetic: SyntheticSet,
    student: TwoTower,
    start: Params,
    batches: Sequence[InnerBatch],
    inner_loss: InnerLoss,
    outer_loss: OuterLoss,
    *,
    gradient: GradientName,
) -> dict[str, float]:
    """Add the gradient of the outer loss of one unroll to all that is learned of ``synthetic``, and return the losses.

    The frozen part of the image tower runs once on the images that the batches use; the similarity is computed once.
    """
    distinct = torch.unique(torch.stack([batch.pairs for batch in batches]), return_inverse=True)
    used, pairs = (indices.to(synthetic.images.device) for indices in distinct)
    encoded = encode_once(student.image, synthetic.images, used)
    differentiable: dict[str, Tensor] = {"texts": synthetic.texts[used]}
    similarity = synthetic.similarity()
    if similarity is not None:
        differentiable["similarity"] = similarity[used][:, used]
    learning_rates = {m: value.exp() for m, value in synthetic.log_rates.items()}
    result = replayed(
        GRADIENTS[gradient],
        Unroll(
            inner_loss=inner_loss,
            start=start,
            outer_loss=outer_loss,
            data={"images": encoded.inputs, **{name: value.detach() for name, value in differentiable.items()}},
            learning_rates={m: value.detach() for m, value in learning_rates.items()},
            batches=[replace(batch, pairs=own) for batch, own in zip(batches, pairs, strict=True)],
        ),
    )
    encoded.pull_back(result.data["images"])
    ends = [(value, result.data[name]) for name, value in differentiable.items()]
    ends += [(value, result.learning_rates[m]) for m, value in learning_rates.items()]
    learned = [(value, gradient) for value, gradient in ends if value.requires_grad]
    torch.autograd.backward([value for value, _ in learned], [gradient for _, gradient in learned])
    named = {f"loss/{name}": value for name, value in result.losses.items()}
    named |= {f"inner_lr/{m}": value.detach() for m, value in learning_rates.items()}
    values = torch.stack(list(named.values())).cpu()  # a GPU is waited for once
    numbers = {name: value.item() for name, value in zip(named, values, strict=True)}
    return {"loss": sum(numbers[f"loss/{name}"] for name in result.losses), **numbers}


def match_segment(
    synthetic: SyntheticSet,
    student: TwoTower,
    segment: Segment,
    batches: Sequence[InnerBatch],
    inner_loss: InnerLoss,
    *,
    gradient: GradientName,
    distance: Distance = "per_modality",
    auxiliary_losses: OuterLoss | None = None,
) -> dict[str, float]:
    """Add the gradient of the matching loss of one segment to everything in ``synthetic``, and return the losses.

    ``auxiliary_losses`` are added to the matching loss at the end of the unroll.
    """
    device = synthetic.images.device
    start = {name: value.to(device, copy=True) for name, value in segment.start.items()}
    target = {name: value.to(device) for name, value in segment.target.items()}

    matching = partial(matching_losses, start=start, target=target, distance=distance)

    def with_auxiliary(params: Params) -> dict[str, Tensor]:
        return matching(params) if auxiliary_losses is None else {**matching(params), **auxiliary_losses(params)}

    outer_loss = matching if auxiliary_losses is None else with_auxiliary
    return unroll_backward(synthetic, student, start, batches, inner_loss, outer_loss, gradient=gradient)


def trained_params(
    synthetic: SyntheticSet, student: TwoTower, start: Params, batches: Sequence[InnerBatch], inner_loss: InnerLoss
) -> Params:
    """Return a student's parameters after the steps of ``batches``, without any graph; no earlier ones are kept."""
    with torch.no_grad():
        data = {"images": student.image.prepare(synthetic.images), "texts": synthetic.texts.detach()}
        similarity = synthetic.similarity()
        if similarity is not None:
            data["similarity"] = similarity.detach()
        learning_rates = {m: value.exp() for m, value in synthetic.log_rates.items()}
    device = data["images"].device
    on_device = [replace(batch, pairs=batch.pairs.to(device)) for batch in batches]
    unroll = Unroll(inner_loss, start, lambda _: {}, data, learning_rates, on_device)
    (params,) = deque(rollout(unroll), maxlen=1)
    return params
