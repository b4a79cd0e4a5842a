"""CovMatch: match the cross-covariance of images and texts, and their means, under an online student."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from engine.methods import (
    Images,
    Learn,
    LearningRates,
    Metrics,
    Sources,
    State,
    Texts,
    epochs_of_init,
    learned_groups,
)
from engine.models.two_tower import TwoTower
from engine.ranges import Count, NonNegative, Positive
from engine.synthetic.initialisation import Init
from engine.synthetic.set import SyntheticSet
from engine.tensors import Params, modality_of


class OnlineState(State):
    """The synthetic set, the online student's parameters, and the number of its steps since the last reset."""

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
        """Set the online student's parameters and the number of its steps."""
        for name, value in self.params().items():
            value.copy_(params[name])
        self.age.fill_(age)


@dataclass(frozen=True, kw_only=True)
class Method:
    """Match rho C_real with C_synthetic, the cross-covariances of the encoders' features, and the means behind heads.

    The features are those before the heads of an online student, which takes one contrastive step on ``batch`` real
    pairs before each outer step and is initialised again every ``reset_every`` steps. The loss is
    ||rho C_real - C_synthetic||^2 plus ``feature_weight`` times the squared distance of the mean output of the head in
    each modality, over ``real_batch`` real pairs of distinct images and all synthetic ones. The student's learning
    rates are not learned.

    Known from descriptions, which agree with each other, not from the paper or its code. There both encoders are
    trained, and a synthetic text is a sequence of token embeddings; here ``student.text.train`` decides that, and with
    frozen encoders the covariances are those of fixed features.

    References:
        CovMatch, NeurIPS 2025: rho 2 (100 pairs) or 1, weight 0.1 to 0.6, resets every 50 steps.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"one_pass", "one_student", "pairs"})

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
        """Return the epochs that ``init`` reads."""
        return epochs_of_init(self.init)

    def initial_state(self, images: Images, texts: Texts, sources: Sources, generator: torch.Generator) -> OnlineState:
        """Return the set with a new online student."""
        synthetic = SyntheticSet(images, texts, asdict(self.inner_lr))
        return OnlineState(synthetic, sources.student.init_params(generator))

    def param_groups(self, state: State) -> list[dict[str, Any]]:
        """Return the images and the texts."""
        return learned_groups(state.synthetic, Learn(learning_rates=False))

    def backward(self, state: State, sources: Sources, generator: torch.Generator) -> Metrics:
        """Train the online student by one step, and add the gradient of the loss under it."""
        assert isinstance(state, OnlineState)
        student = sources.student
        self._train_online(state, sources, generator)
        params = state.params()
        with torch.no_grad():
            real = _features(student, params, *sources.draw_real(self.real_batch, generator))
            real_means = _mean_outputs(student, params, real)
        synthetic = _features(student, params, student.image.prepare(state.synthetic.images), state.synthetic.texts)
        means = _mean_outputs(student, params, synthetic)
        covariance = (self.rho * cross_covariance(*real) - cross_covariance(*synthetic)).square().sum()
        distance = torch.stack([(a - b).square().sum() for a, b in zip(means, real_means, strict=True)]).sum()
        loss = covariance + self.feature_weight * distance
        loss.backward()
        return {"loss": loss.item(), "loss/covariance": covariance.item(), "loss/means": distance.item()}

    def _train_online(self, state: OnlineState, sources: Sources, generator: torch.Generator) -> None:
        """Reset the online student after ``reset_every`` steps, and let it take one step on real pairs."""
        student, age = sources.student, int(state.age)
        if age >= self.reset_every:
            state.put(student.init_params(generator), age=0)
            age = 0
        params = {name: value.detach().requires_grad_() for name, value in state.params().items()}
        loss = student.loss(params, *sources.draw_real(self.batch, generator))
        gradients = torch.autograd.grad(loss, list(params.values()))
        learning_rates = asdict(self.online_lr)
        stepped = {
            name: value.detach() - learning_rates[modality_of(name)] * gradient
            for (name, value), gradient in zip(params.items(), gradients, strict=True)
        }
        state.put(stepped, age=age + 1)


def _features(student: TwoTower, params: Params, images: Tensor, texts: Tensor) -> tuple[Tensor, Tensor]:
    """Return the features of both encoders, before the heads."""
    return student.image.features(params, images), student.text.features(params, texts)


def _mean_outputs(student: TwoTower, params: Params, features: tuple[Tensor, Tensor]) -> list[Tensor]:
    """Return the mean output of both heads."""
    return [tower.project(params, of).mean(dim=0) for tower, of in zip(student.towers(), features, strict=True)]


def cross_covariance(images: Float[Tensor, "n f"], texts: Float[Tensor, "n g"]) -> Float[Tensor, "f g"]:
    """Return the covariance of image features with text features over pairs, divided by n - 1."""
    centred = images - images.mean(dim=0), texts - texts.mean(dim=0)
    return centred[0].T @ centred[1] / max(len(images) - 1, 1)
