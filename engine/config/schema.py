"""The typed, strict form of a study's configuration; every range and every default that is not a component's own."""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, PlainSerializer, PlainValidator, PrivateAttr, model_validator
from pydantic_core import PydanticCustomError

from engine.config.errors import Given
from engine.config.search import Domain, DomainError, parse, spell
from engine.config.strict import Strict
from engine.ranges import Count, Positive, Share, Whole

SEARCHABLE = ("data", "student", "experts", "method", "optimiser", "protocol")

Rate = Positive
Name = Annotated[str, Field(min_length=1)]
Recall = Literal["IR1", "IR5", "IR10", "TR1", "TR5", "TR10", "mean_recall"]
Percent = Annotated[float, Field(ge=0, le=100)]


def _parse_domain(given: Any) -> Domain:
    """Read a domain for pydantic."""
    try:
        return given if isinstance(given, Domain) else parse(given)
    except DomainError as error:
        raise PydanticCustomError("expected", "a domain", {"expected": error.expected}) from error


SearchDomain = Annotated[Domain, PlainValidator(_parse_domain), PlainSerializer(spell)]


def require(holds: bool, *keys: str, value: Any, expected: str) -> None:
    """Refuse a combination of fields; the first of ``keys`` is the one named."""
    if not holds:
        raise PydanticCustomError("related", "related", {"keys": keys, "value": value, "expected": expected})


class Component(Strict):
    """A section that names a component; its other keys are the options of that component, checked by ``resolve``."""

    model_config = ConfigDict(extra="allow")

    @property
    def options(self) -> dict[str, Any]:
        """The options of the component as given, complete after ``resolve``."""
        return dict(self.model_extra or {})


class Data(Component):
    """The data set: ``name`` is a file of ``engine/data/sets``."""

    name: Name


class Lora(Strict):
    """Low-rank adapters, of ``alpha / rank`` B A; ``targets`` None: the layers that fit the encoder."""

    rank: Count = 8
    alpha: Rate = 8.0
    targets: Annotated[list[Name], Field(min_length=1)] | None = None


class Tower(Component):
    """One tower of the student: an encoder with its options, what of it is trained, and its head.

    ``lora`` belongs to ``train: lora`` alone, where None stands for the defaults.
    """

    encoder: Name
    train: Literal["frozen", "lora", "full"] = "frozen"
    head: Literal["none", "linear", "mlp"] = "mlp"
    lora: Lora | None = None

    @model_validator(mode="after")
    def _adapters_of_lora(self) -> "Tower":
        require(self.train == "lora" or self.lora is None, "lora", "train", value=self.lora and self.lora.model_dump(),
                 expected=f"null, since train is {self.train} and only lora has adapters")  # fmt: skip
        return self


class Student(Strict):
    """The two towers; ``embed_dim`` is the width of the space that they share."""

    image: Tower
    text: Tower
    temperature: Rate = 0.07
    embed_dim: Count = 512

    @model_validator(mode="after")
    def _learns(self) -> "Student":
        still = all(tower.train == "frozen" and tower.head == "none" for tower in (self.image, self.text))
        require(not still, "image.train", "image.head", "text.train", "text.head", value="frozen",
                 expected="full, lora, or a head, in one tower at least")  # fmt: skip
        return self


class LearningRates(Strict):
    """A learning rate for each tower; one number stands for both."""

    image: Rate = 0.1
    text: Rate = 0.1


class Experts(Strict):
    """How many students are trained on real pairs, and how; ``epochs`` None: as many as the method reads.

    ``damaged`` says what is done about a trajectory that is no longer what was written; it changes no result.
    """

    count: Count = 4
    epochs: Count | None = None
    lr: LearningRates = Field(default_factory=LearningRates)
    batch_size: Count = 128
    weight_decay: float = Field(default=0.0, ge=0)
    augmentation: Literal["none", "flip", "crop_flip"] = "none"
    captions: Literal["all", "one"] = "all"
    damaged: Literal["retrain", "stop"] = "retrain"


