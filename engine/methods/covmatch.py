"""CovMatch: match the cross-covariance of images and texts, and their means, under a model trained on the way."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from engine.methods import Metrics, Sources, State
from engine.methods._unrolled import Learn, LearningRates, learned_groups
from engine.models.two_tower import TwoTower
from engine.ranges import Count, NonNegative, Positive
from engine.synthetic.initialisation import Init
from engine.synthetic.set import SyntheticSet
from engine.tensors import MODALITIES, Params, modality_of


class OnlineState(State):
    """The synthetic set, the online student's parameters, and how many steps it has taken since its reset."""

    age: Tensor

    def __init__(self, synthetic: SyntheticSet, online: Params) -> None:
        super().__init__(synthetic)
        self.online = nn.Module()
        for name, value in online.items():
            self.online.register_buffer(name.replace(".", "/"), value.clone())
        self.register_buffer("age", torch.tensor(0))

    def params(self) -> Params:
        """Return the online student's parameters."""
        return {name.replace("/", "."): value for name, value in self.online.named_buffers()}

    @torch.no_grad()
    def put(self, params: Params, *, age: int) -> None:
        """Make ``params`` the online student's."""
        for name, value in self.params().items():
            value.copy_(params[name])
        self.age.fill_(age)


@dataclass(frozen=True, kw_only=True)
class Method:
    """Match rho C_real with C_synthetic, the cross-covariances of the encoders' features, and the means behind heads.

    The features are those in front of the heads of an online student, which takes one contrastive step on ``batch``
    real pairs before each outer step and is drawn anew every ``reset_every`` steps. The loss is
    ||rho C_real - C_synthetic||^2 plus ``feature_weight`` times the squared distance of the mean of the head's outputs
    in each modality, over ``real_batch`` real pairs and all synthetic ones. The student's rates are not learned.

    Known from descriptions, which agree with each other, not from the paper or its code. There both encoders are
    trained, and a synthetic text is a sequence of token embeddings; here that is a matter of ``student.text.train``,
    and with frozen encoders the covariances are those of fixed features.

    References:
        CovMatch, NeurIPS 2025: rho 2 (100 pairs) or 1, weight 0.1 to 0.6, resets every 50 steps.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"pairs"})

    num_pairs: Count
    rho: Positive = 2.0
    feature_weight: NonNegative = 0.1
    batch: Count = 128
    real_batch: Count = 512
    reset_every: Count = 50
    online_lr: LearningRates = field(default_factory=LearningRates)
    inner_lr: LearningRates = field(default_factory=LearningRates)
    init: Init = field(default_factory=Init)

    def epochs(self) -> Sequence[int]:
        """Return 0 and, for cluster centres, 1: no trajectory is matched."""
        return range(2 if "kmeans" in (self.init.image, self.init.text) else 1)

    def initial_state(self, images: Tensor, texts: Tensor, sources: Sources, generator: torch.Generator) -> OnlineState:
        """Start from real pairs, cluster centres or noise, with an online student that was just drawn."""
        synthetic = SyntheticSet(images, texts, {m: getattr(self.inner_lr, m) for m in MODALITIES})
        return OnlineState(synthetic, sources.student.init_params(generator))

    def param_groups(self, state: State) -> list[dict[str, Any]]:
        """Return the images and the texts."""
        return learned_groups(state.synthetic, Learn(learning_rates=False))

    def backward(self, state: State, sources: Sources, generator: torch.Generator) -> Metrics:
        """Train the online student by one step, and add the gradient of the loss under it."""
        assert isinstance(state, OnlineState)
        student, device = sources.student, state.synthetic.images.device
        self._go_online(state, sources, generator)
        params = state.params()
        with torch.no_grad():
            real = features_of(student, params, *_real_inputs(sources, self.real_batch, generator, device))
            real_heads = [_mean_head(student, params, m, value) for m, value in zip(MODALITIES, real, strict=True)]
        prepared = student.image.prepare(state.synthetic.images)
        ours = features_of(student, params, prepared, state.synthetic.texts)
        covariance = (self.rho * cross_covariance(*real) - cross_covariance(*ours)).square().sum()
        heads = [_mean_head(student, params, m, value) for m, value in zip(MODALITIES, ours, strict=True)]
        means = torch.stack([(a - b).square().sum() for a, b in zip(heads, real_heads, strict=True)]).sum()
        loss = covariance + self.feature_weight * means
        loss.backward()
        return {"loss": loss.item(), "loss/covariance": covariance.item(), "loss/means": means.item()}

    def _go_online(self, state: OnlineState, sources: Sources, generator: torch.Generator) -> None:
        """Draw the online student anew where its time has come, and let it take one step on real pairs."""
        student, age = sources.student, int(state.age)
        device = state.synthetic.images.device
        if age >= self.reset_every:
            state.put(student.init_params(generator), age=0)
            age = 0
        params = {name: value.detach().requires_grad_() for name, value in state.params().items()}
        loss = student.loss(params, *_real_inputs(sources, self.batch, generator, device))
        gradients = torch.autograd.grad(loss, list(params.values()))
        learning_rates = {m: getattr(self.online_lr, m) for m in MODALITIES}
        stepped = {
            n: v.detach() - learning_rates[modality_of(n)] * g
            for (n, v), g in zip(params.items(), gradients, strict=True)
        }
        state.put(stepped, age=age + 1)


def _real_inputs(
    sources: Sources, count: int, generator: torch.Generator, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Draw real pairs, and return their prepared images and texts."""
    pairs = sources.pairs
    rows = torch.randint(len(pairs), (count,), generator=generator)
    texts = sources.student.text.prepare(pairs.text_rows(rows, device))
    return pairs.image_rows(pairs.images_of(rows), device), texts


def features_of(student: TwoTower, params: Params, images: Tensor, texts: Tensor) -> tuple[Tensor, Tensor]:
    """Return what both encoders make of prepared inputs, in front of the heads."""
    return student.image.features(params, images), student.text.features(params, texts)


def _mean_head(student: TwoTower, params: Params, modality: str, features: Tensor) -> Tensor:
    """Return the mean of the head's outputs."""
    tower = student.image if modality == "image" else student.text
    return tower.project(params, features).mean(dim=0)


def cross_covariance(images: Float[Tensor, "n f"], texts: Float[Tensor, "n g"]) -> Float[Tensor, "f g"]:
    """Return the covariance of image features with text features over pairs, divided by n - 1."""
    centred = images - images.mean(dim=0), texts - texts.mean(dim=0)
    return centred[0].T @ centred[1] / max(len(images) - 1, 1)
