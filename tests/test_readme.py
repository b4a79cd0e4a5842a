"""What the README, CONTRIBUTING and docs/data.md say to type and to write works as it stands there."""

import re
import shlex
from importlib import import_module
from pathlib import Path

import pytest
import torch

from engine.config import components
from engine.config.comparison import read_comparison
from engine.config.components import FAMILIES
from engine.config.load import load, resolve
from engine.distill import Distillation, outer_optimiser
from engine.io.paths import Paths
from engine.rng import named_generator
from tasks.__main__ import verbs
from tests.toys import tiny_sources, tiny_student

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DATA = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", README + CONTRIBUTING + DATA, re.DOTALL | re.MULTILINE)
    return [text for name, text in fenced if name == language]


def commands(start: str) -> list[list[str]]:
    lines = [line for block in blocks("sh") for line in block.splitlines()] + re.findall(rf"`({start}[^`]*)`", README)
    return [shlex.split(line, comments=True) for line in lines if line.startswith(start)]


def code(path: str) -> str:
    return next(block for block in blocks("python") if path in block)


def test_there_are_commands_to_check() -> None:
    assert len(commands("python tasks/")) >= 10
    assert {tuple(words) for words in commands("make ")} >= {("make", "demo"), ("make", "test")}


@pytest.mark.parametrize("words", commands("make "), ids=" ".join)
def test_make_targets_exist(words: list[str]) -> None:
    assert re.search(rf"^{words[1]}:", MAKEFILE, re.MULTILINE)


@pytest.mark.parametrize("words", commands("python tasks/"), ids=" ".join)
def test_commands_are_understood(words: list[str]) -> None:
    task = Path(words[1]).stem
    assert task in verbs()
    assert (ROOT / words[1]).is_file()
    args = import_module(f"tasks.{task}").PARSER.parse_args(words[2:])
    written = [f"{line[2]}.yaml" for line in commands("python tasks/new.py")]
    if task in ("actors", "doctor", "new") or (task == "export" and args.set) or args.space in written:
        # takes no space, or one that the reader has not
        return
    if task == "compare":
        read_comparison(args.space)
        return
    examples = {"method.name=text_fit", "student.image.encoder=patches"}  # files that the reader writes
    resolve(load(args.space, [word for word in args.overrides if word not in examples]))


def test_the_tree_names_what_is_there() -> None:
    tree = next(block for block in blocks("") if block.startswith("engine/"))
    for line in tree.splitlines():
        folder = ROOT / "engine" if line.startswith("  ") else ROOT
        names = re.findall(r"[\w/]+(?:/|\.py)(?=\s|$)", line[:24])
        assert names, line
        assert all((folder / name).exists() for name in names), line


def test_the_method_of_contributing_learns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, paths: Paths) -> None:
    method = _written("method", "text_fit", tmp_path, monkeypatch)(num_pairs=6)
    sources = tiny_sources(tiny_student(paths), epochs=1)
    pairs = torch.rand(6, 3, 8, 8, generator=named_generator(0, "x")), torch.from_numpy(sources.pairs.texts[:6])
    state = method.initial_state(*pairs, sources, named_generator(0, "state"))
    run = Distillation(method, state, outer_optimiser(method.param_groups(state), {"text": 0.05}), sources, seed=0)
    losses: list[float] = []
    run.run(20, lambda step, state, metrics: losses.append(metrics["loss"]))
    assert losses[-1] < losses[0]
    assert torch.equal(state.synthetic.images, pairs[0])


def test_the_encoder_of_contributing_is_an_encoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, paths: Paths
) -> None:
    encoder = _written("image", "patches", tmp_path, monkeypatch)(paths, patch=4)
    assert encoder(torch.rand(2, 3, 16, 16)).shape == (2, encoder.features)


def _written(family: str, name: str, folder: Path, monkeypatch: pytest.MonkeyPatch):
    """Put the file of the document into its family's package, and return what components find there."""
    package = FAMILIES[family].package
    (folder / f"{name}.py").write_text(code(f"{package.replace('.', '/')}/{name}.py"), encoding="utf-8")
    module = __import__(package, fromlist=["__path__"])
    monkeypatch.setattr(module, "__path__", [*module.__path__, str(folder)])
    families = {family: FAMILIES[family]}
    monkeypatch.setattr(components, "names", lambda family, families=families: [name])
    return components.find(family, name, families=families)
