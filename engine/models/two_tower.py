"""The student: two towers as pure functions of named parameters."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from engine.determinism import encoded
from engine.losses.contrastive import LossName, contrastive_loss, info_nce
from engine.models.lora import Lora, adapt, init_adapters
from engine.recipes import Precision
from engine.rng import forked, named_generator
from engine.tensors import Modality, Params

Train = Literal["frozen", "lora", "full"]


class EncoderWithHead(nn.Module):
    """The trained part of a tower: its head, after its encoder where that is trained too."""

    def __init__(self, encoder: nn.Module, head: nn.Module, precision: Precision = "fp32") -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head
        self.precision = precision

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(encoded(self.encoder, inputs, self.precision))


@dataclass(frozen=True)
class Tower:
    """An encoder with its head, split into the part that never changes and the part that is trained.

    ``prepare`` runs the frozen part once and returns the *input* of the trained part, which ``apply`` runs with given
    parameters. With a frozen encoder the frozen part is the encoder, otherwise what comes before it: nothing for
    images, the token embeddings for texts. Adapters lie inside the encoder, whose own weights then stay in ``trained``
    but are no parameters. All modules stay in evaluation mode: batch norm uses its stored statistics, and nothing draws
    at random. ``precision`` is that of the encoder; the head, whose outputs are compared, is in float32.
    """

    modality: Modality
    frozen: nn.Module
    trained: EncoderWithHead
    build_encoder: Callable[[], nn.Module]
    build_head: Callable[[], nn.Module]
    scratch: bool
    """Every student draws new weights of its trained encoder, which has no pretrained ones."""
    adapted: bool = False
    """Only the low-rank adapters of the trained encoder are parameters."""
    precision: Precision = "fp32"

    @property
    def only_head(self) -> bool:
        """The head alone is trained."""
        return isinstance(self.trained.encoder, nn.Identity)

    def init_params(self, generator: torch.Generator) -> Params:
        """Return new parameters: pretrained where there are any, all others drawn; adapters start without effect."""
        with forked(generator):
            encoder = self.build_encoder() if self.scratch else self.trained.encoder
            head = self.build_head()
        learned = init_adapters(encoder, generator) if self.adapted else dict(encoder.named_parameters())
        named = {f"encoder.{name}": value for name, value in learned.items()}
        named |= {f"head.{name}": value for name, value in head.named_parameters()}
        device = next(self.trained.parameters(), torch.empty(0)).device
        return {f"{self.modality}.{name}": value.detach().to(device, copy=True) for name, value in named.items()}

    def prepare(self, inputs: Tensor) -> Tensor:
        """Run the frozen part; differentiable in ``inputs``."""
        return encoded(self.frozen, inputs, self.precision)

    def apply(self, params: Params, prepared: Tensor) -> Float[Tensor, "b d"]:
        """Embed prepared inputs with the entries of ``params`` that belong to this tower."""
        return functional_call(self.trained, self._entries(params), (prepared,))

    def features(self, params: Params, prepared: Tensor) -> Float[Tensor, "b f"]:
        """Return the encoder's features of prepared inputs, before the head."""
        encode = partial(functional_call, self.trained.encoder, self._entries(params, "encoder."))
        return encoded(encode, prepared, self.precision)

    def project(self, params: Params, features: Float[Tensor, "b f"]) -> Float[Tensor, "b d"]:
        """Return the head's embeddings of the encoder's features."""
        return functional_call(self.trained.head, self._entries(params, "head."), (features,))

    def _entries(self, params: Params, part: str = "") -> Params:
        """Return this tower's parameters, or those of a ``part`` of it, by their names inside of it."""
        prefix = f"{self.modality}.{part}"
        return {name.removeprefix(prefix): value for name, value in params.items() if name.startswith(prefix)}

    def to(self, device: torch.device) -> "Tower":
        """Move the modules to ``device`` in place, and return the tower."""
        # CPUs are faster with channels last: half the time for a forward and backward pass of EfficientNet-Lite0.
        layout = torch.channels_last if device.type == "cpu" else torch.contiguous_format
        self.frozen.to(device).to(memory_format=layout)
        self.trained.to(device)
        return self


def make_tower(
    modality: Modality,
    *,
    build_encoder: Callable[[], nn.Module],
    build_head: Callable[[], nn.Module],
    train: Train,
    pretrained: bool,
    lora: Lora | None = None,
    before: nn.Module | None = None,
    precision: Precision = "fp32",
) -> Tower:
    """Split one encoder and its head into frozen and trained parts; ``lora`` None stands for its defaults.

    A frozen text tower takes embeddings, so its ``build_encoder`` is ``nn.Identity``. ``before`` is a frozen module in
    front of a trained encoder. A frozen encoder without pretrained weights, adapted or not, has the same random ones in
    every process: experts, students and cached features share it.

    Raises:
        ValueError: the encoder cannot be adapted as ``lora`` says.
    """
    with forked(named_generator(0, f"tower/{modality}")):
        encoder, head = build_encoder().eval().requires_grad_(False), build_head()
    if train == "lora":
        encoder = adapt(encoder, lora or Lora(), key=f"student.{modality}.lora")
    inside = nn.Identity() if train == "frozen" else encoder
    trained = EncoderWithHead(inside, head, precision).eval().requires_grad_(False)
    return Tower(
        modality=modality,
        frozen=encoder if train == "frozen" else (before or nn.Identity()).requires_grad_(False),
        trained=trained,
        build_encoder=build_encoder if train == "full" else nn.Identity,
        build_head=build_head,
        scratch=train == "full" and not pretrained,
        adapted=train == "lora",
        precision=precision,
    )


@dataclass(frozen=True)
class TwoTower:
    """The student: an image tower, a text tower and the fixed temperature of its contrastive loss."""

    image: Tower
    text: Tower
    temperature: float = 0.07

    @property
    def device(self) -> torch.device:
        """The device of the towers, of which one may have no parameters."""
        modules = [module for tower in self.towers() for module in (tower.trained, tower.frozen)]
        return next(parameter for module in modules for parameter in module.parameters()).device

    def init_params(self, generator: torch.Generator) -> Params:
        """Return the parameters of a new student, image tower first; a frozen tower without a head has none."""
        return {**self.image.init_params(generator), **self.text.init_params(generator)}

    def loss(
        self,
        params: Params,
        images: Tensor,
        texts: Tensor,
        *,
        similarity: Float[Tensor, "b b"] | None = None,
        loss: LossName = "info_nce",
        temperature: float | None = None,
    ) -> Float[Tensor, ""]:
        """Return the loss of prepared pairs at ``temperature`` (None: this student's own).

        ``similarity`` None means that row i of one side belongs to row i of the other alone.
        """
        return contrastive_loss(
            self.image.apply(params, images),
            self.text.apply(params, texts),
            temperature=temperature or self.temperature,
            similarity=similarity,
            loss=loss,
        )

    def contrastive_loss(self, images: Float[Tensor, "b d"], texts: Float[Tensor, "b d"]) -> Float[Tensor, ""]:
        """Return the contrastive loss of embedded pairs at this student's temperature."""
        return info_nce(images, texts, temperature=self.temperature)

    def towers(self) -> Iterator[Tower]:
        """Yield the image tower, then the text tower."""
        yield self.image
        yield self.text

    def to(self, device: torch.device) -> "TwoTower":
        """Move both towers to ``device`` in place, and return the student."""
        for tower in self.towers():
            tower.to(device)
        return self
