"""The typed schema of a configuration, with every range and every default that is not a component's own."""

import json
from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    Field,
    PlainSerializer,
    PlainValidator,
    PrivateAttr,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)
from pydantic_core import PydanticCustomError

from engine.config.errors import Given
from engine.config.published import Published
from engine.config.resources import Resources
from engine.config.search import Domain, DomainError, parse, spell
from engine.config.strict import Component, Name, Strict, require
from engine.config.student import FurtherStudent, Student
from engine.io.files import digest
from engine.ranges import Count, NonNegative, Positive, Share, Whole
from engine.recipes import Precision, Schedule, StudentRecipe, Views


def _parse_domain(given: Any) -> Domain:
    try:
        return given if isinstance(given, Domain) else parse(given)
    except DomainError as error:
        raise PydanticCustomError("expected", "a domain", {"expected": error.expected}) from error


SearchDomain = Annotated[Domain, PlainValidator(_parse_domain), PlainSerializer(spell)]


class Data(Component):
    """The data set: ``name`` is a file of ``engine/data/sets``."""

    name: Name


class LearningRates(Strict):
    """A learning rate for each tower; one number stands for both."""

    image: Positive = 0.1
    text: Positive = 0.1

    @model_validator(mode="before")
    @classmethod
    def _one_for_both(cls, value: Any) -> Any:
        return value if isinstance(value, Mapping | BaseModel) else {"image": value, "text": value}


class Experts(Strict):
    """Number and training of the experts; ``epochs`` None: as many as the method reads.

    ``damaged`` selects what happens to a damaged trajectory; it changes no result.
    """

    count: Count = 4
    epochs: Count | None = None
    lr: LearningRates = Field(default_factory=LearningRates)
    batch_size: Count = 128
    weight_decay: NonNegative = 0.0
    augmentation: Literal["none", "flip", "crop_flip"] = "none"
    captions: Literal["all", "one"] = "all"
    damaged: Literal["retrain", "stop"] = "retrain"


