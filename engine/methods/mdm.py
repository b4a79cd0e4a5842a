"""MDM: synthetic and real pairs are to look alike to teachers mixed from an expert's snapshots."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from engine.experts.trajectory import ExpertSource
from engine.losses.kernel_energy import geodesic_kernel_energy
from engine.methods import Metrics, Sources, State
from engine.methods._unrolled import Learn, LearningRates, learned_groups
from engine.ranges import Count, NonNegative, Positive
from engine.synthetic.initialisation import Init
from engine.synthetic.set import SyntheticSet
from engine.tensors import MODALITIES, Params


@dataclass(frozen=True, kw_only=True)
class Method:
    """Contrast ``batch`` synthetic pairs and match their modes with as many real pairs, under a mixed teacher.

    A pair's common part is norm(z_image + z_text), its gap norm(z_image - z_text); both clouds are compared with those
    of real pairs by the geodesic kernel energy of ``width`` radians, each with the factor ``weight``. The student's
    rates are not learned: they stay as ``inner_lr`` has them, and evaluation may choose others.

    The paper adds to the pretrained parameters the mean of two checkpoints' displacements. Where heads start at random
    in each expert, displacements of two experts do not add up; here both are of one expert, at two epochs drawn from
    1 .. ``max_epoch``, and the teacher starts where that expert did.

    References:
        arXiv 2605.23482 (text of the paper): teachers with alpha 0.5, loss InfoNCE + 0.8 GKE(u) + 0.8 GKE(g).
    """

    needs: ClassVar[frozenset[str]] = frozenset({"experts", "pairs"})

    num_pairs: Count
    batch: Count = 64
    max_epoch: Count = 10
    alpha: NonNegative = 0.5
    weight: NonNegative = 0.8
    width: Positive = 0.5
    inner_lr: LearningRates = field(default_factory=LearningRates)
    init: Init = field(default_factory=lambda: Init(image="kmeans", text="kmeans"))

    def epochs(self) -> Sequence[int]:
        """Return 0 .. max_epoch."""
        return range(self.max_epoch + 1)

    def initial_state(self, images: Tensor, texts: Tensor, sources: Sources, generator: torch.Generator) -> State:
        """Start from the pairs nearest to joint cluster centres, unless ``init`` says otherwise."""
        return State(SyntheticSet(images, texts, {m: getattr(self.inner_lr, m) for m in MODALITIES}))

    def param_groups(self, state: State) -> list[dict[str, Any]]:
        """Return the images and the texts."""
        return learned_groups(state.synthetic, Learn(learning_rates=False))

    def backward(self, state: State, sources: Sources, generator: torch.Generator) -> Metrics:
        """Add the gradient of one batch under one teacher."""
        student, pairs, synthetic = sources.student, sources.pairs, state.synthetic
        device = synthetic.images.device
        teacher = mixed_teacher(sources.experts, generator, max_epoch=self.max_epoch, alpha=self.alpha, device=device)
        rows = torch.randint(len(pairs), (self.batch,), generator=generator)
        with torch.no_grad():
            real = (
                normalize(student.image.apply(teacher, pairs.image_rows(pairs.images_of(rows), device)), dim=-1),
                normalize(student.text.apply(teacher, student.text.prepare(pairs.text_rows(rows, device))), dim=-1),
            )
        chosen = torch.randperm(len(synthetic), generator=generator)[: self.batch].to(device)
        images = student.image.apply(teacher, student.image.prepare(synthetic.images[chosen]))
        texts = student.text.apply(teacher, synthetic.texts[chosen])
        ours = normalize(images, dim=-1), normalize(texts, dim=-1)
        contrastive_loss = student.contrastive_loss(images, texts)
        energies = [
            geodesic_kernel_energy(a, b, width=self.width) for a, b in zip(modes(*ours), modes(*real), strict=True)
        ]
        loss = contrastive_loss + self.weight * torch.stack(energies).sum()
        loss.backward()
        return {
            "loss": loss.item(),
            "loss/contrast": contrastive_loss.item(),
            "loss/common": energies[0].item(),
            "loss/gap": energies[1].item(),
        }


def modes(
    images: Float[Tensor, "b d"], texts: Float[Tensor, "b d"]
) -> tuple[Float[Tensor, "b d"], Float[Tensor, "b d"]]:
    """Return the common part and the gap of pairs of unit vectors, as unit vectors."""
    return normalize(images + texts, dim=-1), normalize(images - texts, dim=-1)


def mixed_teacher(
    experts: ExpertSource, generator: torch.Generator, *, max_epoch: int, alpha: float, device: torch.device
) -> Params:
    """Return theta_0 + alpha t (D1 + D2) / 2 a tensor, where D1 and D2 are an expert's displacements at two epochs.

    t = 2 <D1, D2> / (|D1| |D2| + <D1, D2>), 1 where both point the same way; 0 where one of them is zero.
    """
    index = sorted(experts.index())
    expert = index[int(torch.randint(len(index), (), generator=generator))]
    first, second = (int(e) for e in torch.randint(1, max_epoch + 1, (2,), generator=generator))
    start, one, two = (experts.load(expert, epoch) for epoch in (0, first, second))
    return {name: _mixed(start[name], one[name], two[name], alpha).to(device) for name in start}


def _mixed(start: Tensor, one: Tensor, two: Tensor, alpha: float) -> Tensor:
    first, second = one - start, two - start
    inner = (first * second).sum()
    total = first.norm() * second.norm() + inner
    share = 2 * inner / total if total > 0 else torch.zeros_like(total)
    return start + alpha * share * (first + second) / 2
