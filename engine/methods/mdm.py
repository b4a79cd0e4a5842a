"""MDM: match the modes of synthetic and real pairs under teachers mixed from an expert's snapshots."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from engine.experts.trajectory import ExpertSource
from engine.losses.kernel_energy import geodesic_kernel_energy
from engine.methods import Images, Learn, LearningRates, Metrics, Sources, State, Texts, learned_groups
from engine.ranges import Count, NonNegative, Positive
from engine.synthetic.initialisation import Init
from engine.synthetic.set import SyntheticSet
from engine.tensors import Params


@dataclass(frozen=True, kw_only=True)
class Method:
    """Contrast ``batch`` synthetic pairs and match their modes with as many real pairs, under a mixed teacher.

    A pair's common part is norm(z_image + z_text), its gap norm(z_image - z_text); both are compared with those of real
    pairs of distinct images by the geodesic kernel energy of ``width`` radians, each with the factor ``weight``. The
    student's learning rates are not learned: they stay as in ``inner_lr``, and evaluation may choose others.

    The paper adds to the pretrained parameters the mean of two checkpoints' displacements. Where heads start at random
    in each expert, displacements of two experts do not add up; here both are of one expert, at two epochs drawn from
    1 .. ``max_epoch``, and the teacher starts from that expert's initial parameters.

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

    def initial_state(self, images: Images, texts: Texts, sources: Sources, generator: torch.Generator) -> State:
        """Return the set alone."""
        return State(SyntheticSet(images, texts, asdict(self.inner_lr)))

    def param_groups(self, state: State) -> list[dict[str, Any]]:
        """Return the images and the texts."""
        return learned_groups(state.synthetic, Learn(learning_rates=False))

    def backward(self, state: State, sources: Sources, generator: torch.Generator) -> Metrics:
        """Add the gradient of one batch under one teacher."""
        student, synthetic = sources.student, state.synthetic
        device = synthetic.images.device
        teacher = mixed_teacher(sources.experts, generator, max_epoch=self.max_epoch, alpha=self.alpha)
        teacher = {name: value.to(device) for name, value in teacher.items()}
        real_images, real_texts = sources.draw_real(self.batch, generator)
        with torch.no_grad():
            real = modes(student.image.apply(teacher, real_images), student.text.apply(teacher, real_texts))
        chosen = torch.randperm(len(synthetic), generator=generator)[: self.batch].to(device)
        images = student.image.apply(teacher, student.image.prepare(synthetic.images[chosen]))
        texts = student.text.apply(teacher, synthetic.texts[chosen])
        contrast = student.contrastive_loss(images, texts)
        common, gap = (
            geodesic_kernel_energy(a, b, width=self.width) for a, b in zip(modes(images, texts), real, strict=True)
        )
        loss = contrast + self.weight * torch.stack([common, gap]).sum()
        loss.backward()
        return {
            "loss": loss.item(),
            "loss/contrast": contrast.item(),
            "loss/common": common.item(),
            "loss/gap": gap.item(),
        }


def modes(
    images: Float[Tensor, "b d"], texts: Float[Tensor, "b d"]
) -> tuple[Float[Tensor, "b d"], Float[Tensor, "b d"]]:
    """Return the common part and the gap of embedded pairs, as unit vectors."""
    images, texts = normalize(images, dim=-1), normalize(texts, dim=-1)
    return normalize(images + texts, dim=-1), normalize(images - texts, dim=-1)


def mixed_teacher(experts: ExpertSource, generator: torch.Generator, *, max_epoch: int, alpha: float) -> Params:
    """Return theta_0 + alpha t (D1 + D2) / 2 per tensor, where D1 and D2 are an expert's displacements at two epochs.

    t = 2 <D1, D2> / (|D1| |D2| + <D1, D2>), 1 where both have one direction; 0 where one of them is zero. The two
    epochs are drawn independently and may be equal.
    """
    index = sorted(experts.index())
    expert = index[int(torch.randint(len(index), (), generator=generator))]
    epochs = [int(epoch) for epoch in torch.randint(1, max_epoch + 1, (2,), generator=generator)]
    start, one, two = (experts.load(expert, epoch) for epoch in (0, *epochs))
    mixed: Params = {}
    for name, origin in start.items():
        first, second = one[name] - origin, two[name] - origin
        inner = (first * second).sum()
        total = first.norm() * second.norm() + inner
        share = 2 * inner / total if total > 0 else torch.zeros_like(total)
        mixed[name] = origin + alpha * share * (first + second) / 2
    return mixed