class MethodChoice(Component):
    """The method: ``name`` is a file of ``engine/methods``; every method has the options below.

    ``images`` selects what is learned of each image: its pixels, or a pyramid of layers of 1, 2, 4 ... ``finest``
    pixels a side (None: up to the image's). ``bound`` keeps every learned pixel that close to where it started. With
    ``tiles`` above 1 each image is a mosaic of that many tiles a side, of which a student sees one at a time, enlarged.
    ``views`` are random crops that the method sees in place of the whole images. ``students`` says whether an outer
    step is that of one of several students, drawn, or of all, summed.
    """

    name: Name
    num_pairs: Count
    images: Literal["pixels", "pyramid"] = "pixels"
    finest: Count | None = None
    bound: Positive | None = None
    tiles: Count = 1
    views: Views | None = None
    students: Literal["drawn", "summed"] = "drawn"

    def check(self) -> None:
        require(self.images == "pyramid" or self.finest is None, "finest", "images", value=self.finest,
                expected="null, since images is pixels and only a pyramid has layers")  # fmt: skip
        require(self.images == "pixels" or self.bound is None, "bound", "images", value=self.bound,
                expected="null, since images is pyramid and its layers have no bound")  # fmt: skip
        require(self.views is None or self.views.crop[0] <= self.views.crop[1], "views.crop",
                value=self.views and list(self.views.crop), expected="the smaller share first")  # fmt: skip

    @model_serializer(mode="wrap")
    def _as_given(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out options that have their defaults, so that keys and sets do not change where none is used."""
        fields = type(self).model_fields
        tree: dict[str, Any] = handler(self)
        return {k: v for k, v in tree.items() if k not in fields or fields[k].is_required() or v != fields[k].default}


class Optimiser(Strict):
    """The outer optimiser; learning rates are per outer step, ``momentum`` is allowed with ``sgd`` only.

    ``clip`` bounds the gradient norm of each group; ``ema`` averages the set over steps; ``schedule`` lowers all rates.
    """

    name: Literal["adam", "sgd"] = "adam"
    momentum: Share = 0.0
    clip: Positive | None = None
    ema: Share | None = None
    schedule: Schedule = "constant"
    image_lr: Positive = 0.02
    text_lr: Positive = 0.1
    log_lr: Positive = 0.02
    similarity_lr: Positive | None = None

    def check(self) -> None:
        require(self.name == "sgd" or self.momentum == 0, "momentum", "name", value=self.momentum,
                 expected="0 with adam, which has none")  # fmt: skip

    @property
    def learning_rates(self) -> dict[str, float]:
        """The learning rate of each parameter group that has one."""
        given = {name.removesuffix("_lr"): rate for name, rate in self if name.endswith("_lr")}
        return {name: rate for name, rate in given.items() if rate is not None}


class Protocol(Strict):
    """How a set is scored: students are trained on it at the best of ``learning_rates``, which is chosen on val."""

    epochs: Count = StudentRecipe.epochs
    batch_size: Count = StudentRecipe.batch_size
    seeds: Count = 5
    select_step: Literal["val", "last"] = "val"
    select_epoch: Literal["last", "best_on_val", "best_on_test"] = "last"
    shared_learning_rate: bool = False
    momentum: Share = StudentRecipe.momentum
    weight_decay: NonNegative = StudentRecipe.weight_decay
    schedule: Schedule = StudentRecipe.schedule
    learning_rates: list[Positive] = Field(default_factory=lambda: [0.01, 0.03, 0.1, 0.3, 1.0], min_length=1)

    def check(self) -> None:
        different = len(set(self.learning_rates)) == len(self.learning_rates)
        require(different, "learning_rates", value=self.learning_rates, expected="different rates")


class Baselines(Strict):
    """Coresets and full-data students that a distilled set is compared with.

    ``pairs`` None: as many as the method has; ``patience`` None: no early stopping. ``options`` holds the options of
    coresets by their names (``{herding: {feature: sum}}``).
    """

    coresets: list[Name] = Field(default_factory=lambda: ["random", "herding", "k_center", "forgetting"])
    options: dict[str, dict[str, Any]] = Field(default_factory=dict)
    pairs: list[Count] | None = None
    warmup_epochs: Count = 10
    feature_epoch: Count = 5
    full_epochs: Count = 20
    full_seeds: Whole = 2
    patience: Count | None = 5

    def check(self) -> None:
        require(self.warmup_epochs <= self.full_epochs, "warmup_epochs", "full_epochs", value=self.warmup_epochs,
                expected=f"at most full_epochs, which is {self.full_epochs}")  # fmt: skip
        require(self.feature_epoch <= self.warmup_epochs, "feature_epoch", "warmup_epochs", value=self.feature_epoch,
                 expected=f"at most warmup_epochs, which is {self.warmup_epochs}")  # fmt: skip
        require(self.full_seeds > 0 or not self.coresets, "full_seeds", "coresets", value=self.full_seeds,
                expected="1 or more, since coresets are chosen by the features of a full-data student")  # fmt: skip
        require(len(set(self.coresets)) == len(self.coresets), "coresets", value=self.coresets,
                 expected="different names")  # fmt: skip
        for name in self.options:
            require(name in self.coresets, f"options.{name}", value=self.options[name],
                    expected=f"options of one of the coresets {', '.join(self.coresets)}")  # fmt: skip
        require(self.pairs is None or len(set(self.pairs)) == len(self.pairs) > 0, "pairs", value=self.pairs,
                 expected="null or a list of different numbers of pairs")  # fmt: skip


Metric = Literal["val/mean_recall", "val/IR1", "val/IR5", "val/IR10", "val/TR1", "val/TR5", "val/TR10"]


class Budget(Strict):
    """Length of a run; ``samples`` None: one trial at the defaults, unless the command line sets a number."""

    outer_steps: Count = 300
    evaluate_every: Count = 50
    samples: Count | None = None
    metric: Metric = "val/mean_recall"

    def check(self) -> None:
        require(self.evaluate_every <= self.outer_steps, "evaluate_every", "outer_steps", value=self.evaluate_every,
                 expected=f"at most outer_steps, which is {self.outer_steps}")  # fmt: skip


class Study(Strict):
    """The configuration of a study; ``search`` maps dotted keys to domains, with defaults in the other sections.

    The set is learned for ``student`` and for each of ``students``; ``student`` alone scores the baselines.
    """

    note: str = ""
    seed: int = Field(default=0, ge=0, lt=2**63)
    data: Data
    student: Student
    students: list[FurtherStudent] = Field(default_factory=list)
    experts: Experts = Field(default_factory=Experts)
    method: MethodChoice
    optimiser: Optimiser = Field(default_factory=Optimiser)
    protocol: Protocol = Field(default_factory=Protocol)
    baselines: Baselines = Field(default_factory=Baselines)
    search: dict[str, SearchDomain] = Field(default_factory=dict)
    budget: Budget = Field(default_factory=Budget)
    resources: Resources = Field(default_factory=Resources)
    precision: Precision = "fp32"
    storage: Name = "runs"
    published: list[Published] = Field(default_factory=list)

    _given: Given = PrivateAttr(default_factory=Given)

    def check(self) -> None:
        require(bool(self.students) or self.method.students == "drawn", "method.students", "students",
                value=self.method.students, expected="drawn, since students names no further student")  # fmt: skip
        for key, domain in self.search.items():
            require(searchable(key), f"search.{key}", value=spell(domain),
                     expected=f"{SEARCHED}: all trials share data, student, experts and protocol")  # fmt: skip


SEARCHED = "experts.count or a key inside of method or optimiser"


def searchable(key: object) -> bool:
    """Return whether the trials of a search may differ in ``key``."""
    return isinstance(key, str) and (key == "experts.count" or key.startswith(("method.", "optimiser.")))


class Resolved(Study):
    """A study that was validated with all options of its components; ``resolve`` and ``assign`` alone make one."""

    @cached_property
    def identity(self) -> str:
        """The digest of the configuration with its seed, without what changes no result."""
        tree = self.model_dump(mode="json", exclude={"resources", "note", "storage", "published", "data", "precision"})
        del tree["experts"]["damaged"]
        if not self.students:
            del tree["students"]
        if self.optimiser.schedule == "constant":
            del tree["optimiser"]["schedule"]
        return self._digest_with_data("study/1", tree)

    @cached_property
    def experts_identity(self) -> str:
        """The digest of what determines expert trajectories; more experts or epochs extend the same store."""
        tree = self.model_dump(mode="json", include={"student", "seed", "experts"})
        for key in ("count", "epochs", "damaged"):
            del tree["experts"][key]
        return self._digest_with_data("experts/1", tree)

    def _digest_with_data(self, label: str, tree: dict[str, Any]) -> str:
        """Return the digest of ``tree``, of a precision other than the usual one, and of the data.

        Of the data, options that decide only whether they are read do not count.
        """
        data = self.data.model_dump(mode="json", exclude={"links"})
        tree["data"] = {k: v for k, v in data.items() if k not in ("same_photo", "missing") or v != "refuse"}
        if self.precision != "fp32":
            tree["precision"] = self.precision
        return digest(label, json.dumps(tree, sort_keys=True))

    def of_each_student(self) -> "list[Resolved]":
        """Return this study for each student that the set is learned for, its own first, as if there were no other."""
        own_towers = [{name: tower for name, tower in one if tower is not None} for one in self.students]
        given = [self.student, *(self.student.model_copy(update=towers) for towers in own_towers)]
        own = {name: getattr(self, name) for name in Study.model_fields}
        alone = {"students": [], "method": self.method.model_copy(update={"students": "drawn"})}
        return [Resolved.model_construct(**{**own, **alone, "student": one}) for one in given]
