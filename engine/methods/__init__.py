"""Methods: how a synthetic set is learned. One file each; this page holds what they share with the outer loop."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from engine.data.prepared import PreparedPairs
from engine.data.sampling import CaptionIndex, caption_index, draw_pairs
from engine.experts.shortcut import ShortcutSource
from engine.experts.trajectory import ExpertSource
from engine.models.two_tower import TwoTower
from engine.ranges import Positive
from engine.synthetic.initialisation import Init
from engine.synthetic.set import SyntheticSet, with_part
from engine.unroll.steps import OuterLoss

Metrics = dict[str, float]
Images = Float[Tensor, "n 3 h w"]
Texts = Float[Tensor, "n *d"]


@dataclass(frozen=True, kw_only=True)
class LearningRates:
    """A student's initial learning rate of each modality."""

    image: Positive = 0.1
    text: Positive = 0.1


@dataclass(frozen=True, kw_only=True)
class Learn:
    """Which parts of the synthetic set are learned; the ablations of one modality fix the other."""

    images: bool = True
    texts: bool = True
    learning_rates: bool = True


@dataclass(frozen=True)
class Sources:
    """Inputs of a method: the student's architecture, expert trajectories, and the real training pairs.

    One object belongs to one run: what is derived from its fields is computed once and freed with it.
    """

    student: TwoTower
    experts: ExpertSource
    pairs: PreparedPairs
    _shortcuts: dict[int, ShortcutSource] = field(default_factory=dict, init=False, repr=False, compare=False)

    def trajectories(self, shortcut: int | None) -> ExpertSource:
        """Return the experts, or shortcuts of their first ``shortcut`` epochs (always the same object)."""
        if shortcut is None:
            return self.experts
        return self._shortcuts.setdefault(shortcut, ShortcutSource(self.experts, shortcut))

    @cached_property
    def captions(self) -> CaptionIndex:
        """The captions of each training image."""
        return caption_index(self.pairs.caption_image)

    def draw_real(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw ``count`` real pairs of distinct images, and return their prepared images and texts on the device."""
        device = self.student.device
        rows = draw_pairs(self.captions, count, generator)
        texts = self.student.text.prepare(self.pairs.text_rows(rows, device))
        return self.pairs.image_rows(self.pairs.images_of(rows), device), texts


class State(nn.Module):
    """Everything about a method that changes; at least the synthetic set."""

    def __init__(self, synthetic: SyntheticSet) -> None:
        super().__init__()
        self.synthetic = synthetic

    def of_student(self, number: int) -> "State":
        """Return this state with the rates and texts of student ``number`` (0: the own one); all else is shared."""
        return with_part(self, "synthetic", self.synthetic.of_student(number))


@runtime_checkable
class Method(Protocol):
    """A way to learn a synthetic set: a frozen dataclass of hyper-parameters; all that changes is in its ``State``."""

    needs: ClassVar[frozenset[str]]
    """A subset of {"experts", "pairs", "frozen_encoders", "one_student", "one_pass"}.

    ``frozen_encoders`` is a student that trains only its heads; with ``one_student`` no further ones may be named, and
    with ``one_pass`` an outer step calls ``backward`` once, since that changes more than gradients.
    """

    num_pairs: int
    init: Init

    def epochs(self) -> Sequence[int]:
        """Return the expert epochs that the method can read; experts are trained and kept up to the last of them."""
        ...

    def initial_state(self, images: Images, texts: Texts, sources: Sources, generator: torch.Generator) -> State:
        """Return the state before the first outer step, whose set has copies of ``images`` and ``texts``."""
        ...

    def param_groups(self, state: State) -> list[dict[str, Any]]:
        """Return the outer optimiser's groups, each a ``name`` and ``params``; it looks learning rates up by name."""
        ...

    def backward(self, state: State, sources: Sources, generator: torch.Generator) -> Metrics:
        """Add the gradient of one outer step to ``.grad`` and return numbers to log, ``loss`` among them."""
        ...


def learned_groups(synthetic: SyntheticSet, learn: Learn) -> list[dict[str, Any]]:
    """Return the parameter groups of images, texts, log learning rates and similarity, except those not learned."""
    groups = {
        "image": (learn.images, [synthetic.images]),
        "text": (learn.texts, [synthetic.texts, *synthetic.spaces]),
        "log": (learn.learning_rates, list(synthetic.all_log_rates().values())),
        "similarity": (True, list(synthetic.similarity.parameters())),
    }
    return [{"name": name, "params": params} for name, (learned, params) in groups.items() if learned and params]


def fix_unlearned(synthetic: SyntheticSet, groups: Sequence[dict[str, Any]]) -> None:
    """Compute no gradient of what is in no parameter group."""
    learned = {id(value) for entry in groups for value in entry["params"]}
    for value in synthetic.parameters():
        value.requires_grad_(id(value) in learned)


def epochs_of_init(init: Init) -> Sequence[int]:
    """Return the expert epochs of a method that matches no trajectory: 0 and, for cluster centres, 1."""
    return range(2 if "kmeans" in (init.image, init.text) else 1)


def loss_on_real(sources: Sources, count: int, generator: torch.Generator, *, weight: float = 1.0) -> OuterLoss:
    """Draw ``count`` real pairs, and return ``weight`` times their contrastive loss as a function of parameters."""
    images, texts = sources.draw_real(count, generator)
    return lambda params: {"real": weight * sources.student.loss(params, images, texts)}
