"""Configurations: what loads, what it resolves to, and the sentence each mistake gets."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.config.components import names
from engine.config.load import (
    ConfigError,
    Study,
    as_yaml,
    assign,
    load,
    parse_overrides,
    resolve,
)
from engine.config.published import published_in
from engine.config.schema import Experts
from engine.config.spaces import notes, spaces

ROOT = Path(__file__).resolve().parents[2]
TEXT = """\
note: a test
data: {name: shapes}
student:
  image: {encoder: convnet, train: full, head: linear}
  text: {encoder: tfidf}
method: {name: bi_trajectory, num_pairs: 100}
search:
  method.inner_lr.image: {loguniform: [1e-2, 1.0], default: 1e-1}
  method.inner_steps: {choice: [4, "8", 16], default: "8"}
"""
TOP = (
    "baselines, budget, data, experts, method, note, optimiser, precision, protocol, published, resources, search, "
    "seed, storage, student, students"
)
METHOD = (
    "bound, distance, finest, gradient, images, init, inner_batch, inner_lr, inner_steps, inner_temperature, learn, "
    "max_start, name, num_pairs, real_batch, real_weight, shortcut, span, students, text_max_start, tiles, views"
)
EIGHTS = "{int: [8, 9], default: 8}"
SHARED = "experts.count or a key inside of method or optimiser: all trials share data, student, experts and protocol"
KINDS = "{<kind>: [...], default: ...} where the kind is one of choice, uniform, loguniform, int, logint"


@pytest.fixture
def space(tmp_path: Path) -> Path:
    path = tmp_path / "space.yaml"
    path.write_text(TEXT)
    return path


def unknown(format_bytes: str, near: str) -> str:
    return f"{format_bytes} is not a known key, the nearest known name is {near}"


def resolved(space: Path | str, *overrides: str) -> Study:
    return resolve(load(space, overrides))


def sentence(space: Path | str, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        resolved(space, *overrides)
    return str(caught.value)


# --- the spaces that come with the project


SHIPPED = list(spaces())
OURS = [name for name in SHIPPED if "/" not in name]
RECIPES = [name for name in SHIPPED if name.startswith("published/")]


def test_every_yaml_is_a_space_with_a_note() -> None:
    files = {path.relative_to(ROOT / "tune_spaces").parts[0] for path in (ROOT / "tune_spaces").rglob("*.yaml")}
    assert files - {"published", "tables"} == {f"{name}.yaml" for name in OURS}
    assert set(OURS) >= {"flickr8k_100", "flickr8k_100_small", "shapes_100"}
    assert SHIPPED == OURS + RECIPES
    assert all(notes(spaces()).values())


@pytest.mark.parametrize("name", SHIPPED)
def test_every_space_resolves_and_survives_its_own_yaml(name: str, tmp_path: Path) -> None:
    study = resolved(name)
    path = tmp_path / "resolved.yaml"
    path.write_text(as_yaml(study))
    again = resolve(load(path))
    assert again.model_dump() == study.model_dump()
    assert again.identity == study.identity
    assert study.search or name in RECIPES


def test_there_is_a_recipe_of_every_published_setting() -> None:
    settings = {(data, pairs, name) for data in ("flickr30k", "coco") for pairs in (100, 200, 500) for name in METHODS}
    settings |= {(data, 1000, "bi_trajectory") for data in ("flickr30k", "coco")}
    assert {tuple(_setting(name)) for name in RECIPES} == settings
    assert len(RECIPES) == 26


METHODS = ("bi_trajectory", "lors", "repblend", "mdm")


def _setting(name: str) -> tuple[str, int, str]:
    data, pairs, method = name.removeprefix("published/").split("_", maxsplit=2)
    return data, int(pairs), method


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_what_its_name_says_and_has_its_published_row(name: str) -> None:
    study, (data, pairs, method) = resolved(name), _setting(name)
    assert (study.data.options["root"], study.data.options["image_px"]) == (data, 224)
    assert (study.method.name, study.method.num_pairs) == (method, pairs - (method in ("lors", "repblend")))
    assert study.student.image.train == ("frozen" if method == "repblend" else "full")
    assert (study.experts.count, study.baselines.pairs) == (20, [pairs])
    first = study.published[0]
    assert first.pairs == pairs
    assert set(first.mean) == {"IR1", "IR5", "IR10", "TR1", "TR5", "TR10", "mean_recall"}
    assert f"mean recall {first.mean['mean_recall']}" in study.note
    six = [value for key, value in first.mean.items() if key != "mean_recall"]
    assert sum(six) / 6 == pytest.approx(first.mean["mean_recall"], abs=0.11)


def test_published_rows_are_no_part_of_a_study(space: Path) -> None:
    row = "{name: a, pairs: 3, source: b, protocol: c, mean: {IR1: 3}}"
    study = resolved(space, f"published=[{row}]")
    assert study.published[0].mean == {"IR1": 3.0}
    assert study.identity == resolve(load(space)).identity
    assert study.experts_identity == resolve(load(space)).experts_identity


# --- what is read


def test_defaults_are_filled_in(space: Path) -> None:
    study = resolved(space)
    assert study.protocol.learning_rates == [0.01, 0.03, 0.1, 0.3, 1.0]
    assert study.student.text.train == "frozen"
    assert study.student.image.options["depth"] == 3
    assert study.method.options["span"] == 1
    assert study.method.options["inner_lr"] == {"image": 0.1, "text": 0.1}


def test_resolving_twice_changes_nothing(space: Path) -> None:
    study = resolved(space)
    assert resolve(study).model_dump() == study.model_dump()
    assert Study.model_validate(study.model_dump()).model_dump() == study.model_dump()


def test_searched_values_take_the_types_of_their_fields(space: Path) -> None:
    search = resolved(space).model_dump()["search"]
    assert search["method.inner_steps"] == {"choice": [4, 8, 16], "default": 8}
    assert search["method.inner_lr.image"] == {"loguniform": [0.01, 1.0], "default": 0.1}


def test_texts_become_numbers(space: Path) -> None:
    study = resolved(space, "experts.lr=1e-3", "protocol.epochs='8'", "method.inner_batch=2.0", "optimiser.log_lr=5e-2")
    assert (study.experts.lr.image, study.experts.lr.text) == (0.001, 0.001)
    assert study.protocol.epochs == 8
    assert study.method.options["inner_batch"] == 2
    assert study.optimiser.learning_rates == {"image": 0.02, "text": 0.1, "log": 0.05}


def test_overrides_reach_every_level(space: Path) -> None:
    study = resolved(
        space, "seed=3", "note=a=b", "student.image.width=16", "experts.lr.text=0.2", "baselines={pairs: [10, 20]}"
    )
    assert (study.seed, study.note, study.student.image.options["width"]) == (3, "a=b", 16)
    assert (study.experts.lr.image, study.experts.lr.text) == (0.1, 0.2)
    assert study.baselines.pairs == [10, 20]
    assert study.baselines.full_epochs == 20


def test_a_part_of_a_pair_can_replace_one_value_for_both(space: Path) -> None:
    space.write_text(TEXT + "experts: {lr: 0.3}\n")
    lr = resolved(space, "experts.lr.text=0.2").experts.lr
    assert (lr.image, lr.text) == (0.3, 0.2)


def test_overriding_a_searched_key_fixes_it(space: Path) -> None:
    study = resolved(space, "method.inner_steps=2")
    assert study.method.options["inner_steps"] == 2
    assert list(study.search) == ["method.inner_lr.image"]


def test_overriding_a_parent_fixes_the_searched_keys_in_it(space: Path) -> None:
    study = resolved(space, "method.inner_lr=0.5")
    assert study.method.options["inner_lr"] == {"image": 0.5, "text": 0.5}
    assert list(study.search) == ["method.inner_steps"]


def test_the_search_can_be_changed_from_the_command_line(space: Path) -> None:
    assert not resolved(space, "search={}").search
    study = resolved(space, "search.method.span={int: [1, 2], default: 2}")
    assert len(study.search) == 3
    assert study.method.options["span"] == 2


def test_a_trial_takes_its_values_and_has_no_search(space: Path) -> None:
    study = resolved(space)
    trial = assign(study, {"method.inner_steps": 16, "method.inner_lr.image": 0.5})
    direct = resolved(space, "method.inner_steps=16", "method.inner_lr.image=0.5")
    assert trial.model_dump() == direct.model_dump()
    assert trial.identity == direct.identity != study.identity


def test_the_default_trial_leaves_the_rest_of_the_search_alone(space: Path) -> None:
    assert list(assign(resolved(space), {"method.inner_steps": 4}).search) == ["method.inner_lr.image"]


def test_augmentations_are_those_of_the_library() -> None:
    from engine.data.augmentation import Augmentation

    assert Experts.model_fields["augmentation"].annotation == Augmentation


# --- identities


@pytest.mark.parametrize("same", ["note=other", "storage=elsewhere", "resources.trial.gpu=0", "protocol.epochs=1e2"])
def test_identity_ignores_where_a_study_runs_and_how_it_is_spelled(space: Path, same: str) -> None:
    if same == "protocol.epochs=1e2":
        same = "protocol.epochs=100"
    assert resolve(load(space, [same])).identity == resolve(load(space)).identity


@pytest.mark.parametrize(
    "other", ["seed=1", "protocol.epochs=3", "method.span=2", "student.image.depth=2", "search={}", "budget.samples=3"]
)
def test_identity_follows_everything_else(space: Path, other: str) -> None:
    assert resolve(load(space, [other])).identity != resolve(load(space)).identity


def test_identity_ignores_what_decides_only_whether_data_are_read(space: Path) -> None:
    def identities(*overrides: str) -> tuple[str, str]:
        study = resolve(load(space, ["data={name: table, root: mine, table: t.csv}", *overrides]))
        return study.identity, study.experts_identity

    assert identities("data.links=follow", "data.same_photo=refuse") == identities()
    assert len({identities(), identities("data.same_photo=first"), identities("data.same_photo=last")}) == 3


@pytest.mark.parametrize(
    "same",
    ["experts.count=9", "experts.epochs=7", "experts.damaged=stop", "method.inner_steps=2", "student.image.depth=3"],
)
def test_experts_serve_other_studies(space: Path, same: str) -> None:
    assert resolve(load(space, [same])).experts_identity == resolve(load(space)).experts_identity


@pytest.mark.parametrize("other", ["seed=1", "experts.lr=0.2", "student.temperature=0.1", "student.image.depth=2"])
def test_experts_follow_what_trains_them(space: Path, other: str) -> None:
    assert resolve(load(space, [other])).experts_identity != resolve(load(space)).experts_identity


# --- values on the command line


@pytest.mark.parametrize(
    "text",
    ["photos/set #1", "#1", " a ", "a: b", "- a", "*.csv", "&a", "!a", "%a", "@a", "`a", "? a", "|", "> a", "---",
     "2026-11-26", "=", "<<", "[old] photos", "{a", "'tis", "a\tb", "a\nb: c", "é #", "C:\\runs"],
)  # fmt: skip
def test_a_text_stays_as_it_was_typed(space: Path, text: str) -> None:
    study = resolved(space, f"storage={text}", f"note={text}")
    assert (study.storage, study.note) == (text, text)
    (space.parent / "again.yaml").write_text(as_yaml(study), encoding="utf-8")
    assert load(space.parent / "again.yaml").storage == text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None), ("~", None), ("null", None), ("true", True), ("off", False), ("3", 3), (" 3 ", 3), ("-1.5", -1.5),
        ("'3'", "3"), ("'a # b'", "a # b"), ('"a\\t#"', "a\t#"), ("[1, a #b, 'c # d']", [1, "a #b", "c # d"]),
        ("{a #b: {c: d #e, f: null}}", {"a #b": {"c": "d #e", "f": None}}), ("[]", []),
    ],
)  # fmt: skip
def test_other_values_are_those_of_yaml(text: str, value: object) -> None:
    assert parse_overrides([f"key={text}"]) == {"key": value}


# --- mistakes on the command line

ON_COMMAND_LINE = [
    ("protocol.epochs=0", "protocol.epochs is 0, expected a number of at least 1"),
    ("protocol.epochs=[1]", "protocol.epochs is [1], expected an integer"),
    ("protocol.epochs.x=3", "protocol.epochs is {'x': 3}, expected an integer"),
    ("protocol.epoch=5", unknown("protocol.epoch = 5", "protocol.epochs")),
    ("outer_steps=5", unknown("outer_steps = 5", "budget.outer_steps")),
    ("foo=null", f"foo = null is not a known key, expected one of {TOP}"),
    ("resources.trial.gpus=1", unknown("resources.trial.gpus = 1", "resources.trial.gpu")),
    ("experts.lr=-1", "experts.lr is -1, expected a number above 0"),
    ("experts.lr=true", "experts.lr is true, expected a number"),
    ("experts.lr=fast", "experts.lr is 'fast', expected a number"),
    ("experts.lr=.nan", "experts.lr is nan, expected a finite number"),
    ("experts.augmentation=flop", "experts.augmentation is 'flop', expected 'none', 'flip' or 'crop_flip'; "
     "the nearest known name is flip"),
    ("seed=-1", "seed is -1, expected a number of at least 0"),
    ("seed=yes", "seed is true, expected an integer"),
    ("note=3", "note is 3, expected a text"),
    ("storage=''", "storage is '', expected a text that is not empty"),
    ("data=3", "data is 3, expected a mapping of name"),
    ("published=3", "published is 3, expected a list"),
    ("published=[{name: a, pairs: 3, source: b, protocol: c, mean: {IR2: 3}}]",
     "published.0.mean.IR2 is 'IR2', expected 'IR1', 'IR5', 'IR10', 'TR1', 'TR5', 'TR10' or 'mean_recall'; "
     "the nearest known name is IR5"),
    ("published=[{name: a, pairs: 3, source: b, protocol: c, mean: {IR1: 101}}]",
     "published.0.mean.IR1 is 101, expected a number of at most 100"),
    ("data.name=circles", f"data.name is 'circles', expected one of {', '.join(names('data'))}"),
    (
        "student.image.encoder=convnt",
        f"student.image.encoder is 'convnt', expected one of {', '.join(names('image'))}; "
        "the nearest known name is convnet",
    ),
    ("student.image.encoder=null", "student.image.encoder is null, expected a text"),
    ("student.image.encodr=x", unknown("student.image.encodr = 'x'", "student.image.encoder")),
    ("student.image.trian=full", unknown("student.image.trian = 'full'", "student.image.train")),
    ("student.image.widht=8", unknown("student.image.widht = 8", "student.image.width")),
    ("student.image.width=wide", "student.image.width is 'wide', expected an integer"),
    (
        "student.image.train=ful",
        "student.image.train is 'ful', expected 'frozen', 'lora' or 'full'; the nearest known name is full",
    ),
    (
        "student={image: {encoder: convnet}}",
        "student.text is missing, expected a mapping of encoder, train, head, lora",
    ),
    (
        "student.image.lora={rank: 4}",
        "student.image.lora is {'rank': 4, 'alpha': 8.0, 'targets': None}, "
        "expected null, since train is full and only lora has adapters",
    ),
    ("student.image.lora.rnk=4", unknown("student.image.lora.rnk = 4", "student.image.lora.rank")),
    ("method={name: bi_trajectory}", "method.num_pairs is missing, expected an integer"),
    ("method.inner_steps=1.5", "method.inner_steps is 1.5, expected an integer"),
    ("method.inner_step=2", unknown("method.inner_step = 2", "method.inner_steps")),
    ("method.zzz=2", f"method.zzz = 2 is not a known key, expected one of {METHOD}"),
    ("method.learn.image=no", unknown("method.learn.image = false", "method.learn.images")),
    ("method.gradient=exat",
     "method.gradient is 'exat', expected 'exact', 'stored' or 'truncated'; the nearest known name is exact"),
    ("method.inner_lr=hello", "method.inner_lr is 'hello', expected a number"),
    ("optimiser.momentum=0.5", "optimiser.momentum is 0.5, expected 0 with adam, which has none"),
    ("optimiser.name=adm", "optimiser.name is 'adm', expected 'adam' or 'sgd'; the nearest known name is adam"),
    ("protocol.learning_rates=[]", "protocol.learning_rates is [], expected a list of 1 or more"),
    ("protocol.learning_rates=[0.1, x]", "protocol.learning_rates.1 is 'x', expected a number"),
    ("protocol.learning_rates=[0.1, 0.1]", "protocol.learning_rates is [0.1, 0.1], expected different rates"),
    ("protocol.momentum=1", "protocol.momentum is 1, expected a number below 1"),
    ("protocol=null", "protocol is null, expected a mapping of epochs, batch_size, seeds, select_step, select_epoch, "
     "shared_learning_rate, momentum, weight_decay, schedule, learning_rates"),
    ("baselines.coresets=[random, hrding]",
     "baselines.coresets.1 is 'hrding', expected one of clipcov, forgetting, herding, k_center, prototype, random; "
     "the nearest known name is herding"),
    ("baselines.options={hrding: {feature: sum}}",
     "baselines.options.hrding is {'feature': 'sum'}, expected options of one "
     "of the coresets random, herding, k_center, forgetting"),
    ("baselines.options={herding: {feature: max}}",
     "baselines.options.herding.feature is 'max', expected 'concat' or 'sum'"),
    ("baselines.options.herding.features=sum",
     unknown("baselines.options.herding.features = 'sum'", "baselines.options.herding.feature")),
    ("baselines.feature_epoch=20", "baselines.feature_epoch is 20, expected at most warmup_epochs, which is 10"),
    ("baselines.pairs=[]", "baselines.pairs is [], expected null or a list of different numbers of pairs"),
    ("budget.evaluate_every=500", "budget.evaluate_every is 500, expected at most outer_steps, which is 300"),
    ("budget.outer_steps=10", "budget.evaluate_every is 50, expected at most outer_steps, which is 10"),
    ("resources.trial.gpu=1.5", "resources.trial.gpu is 1.5, expected at most 1, or a whole number of GPUs"),
    ("a.b", "'a.b' is no override, expected key=value such as method.inner_steps=8"),
    ("a..b=3", "'a..b=3' is no override, expected key=value such as method.inner_steps=8"),
    ("=3", "'=3' is no override, expected key=value such as method.inner_steps=8"),
    ("protocol.learning_rates=[0.1, 0.2", "protocol.learning_rates is '[0.1, 0.2', expected a list"),
    ("protocol.learning_rates=[0.1]]", "the value of protocol.learning_rates: line 1 is not usable YAML, "
     "expected '<document start>', but found ']'"),
    ("protocol.epochs=*x", "protocol.epochs is '*x', expected an integer"),
    ("protocol.epochs=[*x]",
     "the value of protocol.epochs: line 1 is not usable YAML, found an anchor, an alias or a tag"),
    ("protocol={epochs: 3, epochs: 4}",
     "the value of protocol: line 1 is not usable YAML, found the key 'epochs' twice"),
    ("seed=2024-13-45", "seed is '2024-13-45', expected an integer"),
    ("storage=caf\udce9", "the value of storage is 'caf\\udce9', expected a text in UTF-8"),
    ("search=3", "search is 3, expected a mapping"),
    ("search.method.span=3", f"search.method.span is 3, expected {KINDS}"),
    ("search.method.span={int: [1, 2]}", f"search.method.span is {{'int': [1, 2]}}, expected {KINDS}"),
    (
        "search.method.inner_lr.text={loguniform: [0, 1], default: 1}",
        "search.method.inner_lr.text is {'loguniform': [0, 1], 'default': 1}, "
        "expected loguniform: [low, high] with low above 0",
    ),
    ("search.method.span={choice: [1, a], default: 1}", "search.method.span holds 'a', expected an integer"),
    ("search.method.span={choice: [1, a], default: a}", "search.method.span.default is 'a', expected an integer"),
    ("search.method.span={uniform: [1, 2], default: 1}",
     "search.method.span holds 1.4472135954999579, expected an integer"),
    ("search.experts.count={int: [0, 9], default: 1}",
     "search.experts.count holds 0, expected a number of at least 1"),
    (
        "search.method.spam={int: [1, 2], default: 1}",
        unknown("search.method.spam = 1", "search.method.span"),
    ),
    (
        "search.budget.outer_steps={int: [60, 90], default: 60}",
        "search.budget.outer_steps is {'int': [60, 90], 'default': 60}, "
        f"expected {SHARED}",
    ),
    *(
        (f"search.{key}={EIGHTS}", f"search.{key} is {{'int': [8, 9], 'default': 8}}, expected {SHARED}")
        for key in ("data.image_px", "student.image.depth", "protocol.epochs", "experts.epochs", "seed")
    ),
    (
        "search.method.num_pairs.x={int: [60, 90], default: 60}",
        "search.method.num_pairs.x.default is 60, expected no key below method.num_pairs, which is 100",
    ),
    (
        "search.method.inner_lr={choice: [0.1], default: 0.1}",
        "search.method.inner_lr.image is {'loguniform': ['1e-2', 1.0], 'default': '1e-1'}, "
        "expected no domain beside that of method.inner_lr",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("override", "told"), ON_COMMAND_LINE)
def test_a_wrong_override_is_one_sentence(space: Path, override: str, told: str) -> None:
    assert sentence(space, override) == f"command line: {told}."


def test_the_same_key_twice_is_refused(space: Path) -> None:
    assert sentence(space, "seed=1", "seed=2") == "command line: seed is given twice, expected one value."


def test_the_same_override_of_a_table_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^command line: seed is given twice, expected one value\.$"):
        parse_overrides(["seed=1", "protocol.seeds=2", "seed=1"])


def test_a_student_has_to_learn_something(space: Path) -> None:
    told = sentence(space, "student.image.train=frozen", "student.image.head=none", "student.text.head=none")
    assert told == (
        "command line: student.image.train is 'frozen', expected full, lora, or a head, in one tower at least."
    )


def test_several_mistakes_are_counted(space: Path) -> None:
    told = sentence(space, "protocol.epochs=0", "protocol.batch_size=x", "nte=4")
    assert told == "command line: nte = 4 is not a known key, the nearest known name is note (and 2 more)."
    told = sentence(space, "student.image.widht=1", "student.text.din=x")
    assert told == (
        "command line: student.image.widht = 1 is not a known key, the nearest known name is student.image.width "
        "(and 1 more)."
    )


# --- mistakes in a file

IN_FILE = [
    ("", "the file holds null, expected a mapping with data, student and method"),
    ("- 3", "the file holds [3], expected a mapping with data, student and method"),
    ("a: b: c", "line 1 is not usable YAML, mapping values are not allowed here"),
    ("data: 3\ndata: 4", "line 2 is not usable YAML, found the key 'data' twice"),
    ("data: &x {name: shapes}", "line 1 is not usable YAML, found an anchor, an alias or a tag"),
    ("data: !!python/name:os.system", "line 1 is not usable YAML, found an anchor, an alias or a tag"),
    ("a: \0", "the text is not usable YAML, special characters are not allowed"),
    ("[" * 3000, "the configuration is nested too deeply, expected a few levels"),
    (TEXT + "3: 4\n", f"3 = 4 is not a known key, expected one of {TOP}"),
    (TEXT + "null: 4\n", f"None = 4 is not a known key, expected one of {TOP}"),
    (TEXT.replace("{name: shapes}", "{name: shapes, 3: 3}"),
     "data.3 = 3 is not a known key, expected one of name"),
    (TEXT + "true: 4\n", f"True = 4 is not a known key, expected one of {TOP}"),
    (TEXT + "budgte: {}\n", "budgte = {} is not a known key, the nearest known name is budget"),
    (TEXT + "protocol: {epoch: 3}\n", unknown("protocol.epoch = 3", "protocol.epochs")),
    (TEXT.replace("data: {name: shapes}\n", ""), "data is missing, expected a mapping of name"),
    (TEXT.replace("name: bi_trajectory, ", ""), "method.name is missing, expected a text"),
    (TEXT.replace(", num_pairs: 100", ""), "method.num_pairs is missing, expected an integer"),
    (
        TEXT.replace("encoder: convnet", "encodr: convnet"),
        unknown("student.image.encodr = 'convnet'", "student.image.encoder"),
    ),
    (
        TEXT.replace("num_pairs: 100", "num_pairs: 100, inner_steps: 3"),
        "method.inner_steps is 3, expected its default in search, '8', or no value here",
    ),
    (
        TEXT.replace("num_pairs: 100", "num_pairs: 100, inner_lr: 3"),
        "method.inner_lr.image is 3, expected its default in search, '1e-1', or no value here",
    ),
    (TEXT.replace('"8"', "x"), "search.method.inner_steps.default is 'x', expected an integer"),
    (TEXT.replace("[4,", "[q,"), "search.method.inner_steps holds 'q', expected an integer"),
    (
        TEXT.replace("method.inner_steps:", "method.inner_stepz:"),
        unknown("search.method.inner_stepz = '8'", "search.method.inner_steps"),
    ),
    (
        TEXT + "  inner_steps: {choice: [1], default: 1}\n",
        "search.inner_steps is {'choice': [1], 'default': 1}, "
        f"expected {SHARED}",
    ),
    (TEXT + "  note: 3\n", f"search.note is 3, expected {KINDS}"),
    (TEXT.replace("search:\n", "search:\n  method: {inner_steps: {choice: [1], default: 1}}\n"),
     f"search.method is {{'inner_steps': {{'choice': [1], 'default': 1}}}}, expected {KINDS}"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "told"), IN_FILE, ids=range(len(IN_FILE)))
def test_a_wrong_file_is_one_sentence(space: Path, text: str, told: str) -> None:
    space.write_text(text)
    separator = " " if "usable YAML" in told else ": "
    assert sentence(space) in (f"{space}:{separator}{told}.", f"{space}: {told}.")


def test_a_file_that_is_not_text(space: Path) -> None:
    space.write_bytes(b"note: \xff\xfe")
    assert sentence(space) == f"{space}: the file cannot be read (it is not UTF-8), expected a YAML file."


def test_a_file_that_is_absent(tmp_path: Path) -> None:
    path = tmp_path / "absent.yaml"
    told = f"{path}: the file cannot be read (No such file or directory), expected a YAML file."
    assert sentence(path) == sentence(str(path)) == told


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("shape_100", "shapes_100"),
        ("zzz", None),
        ("flickr30k_100_lors", "published/flickr30k_100_lors"),
        ("published/flickr30k_100_lor", "published/flickr30k_100_lors"),
    ],
)
def test_an_unknown_space(name: str, near: str | None) -> None:
    hint = f"; the nearest known name is {near}" if near else ""
    assert sentence(name) == (
        f"command line: the space is {name!r}, expected the path of a YAML file, one of {', '.join(OURS)}, "
        f"or of {len(RECIPES)} in published/ (--list shows all){hint}."
    )


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"method.inner_steps": "x"}, "method.inner_steps is 'x', expected an integer"),
        ({"method.zzz": 1}, f"method.zzz = 1 is not a known key, expected one of {METHOD}"),
    ],
)
def test_a_wrong_trial_is_one_sentence(space: Path, values: dict[str, object], told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        assign(resolved(space), values)
    assert str(caught.value) == f"trial: {told}."


# --- whatever is written, a study or a sentence

TOKENS = [
    "null", "true", "-1", "0", "1e-3", ".nan", ".inf", "x", "''", "[]", "{}", "[1, a]", "{a: 1}", "*a", "&a", "!!int",
    "? ", "- ", ": ", ",", "}", "{", "]", "#", "|", "\n", "\t", "  ", "<<: {a: 1}", "2024-02-31", "9" * 400, "name",
    "search:", "method.", "default: 3", "é", "\x07", '"', "'", "1:2:3", "0b_", "=",
]  # fmt: skip


@st.composite
def mutated(draw: st.DrawFn) -> str:
    """Text of a space with a few pieces removed, repeated, or replaced."""
    text = draw(st.sampled_from([TEXT, (ROOT / "tune_spaces" / "shapes_100.yaml").read_text()]))
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.integers(0, 12)))
        piece = draw(st.sampled_from([*TOKENS, "", text[start:end] * 2]))
        text = text[:start] + piece + text[end:]
    return text


@settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(text=mutated())
def test_any_text_is_a_study_or_one_sentence(text: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "mutated.yaml"
    path.write_text(text, encoding="utf-8", newline="")
    try:
        study = resolved(path)
    except ConfigError as error:
        told = str(error)
    else:
        told = f"{path}: {yaml.safe_load(as_yaml(study))['note']!r}."
        assert len(study.identity) == 16
    assert told.startswith(f"{path}:")
    assert told.endswith(".")
    assert "\n" not in told


def test_loading_imports_neither_torch_nor_ray_nor_mlflow() -> None:
    code = (
        "import sys; from engine.config.load import load; load('shapes_100', ['seed=3']);"
        "sys.exit(int(any(m in sys.modules for m in ('torch', 'ray', 'mlflow'))))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_published_rows_are_read_from_what_a_study_left(tmp_path: Path) -> None:
    path = tmp_path / "configuration.yaml"
    assert published_in(path) == []
    path.write_text(as_yaml(resolved("published/flickr30k_100_lors")) + "an_option_of_a_later_version: 3\n")
    assert [row.name for row in published_in(path)] == ["LoRS"]
    path.write_text("published: [{name: a}]")
    with pytest.raises(ConfigError, match=r"published holds .*, expected rows of a published table\.$"):
        published_in(path)