class MethodChoice(Component):
    """The method: ``name`` is a file of ``engine/methods``; ``num_pairs`` is an option of every method."""

    name: Name
    num_pairs: Count


class Optimiser(Strict):
    """What steps the synthetic set; rates are per outer step, ``momentum`` belongs to ``sgd`` alone.

    ``clip`` bounds the norm of each group's gradient; ``ema`` keeps a moving average of the set, which is the result.
    """

    name: Literal["adam", "sgd"] = "adam"
    momentum: Share = 0.0
    clip: Rate | None = None
    ema: Share | None = None
    image_lr: Rate = 0.02
    text_lr: Rate = 0.1
    log_lr: Rate = 0.02
    similarity_lr: Rate | None = None

    @model_validator(mode="after")
    def _momentum_of_sgd(self) -> "Optimiser":
        require(self.name == "sgd" or self.momentum == 0, "momentum", "name", value=self.momentum,
                 expected="0 with adam, which has none")  # fmt: skip
        return self

    @property
    def learning_rates(self) -> dict[str, float]:
        """The rate of each named parameter group that has one."""
        given = {name.removesuffix("_lr"): rate for name, rate in self if name.endswith("_lr")}
        return {name: rate for name, rate in given.items() if rate is not None}


class Protocol(Strict):
    """How a set is scored: students trained on it; choices are made on val, ``rates`` are the candidates of the lr."""

    epochs: Count = 100
    batch_size: Count = 128
    seeds: Count = 5
    select_step: Literal["val", "last"] = "val"
    select_epoch: Literal["last", "best_on_val", "best_on_test"] = "last"
    shared_learning_rate: bool = False
    momentum: Share = 0.9
    weight_decay: float = Field(default=5e-4, ge=0)
    schedule: Literal["constant", "step", "cosine"] = "constant"
    learning_rates: list[Rate] = Field(default_factory=lambda: [0.01, 0.03, 0.1, 0.3, 1.0], min_length=1)

    @model_validator(mode="after")
    def _different_rates(self) -> "Protocol":
        require(
            len(set(self.learning_rates)) == len(self.learning_rates),
            "learning_rates",
            value=self.learning_rates,
            expected="different rates",
        )
        return self


class Baselines(Strict):
    """What a distilled set is compared with; ``pairs`` None: the method's budget, ``patience`` None: never early.

    ``options`` are those of coresets, by their names (``{herding: {feature: sum}}``).
    """

    coresets: list[Name] = Field(default_factory=lambda: ["random", "herding", "k_center", "forgetting"])
    options: dict[str, dict[str, Any]] = Field(default_factory=dict)
    pairs: list[Count] | None = None
    warmup_epochs: Count = 10
    feature_epoch: Count = 5
    full_epochs: Count = 20
    full_seeds: Whole = 2
    patience: Count | None = 5

    @model_validator(mode="after")
    def _coherent(self) -> "Baselines":
        require(self.warmup_epochs <= self.full_epochs, "warmup_epochs", "full_epochs", value=self.warmup_epochs,
                expected=f"at most full_epochs, which is {self.full_epochs}")  # fmt: skip
        require(self.feature_epoch <= self.warmup_epochs, "feature_epoch", "warmup_epochs", value=self.feature_epoch,
                 expected=f"at most warmup_epochs, which is {self.warmup_epochs}")  # fmt: skip
        require(self.full_seeds > 0 or not self.coresets, "full_seeds", "coresets", value=self.full_seeds,
                expected="1 or more, for coresets are chosen by what a student of all pairs has learned")  # fmt: skip
        require(len(set(self.coresets)) == len(self.coresets), "coresets", value=self.coresets,
                 expected="different names")  # fmt: skip
        for name in self.options:
            require(name in self.coresets, f"options.{name}", value=self.options[name],
                    expected=f"options of one of the coresets {', '.join(self.coresets)}")  # fmt: skip
        require(self.pairs is None or len(set(self.pairs)) == len(self.pairs) > 0, "pairs", value=self.pairs,
                 expected="null or a list of different numbers of pairs")  # fmt: skip
        return self


