"""YAML on the pages is what it says, and no Python on them is untried."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from engine.config.classes import Classification
from engine.config.comparison import baseline_study, entries, read_comparison
from engine.config.load import load, resolve
from engine.config.schema import Resolved, Study
from engine.config.spaces import parse_yaml
from tests.docs.pages import PAGES, ROOT, Block, blocks, name
from tests.docs.reader import shown_components

LANGUAGES = {"sh", "yaml", "python", "text", ""}
RUN_ELSEWHERE = {"README.md", "docs/using_a_set.md"}  # tests/test_using_a_set.py
YAML = [block for page in PAGES for block in blocks(page, "yaml")]
REST = {
    "data": {"name": "shapes"},
    "student": {"image": {"encoder": "convnet"}, "text": {"encoder": "tfidf", "train": "frozen"}},
    "method": {"name": "bi_trajectory", "num_pairs": 10},
}
"""What a part of a space lacks to be one."""


def test_every_block_names_its_language() -> None:
    found = {block.language: block.place for page in PAGES for block in blocks(page)}
    assert found.keys() <= LANGUAGES, found
    assert len(YAML) >= 6


@pytest.mark.parametrize("block", YAML, ids=[block.place for block in YAML])
def test_yaml_is_a_space_or_a_part_of_one_a_table_or_classes(block: Block, tmp_path: Path) -> None:
    tree = parse_yaml(block.text, block.place)
    file = tmp_path / "page.yaml"
    file.write_text(block.text, encoding="utf-8")
    if "lines" in tree:
        comparison = read_comparison(str(file))
        baseline_study(comparison, {})
        assert len({entry.study.identity for entry in entries(comparison, {})}) > 1
    elif "classes" in tree:
        Classification.model_validate(tree)
    else:
        checked(tree, file)


def checked(tree: dict[str, Any], file: Path) -> Resolved:
    """Return the study of a part of a space, whose keys may be dotted, with ``REST`` for what it lacks."""
    whole: dict[str, Any] = {**REST}
    for key, value in tree.items():
        section, _, tower = key.partition(".")
        assert section in Study.model_fields, f"{file}: {key} is no section of a space"
        given = {tower: value} if tower else value
        whole[section] = {**REST[section], **given} if section in REST else value
    file.write_text(yaml.safe_dump(whole, sort_keys=False), encoding="utf-8")
    return resolve(load(str(file)))


def test_a_wrong_key_of_a_part_is_found(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"student\.image\.widht"):
        checked({"student.image": {"encoder": "convnet", "widht": 4}}, tmp_path / "page.yaml")


def test_python_is_a_component_or_is_run_by_a_test() -> None:
    for page in PAGES:
        for block in blocks(page, "python"):
            compile(block.text, block.place, "exec")
            shown = [text for _, text in shown_components().values()]
            assert name(page) in RUN_ELSEWHERE or block.text in shown, f"{block.place}: no test runs this"
    assert all((ROOT / page).is_file() for page in RUN_ELSEWHERE)
