"""Components: listing without importing, options from signatures, and binding."""

import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from textwrap import dedent

import pytest

from engine.config.components import FAMILIES, Family, bind, find, names, options, plain, validated
from engine.config.errors import fields_of

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def families(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mapping[str, Family]]:
    """A package of two families, written for one test."""
    top = f"made_{tmp_path.name.replace('-', '_')}"
    files = {
        "__init__.py": "",
        "layers/__init__.py": "",
        "layers/_shared.py": "raise AssertionError('never imported')",
        "layers/broken.py": "raise AssertionError('never imported by listing')",
        "layers/dense.py": """
            from pathlib import Path
            from typing import Literal

            def build(paths, *, width: int, rate: float = 0.5, norm: Literal["batch", "group"] = "group",
                      bias: bool = True, weights: str | None = None, sizes: tuple[int, ...] = (1, 2),
                      where: Path = Path("here")):
                return (paths, width, rate, norm, bias, weights, sizes, where)
            """,
        "rules/__init__.py": "",
        "rules/match.py": """
            from __future__ import annotations
            from dataclasses import dataclass, field
            from typing import ClassVar

            @dataclass(frozen=True, kw_only=True)
            class Rates:
                image: float = 0.1
                text: float = 0.1

            @dataclass(frozen=True, kw_only=True)
            class Learn:
                images: bool = True
                depth: int = 3
                rates: Rates = field(default_factory=Rates)

            @dataclass(frozen=True, kw_only=True)
            class Method:
                needs: ClassVar[frozenset[str]] = frozenset()
                num_pairs: int
                rates: Rates = Rates(image=0.3, text=0.4)
                learn: Learn = field(default_factory=Learn)
                extra: Learn | None = None
                stages: tuple[Rates, ...] = ()
                derived: int = field(default=0, init=False)

                def __post_init__(self):
                    if self.num_pairs < 1:
                        raise ValueError("num_pairs: expected at least 1")
            """,
    }
    for name, text in files.items():
        path = tmp_path / top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text))
    monkeypatch.syspath_prepend(str(tmp_path))
    yield {"layer": Family(f"{top}.layers", "build", "layer"), "rule": Family(f"{top}.rules", "Method", "rule")}
    for module in [name for name in sys.modules if name.partition(".")[0] == top]:
        del sys.modules[module]


def test_names_are_the_files_of_the_folder_and_import_nothing(families: Mapping[str, Family]) -> None:
    assert names("layer", families=families) == ["broken", "dense"]
    assert families["layer"].package not in sys.modules


@pytest.mark.parametrize("family", FAMILIES)
def test_real_families_list_their_folder(family: str) -> None:
    folder = ROOT.joinpath(*FAMILIES[family].package.split("."))
    assert names(family) == sorted(path.stem for path in folder.glob("*.py") if not path.name.startswith("_"))
    assert names(family)


def test_names_of_the_real_families_import_no_torch() -> None:
    code = (
        "import sys; from engine.config import components as c; [c.names(f) for f in c.FAMILIES];"
        "sys.exit(int(any(m in sys.modules for m in ('torch', 'ray', 'mlflow', 'engine.models'))))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


@pytest.mark.parametrize("family", FAMILIES)
def test_every_real_component_has_readable_options(family: str) -> None:
    for name in names(family):
        assert isinstance(fields_of(options(find(family, name))), dict)


def test_find_names_the_nearest_and_all_known(families: Mapping[str, Family]) -> None:
    with pytest.raises(ValueError, match=r"^the layer is 'dens', expected one of broken, dense; the nearest known na"):
        find("layer", "dens", families=families)
    with pytest.raises(ValueError, match=r"^the layer is 'zzz', expected one of broken, dense\.$"):
        find("layer", "zzz", families=families)


@pytest.mark.parametrize("name", ["_shared", "..rules.match", "", "__init__"])
def test_find_takes_no_way_around_the_folder(families: Mapping[str, Family], name: str) -> None:
    with pytest.raises(ValueError, match="expected one of broken, dense"):
        find("layer", name, families=families)


def test_functions_are_bound_to_coerced_options(families: Mapping[str, Family]) -> None:
    values = {"width": "8", "rate": "1e-3", "bias": False, "sizes": ["3"], "where": "there"}
    built = bind("layer", "dense", values, families=families)
    assert built("paths") == ("paths", 8, 1e-3, "group", False, None, (3,), Path("there"))


def test_options_know_their_defaults(families: Mapping[str, Family]) -> None:
    assert plain(validated(find("layer", "dense", families=families), {"width": 3})) == {
        "width": 3, "rate": 0.5, "norm": "group", "bias": True, "weights": None, "sizes": [1, 2], "where": "here",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({}, "layer dense: width is missing, expected an integer."),
        ({"width": "x"}, "layer dense: width is 'x', expected an integer."),
        ({"width": True}, "layer dense: width is true, expected an integer."),
        ({"width": 1.5}, "layer dense: width is 1.5, expected an integer."),
        ({"width": 1, "rate": float("inf")}, "layer dense: rate is inf, expected a finite number."),
        ({"width": 1, "bias": 3}, "layer dense: bias is 3, expected true or false."),
        ({"width": 1, "weights": 3}, "layer dense: weights is 3, expected a text."),
        ({"width": 1, "sizes": 3}, "layer dense: sizes is 3, expected a list."),
        ({"width": 1, "sizes": [1, "x"]}, "layer dense: sizes.1 is 'x', expected an integer."),
        (
            {"width": 1, "norm": "grup"},
            "layer dense: norm is 'grup', expected 'batch' or 'group'; the nearest known name is group.",
        ),
        (
            {"width": 1, "bais": True},
            "layer dense: bais = true is not a known key, the nearest known name is bias.",
        ),
        (
            {"widht": 1},
            "layer dense: widht = 1 is not a known key, the nearest known name is width.",
        ),
        (
            {"width": 1, "paths": 2},
            "layer dense: paths = 2 is not a known key, "
            "expected one of bias, norm, rate, sizes, weights, where, width.",
        ),
        ({"width": "x", "rate": "y"}, "layer dense: width is 'x', expected an integer (and 1 more)."),
    ],
)
def test_wrong_options_are_one_sentence(
    families: Mapping[str, Family], values: dict[str, object], sentence: str
) -> None:
    with pytest.raises(ValueError, match=r"^layer dense") as caught:
        bind("layer", "dense", values, families=families)
    assert str(caught.value) == sentence