class Budget(Strict):
    """How long a run is; ``samples`` None: one trial at the defaults, unless the command says otherwise."""

    outer_steps: Count = 300
    evaluate_every: Count = 50
    samples: Count | None = None
    metric: Literal[
        "val/mean_recall", "val/IR1", "val/IR5", "val/IR10", "val/TR1", "val/TR5", "val/TR10"
    ] = "val/mean_recall"  # fmt: skip

    @model_validator(mode="after")
    def _evaluated_once_at_least(self) -> "Budget":
        require(self.evaluate_every <= self.outer_steps, "evaluate_every", "outer_steps", value=self.evaluate_every,
                 expected=f"at most outer_steps, which is {self.outer_steps}")  # fmt: skip
        return self


class Request(Strict):
    """What one task asks of the cluster; a share of a GPU up to one, whole GPUs above."""

    cpu: float = Field(default=1.0, ge=0)
    gpu: float = Field(default=1.0, ge=0)

    @model_validator(mode="after")
    def _whole_above_one(self) -> "Request":
        require(self.gpu <= 1 or self.gpu.is_integer(), "gpu", value=self.gpu,
                 expected="at most 1, or a whole number of GPUs")  # fmt: skip
        return self


class Resources(Strict):
    """Requests of an expert, a trial and an evaluation; ``gpu`` falls to 0 where the cluster has none."""

    expert: Request = Field(default_factory=lambda: Request(gpu=0.5))
    trial: Request = Field(default_factory=Request)
    evaluation: Request = Field(default_factory=lambda: Request(gpu=0.5))


class Recalls(Strict):
    """What one row of somebody else's table says: recalls in percent, ``std`` where the source tells a ±."""

    name: Name
    pairs: Count
    mean: dict[Recall, Percent] = Field(min_length=1)
    std: dict[Recall, Percent] = Field(default_factory=dict)


class Published(Recalls):
    """A published row with its source; ``protocol`` says in a few words what was scored, for protocols differ.

    Reports print such rows below ours and never among them; they change nothing that is run.
    """

    source: Name
    protocol: Name


class PublishedTable(Strict):
    """Published rows that share their source and protocol."""

    source: Name
    protocol: Name
    recalls: list[Recalls] = Field(min_length=1)

    def rows(self) -> list[Published]:
        """Return the rows, each with source and protocol."""
        shared = {"source": self.source, "protocol": self.protocol}
        return [Published.model_validate({**row.model_dump(), **shared}) for row in self.recalls]


class Study(Strict):
    """One study: the whole configuration. ``search`` maps dotted keys to domains; their defaults are in the rest."""

    note: str = ""
    seed: int = Field(default=0, ge=0, lt=2**63)
    data: Data
    student: Student
    experts: Experts = Field(default_factory=Experts)
    method: MethodChoice
    optimiser: Optimiser = Field(default_factory=Optimiser)
    protocol: Protocol = Field(default_factory=Protocol)
    baselines: Baselines = Field(default_factory=Baselines)
    search: dict[str, SearchDomain] = Field(default_factory=dict)
    budget: Budget = Field(default_factory=Budget)
    resources: Resources = Field(default_factory=Resources)
    storage: Name = "runs"
    published: list[Published] = Field(default_factory=list)

    _given: Given = PrivateAttr(default_factory=Given)

    @model_validator(mode="after")
    def _searchable(self) -> "Study":
        for key, domain in self.search.items():
            require(key.partition(".")[0] in SEARCHABLE and "." in key, f"search.{key}", value=spell(domain),
                     expected=f"a key inside of {', '.join(SEARCHABLE)}")  # fmt: skip
        return self
