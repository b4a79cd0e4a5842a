"""The pages lead where they say: links, headings, the index, and the tree of the README."""

import re
from pathlib import Path

import pytest

from tests.docs.pages import PAGES, ROOT, anchors, blocks, links, name, text_of

DOCS = ROOT / "docs"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_to_files_and_headings_that_are_there(page: Path) -> None:
    for target in links(page):
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{name(page)}: {target}"
        if anchor:
            assert anchor in anchors(file), f"{name(page)}: {target} is none of {sorted(anchors(file))}"


def test_a_heading_becomes_an_anchor_as_on_github(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# On `a` cluster: [x](y), 2\n```sh\n# no heading\n```\n## Karpathy's JSON (`karpathy`)\n")
    assert anchors(page) == {"on-a-cluster-x-2", "karpathys-json-karpathy"}


def test_the_index_has_every_page() -> None:
    there = {path.name for path in DOCS.iterdir() if path.suffix in (".md", ".ipynb")} - {"README.md"}
    assert {target for target in links(DOCS / "README.md") if not target.startswith("../")} == there
    assert "docs/README.md" in links(ROOT / "README.md")


def test_the_readme_is_short_and_its_tree_names_what_is_there() -> None:
    assert text_of(ROOT / "README.md").count("\n") <= 200
    (tree,) = (block for block in blocks(ROOT / "README.md", "") if block.text.startswith("engine/"))
    for line in tree.text.splitlines():
        folder = ROOT / "engine" if line.startswith("  ") else ROOT
        names = re.findall(r"[\w/]+(?:/|\.py)(?=\s|$)", line[:24])
        assert names, line
        assert all((folder / one).exists() for one in names), line
