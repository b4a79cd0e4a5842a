"""The sections of a study that describe students: two towers, and further students that a set is learned for."""

from dataclasses import asdict
from typing import Literal

from engine.config.strict import Component, Name, Strict, require
from engine.ranges import Count, Positive
from engine.recipes import Lora


class Tower(Component):
    """A tower of the student: an encoder with its options, its trained part, and its head.

    ``lora`` is allowed with ``train: lora`` only, where None means the defaults.
    """

    encoder: Name
    train: Literal["frozen", "lora", "full"] = "frozen"
    head: Literal["none", "linear", "mlp"] = "mlp"
    lora: Lora | None = None

    def check(self) -> None:
        require(self.train == "lora" or self.lora is None, "lora", "train", value=self.lora and asdict(self.lora),
                 expected=f"null, since train is {self.train} and only lora has adapters")  # fmt: skip


class Student(Strict):
    """The two towers, of which at least one is trained; ``embed_dim`` is the width of their shared space."""

    image: Tower
    text: Tower
    temperature: Positive = 0.07
    embed_dim: Count = 512

    def check(self) -> None:
        still = all(tower.train == "frozen" and tower.head == "none" for tower in (self.image, self.text))
        require(not still, "image.train", "image.head", "text.train", "text.head", value="frozen",
                 expected="full, lora, or a head, in one tower at least")  # fmt: skip


class FurtherStudent(Strict):
    """A further student that a set is learned for; a tower that is left out is that of ``student``."""

    image: Tower | None = None
    text: Tower | None = None

    def check(self) -> None:
        require(self.image is not None or self.text is not None, "image", value=None,
                 expected="an image or a text tower that differs from that of student")  # fmt: skip