def test_nested_dataclasses_arrive_as_instances(families: Mapping[str, Family]) -> None:
    values = {"num_pairs": "4", "learn": {"depth": "5"}, "extra": {"images": False}, "stages": [{"image": 1}, 2]}
    built = bind("rule", "match", values, families=families)
    kind = type(built)
    rates, learn = type(built.rates), type(built.learn)
    assert isinstance(built, find("rule", "match", families=families))
    assert built == kind(
        num_pairs=4,
        rates=rates(image=0.3, text=0.4),
        learn=learn(depth=5),
        extra=learn(images=False),
        stages=(rates(image=1.0), rates(image=2.0, text=2.0)),
    )


def test_a_part_of_a_nested_option_keeps_the_rest_of_its_default(families: Mapping[str, Family]) -> None:
    built = bind("rule", "match", {"num_pairs": 1, "rates": {"image": 9}}, families=families)
    assert (built.rates.image, built.rates.text) == (9.0, 0.4)


def test_one_value_stands_for_both_modalities(families: Mapping[str, Family]) -> None:
    built = bind("rule", "match", {"num_pairs": 1, "rates": "1e-2"}, families=families)
    assert (built.rates.image, built.rates.text) == (0.01, 0.01)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (
            {"num_pairs": 1, "rates": {"image": 1, "txt": 2}},
            "rule match: rates.txt = 2 is not a known key, the nearest known name is rates.text.",
        ),
        ({"num_pairs": 1, "rates": "x"}, "rule match: rates is 'x', expected a number."),
        ({"num_pairs": 1, "learn": 3}, "rule match: learn is 3, expected a mapping of images, depth, rates."),
        (
            {"num_pairs": 1, "learn": {"rates": {"image": []}}},
            "rule match: learn.rates.image is [], expected a number.",
        ),
        (
            {"num_pairs": 1, "derived": 3},
            "rule match: derived = 3 is not a known key, expected one of extra, learn, num_pairs, rates, stages.",
        ),
    ],
)
def test_wrong_nested_options_are_one_sentence(
    families: Mapping[str, Family], values: dict[str, object], sentence: str
) -> None:
    with pytest.raises(ValueError, match=r"^rule match") as caught:
        bind("rule", "match", values, families=families)
    assert str(caught.value) == sentence


def test_a_dataclass_may_refuse_by_itself(families: Mapping[str, Family]) -> None:
    told = r"the whole is {'num_pairs': 0}, expected values that fit together \(num_pairs: expected at least 1\)\.$"
    with pytest.raises(ValueError, match=told):
        bind("rule", "match", {"num_pairs": 0}, families=families)


def test_real_method_binds_with_nested_options() -> None:
    method = bind("method", "bi_trajectory", {"num_pairs": "10", "inner_lr": {"image": "1e-1"}, "init": "noise"})
    assert (method.num_pairs, method.inner_lr.image, method.init.text) == (10, 0.1, "noise")
