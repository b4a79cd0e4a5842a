"""Closed-form projectors: students that are solved instead of trained, without experts and without an unroll."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from engine.data.prepared import PreparedPairs
from engine.losses.contrastive import info_nce
from engine.methods import Images, Learn, LearningRates, Metrics, Sources, State, Texts, epochs_of_init, learned_groups
from engine.ranges import Count, Positive
from engine.synthetic.initialisation import Init
from engine.synthetic.set import SyntheticSet
from engine.tensors import MODALITIES, Modality


class ProjectorState(State):
    """The synthetic set, and of the real pairs the mean and the scale of both sides' features and their projectors."""

    def __init__(self, synthetic: SyntheticSet, real: dict[str, Tensor]) -> None:
        super().__init__(synthetic)
        for name, value in real.items():
            self.register_buffer(name, value)


@dataclass(frozen=True, kw_only=True)
class Method:
    """Learn pairs whose ridge regressions, of texts on images and of images on texts, serve real pairs.

    A projector is the linear map of one side's features to the other's with the smallest squared error, plus ``ridge``
    times the mean squared feature on its diagonal. It stands in for a trained student and needs one system of n
    equations, so that an outer step costs the encoder's passes and little else. Features are centred and scaled as
    those of all real pairs are. With ``target`` "pairs" the loss is the contrastive loss of ``batch`` real pairs, of
    which one side is projected by the synthetic pairs' projector, in both directions; with "projectors" it is the
    squared distance to the real pairs' projectors, relative to their norm. The student's rates are not learned.

    References:
        APM, ICML 2026, known from its abstract alone, which matches projectors. A squared loss of that kind is said to
        fail for retrieval (arXiv 2605.07194), so the contrastive one, which is ours, is the default.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"pairs", "frozen_encoders", "one_student"})

    num_pairs: Count
    target: Literal["pairs", "projectors"] = "pairs"
    ridge: Positive = 0.1
    batch: Count = 1024
    inner_lr: LearningRates = field(default_factory=LearningRates)
    init: Init = field(default_factory=Init)

    def epochs(self) -> Sequence[int]:
        """Return the epochs that ``init`` reads."""
        return epochs_of_init(self.init)

    def initial_state(self, images: Images, texts: Texts, sources: Sources, generator: torch.Generator) -> State:
        """Return the set with the projectors of all real pairs, which do not change."""
        real = real_projectors(sources.pairs, self.ridge)
        return ProjectorState(SyntheticSet(images, texts, asdict(self.inner_lr)), real)

    def param_groups(self, state: State) -> list[dict[str, Any]]:
        """Return the images and the texts."""
        return learned_groups(state.synthetic, Learn(learning_rates=False))

    def backward(self, state: State, sources: Sources, generator: torch.Generator) -> Metrics:
        """Add the gradient of the loss of the synthetic pairs' projectors."""
        student, kept = sources.student, dict(state.named_buffers())

        def scaled(modality: Modality, rows: Tensor) -> Tensor:
            return (rows - kept[f"{modality}_mean"]) / kept[f"{modality}_scale"]

        images = scaled("image", student.image.prepare(state.synthetic.images))
        texts = scaled("text", state.synthetic.texts)
        projectors = {"image": ridge_projector(images, texts, self.ridge)}
        projectors |= {"text": ridge_projector(texts, images, self.ridge)}
        if self.target == "projectors":
            losses = {
                name: (found - kept[f"{name}_projector"]).square().sum() / kept[f"{name}_projector"].square().sum()
                for name, found in projectors.items()
            }
        else:
            drawn = zip(MODALITIES, sources.draw_real(self.batch, generator), strict=True)
            real = {name: scaled(name, rows) for name, rows in drawn}
            there, back = real["image"] @ projectors["image"], real["text"] @ projectors["text"]
            losses = {
                "image": info_nce(there, real["text"], temperature=student.temperature),
                "text": info_nce(real["image"], back, temperature=student.temperature),
            }
        loss = torch.stack(list(losses.values())).sum()
        loss.backward()
        return {"loss": loss.item(), **{f"loss/{name}": value.item() for name, value in losses.items()}}


def ridge_projector(source: Float[Tensor, "n f"], target: Float[Tensor, "n g"], ridge: float) -> Float[Tensor, "f g"]:
    """Return the ridge regression of ``target`` T on ``source`` S, S' (S S' + ridge n s I)^-1 T.

    The mean square of S is s. Solved for the ``n`` rows, which are fewer than features where a set is small.
    """
    gram = source @ source.T
    weight = ridge * gram.trace() / source.shape[1]
    return source.T @ torch.linalg.solve(gram + weight * torch.eye(len(gram)).to(gram), target)


@torch.no_grad()
def real_projectors(pairs: PreparedPairs, ridge: float, *, chunk: int = 8192) -> dict[str, Tensor]:
    """Return mean and scale of the features of each side over all pairs, and both projectors, in float32 on the CPU.

    The scale is the root of the mean square of centred features. Products are of ``chunk`` rows at a time in float32,
    each image once for all its captions, and are added up in float64.
    """
    width, height = pairs.images.shape[1], pairs.texts.shape[1]
    total = torch.zeros(width + height, dtype=torch.float64)
    gram = torch.zeros(len(total), len(total), dtype=torch.float64)
    owners = torch.from_numpy(np.array(pairs.caption_image))
    of_image = torch.zeros(len(pairs.images), height)  # the sum of the texts of each image
    for rows in torch.arange(len(pairs)).split(chunk):
        texts = torch.from_numpy(np.array(pairs.texts[rows.numpy()])).float()
        of_image.index_add_(0, owners[rows], texts)
        total[width:] += texts.sum(dim=0).double()
        gram[width:, width:] += (texts.T @ texts).double()
    for rows in torch.arange(len(pairs.images)).split(chunk):
        images = torch.from_numpy(np.array(pairs.images[rows.numpy()])).float()
        captions = torch.bincount(owners, minlength=len(pairs.images))[rows, None].float()
        total[:width] += (captions * images).sum(dim=0).double()
        gram[:width, :width] += ((captions * images).T @ images).double()
        gram[:width, width:] += (images.T @ of_image[rows]).double()
    gram[width:, :width] = gram[:width, width:].T
    mean = total / len(pairs)
    gram = gram / len(pairs) - torch.outer(mean, mean)
    found: dict[str, Tensor] = {}
    own, scales = {"image": slice(width), "text": slice(width, None)}, {}
    for name, side in own.items():
        scales[name] = gram[side, side].diagonal().mean().sqrt().clamp(min=1e-12)
        found |= {f"{name}_mean": mean[side].float(), f"{name}_scale": scales[name].float()}
    for name, other in (("image", "text"), ("text", "image")):
        square = gram[own[name], own[name]] / scales[name] ** 2
        square = square + ridge * torch.eye(len(square), dtype=square.dtype)
        across = gram[own[name], own[other]] / (scales[name] * scales[other])
        found[f"{name}_projector"] = torch.linalg.solve(square, across).float()
    return found
