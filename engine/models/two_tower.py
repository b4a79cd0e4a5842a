"""The student: two towers as pure functions of named parameters."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from engine.losses.contrastive import info_nce
from engine.rng import forked, stream
from engine.tensors import Modality, Params

Train = Literal["frozen", "full"]


class EncoderWithHead(nn.Module):
    """The trained part of a tower: its head, behind its encoder where that is trained too."""

    def __init__(self, encoder: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(self.encoder(inputs))


@dataclass(frozen=True)
class Tower:
    """An encoder with its head, split into the part that never changes and the part that is trained.

    ``prepare`` runs the frozen part once; what it returns is the *input* of the trained part, which ``apply`` runs with
    the parameters it is given. Under ``full`` the frozen part is the identity, under ``frozen`` it is the encoder.
    All modules stay in evaluation mode, so batch norm uses its stored statistics and nothing draws at random.
    """

    modality: Modality
    frozen: nn.Module
    trained: EncoderWithHead
    build_encoder: Callable[[], nn.Module]
    build_head: Callable[[], nn.Module]
    scratch: bool
    """The trained encoder starts from random weights of its own (no pretrained ones)."""

    def fresh(self, generator: torch.Generator) -> Params:
        """Return new parameters: pretrained ones where there are any, all others drawn from ``generator``."""
        with forked(generator):
            encoder = self.build_encoder() if self.scratch else self.trained.encoder
            module = EncoderWithHead(encoder, self.build_head())
        device = next(self.trained.parameters()).device
        return {
            f"{self.modality}.{name}": value.detach().to(device, copy=True) for name, value in module.named_parameters()
        }

    def prepare(self, inputs: Tensor) -> Tensor:
        """Run the frozen part; differentiable in ``inputs``."""
        return self.frozen(inputs)

    def apply(self, params: Params, prepared: Tensor) -> Float[Tensor, "b d"]:
        """Embed prepared inputs with the entries of ``params`` that belong to this tower."""
        prefix = f"{self.modality}."
        own = {name.removeprefix(prefix): value for name, value in params.items() if name.startswith(prefix)}
        return functional_call(self.trained, own, (prepared,))

    def to(self, device: torch.device) -> "Tower":
        """Move the modules to ``device`` in place, and return the tower."""
        self.frozen.to(device)
        self.trained.to(device)
        return self


def make_tower(
    modality: Modality,
    *,
    build_encoder: Callable[[], nn.Module],
    build_head: Callable[[], nn.Module],
    train: Train,
    pretrained: bool,
) -> Tower:
    """Split one encoder and its head into frozen and trained parts.

    A frozen text tower takes embeddings, so its ``build_encoder`` is ``nn.Identity``. A frozen encoder without
    pretrained weights has the same random ones in every process: experts, students and cached features share it.

    Raises:
        ValueError: nothing would be trained.
    """
    with forked(stream(0, f"tower/{modality}")):
        encoder, head = build_encoder().eval().requires_grad_(False), build_head()
    trained = EncoderWithHead(encoder if train == "full" else nn.Identity(), head).eval().requires_grad_(False)
    if not any(True for _ in trained.parameters()):
        raise ValueError(f"student.{modality}: a frozen encoder with head 'none' has nothing to train.")
    return Tower(
        modality=modality,
        frozen=nn.Identity() if train == "full" else encoder,
        trained=trained,
        build_encoder=build_encoder if train == "full" else nn.Identity,
        build_head=build_head,
        scratch=train == "full" and not pretrained,
    )


@dataclass(frozen=True)
class TwoTower:
    """The student: an image tower, a text tower and the fixed temperature of their contrast."""

    image: Tower
    text: Tower
    temperature: float = 0.07

    def fresh(self, generator: torch.Generator) -> Params:
        """Return the parameters of a new student, image tower first."""
        return {**self.image.fresh(generator), **self.text.fresh(generator)}

    def loss(self, params: Params, images: Tensor, texts: Tensor) -> Float[Tensor, ""]:
        """Return the contrastive loss of prepared pairs, in which row i of each side belongs together."""
        return self.contrast(self.image.apply(params, images), self.text.apply(params, texts))

    def contrast(self, images: Float[Tensor, "b d"], texts: Float[Tensor, "b d"]) -> Float[Tensor, ""]:
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
