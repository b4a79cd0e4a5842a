"""The page holds everything itself, and a browser shows all of it, wide and narrow."""

import html as markup
import json
import re
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from engine.report.page import html
from engine.report.study import Study
from tests.chromium import CHROMIUM, needs_chromium
from tests.report.studies import rows


class Page(HTMLParser):
    """The texts of a page, its addresses, and its ids."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.said: list[str] = []
        self.addresses: list[str] = []
        self.ids: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag != "script"
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "srcset")]
        self.ids += [value or "" for name, value in attrs if name == "id"]

    def handle_data(self, data: str) -> None:
        self.said.append(" ".join(data.split()))


@pytest.fixture(scope="module")
def text(study: Study) -> str:
    return html([study]).decode()


@pytest.fixture(scope="module")
def many(study: Study) -> str:
    other = replace(study, folder=study.folder.with_name("other_14-89ab"), rows=rows(method="tesla"), trials=())
    running = replace(study, rows=(), folder=study.folder.with_name("running_14-cdef"), trials=())
    return html([study, other, running]).decode()


def test_the_page_has_every_number_of_the_table(text: str) -> None:
    said = Page(text).said
    assert {"lors", "20.0 ± 1.0", "6.5 ± 1.0", "all pairs", "40.0 ± 1.0", "50.0", "90 s", "50 kB"} <= set(said)
    assert {"trial 4", "20.0 (kept)", "real", "kmeans"} <= set(said)
    assert any(line.startswith("vldistill distill --config ") for line in said)
    assert {"LoRS", "8.3", "27.4"} <= set(said)
    assert any("arXiv 2406.03793; best epoch on test." in line for line in said)
    assert "A <study> & its $note" in said
    assert [line for line in said if re.fullmatch(r"Figure \d+\.", line)] == [f"Figure {n}." for n in range(1, 16)]


def test_the_page_says_and_shows_what_the_set_kept_and_lost(text: str) -> None:
    said = Page(text).said
    assert any(line.startswith("Words: the captions nearest to its 14 texts hold words") for line in said)
    assert {"animals", "27.4", "12.5", "26.6 ± 4.4", "1,251", "20.2", "49.9"} <= set(said)
    assert "children" not in said, "a group that no caption has"
    assert {"nearest photo", "pair 1, 1.jpg: 3 of 256 bits differ", "still found", "a dog & <cat>", "lost"} <= set(said)


@pytest.mark.parametrize("page", ["text", "many"])
def test_the_page_needs_nothing_from_outside(page: str, request: pytest.FixtureRequest) -> None:
    read = Page(request.getfixturevalue(page))
    assert all(address.startswith(("data:", "#")) for address in read.addresses)
    assert {address[1:] for address in read.addresses if address.startswith("#")} <= set(read.ids)
    assert "url(" not in request.getfixturevalue(page).replace("url(#", "")
    assert len(read.ids) == len(set(read.ids))


def test_many_studies_begin_with_what_they_share(many: str) -> None:
    said = Page(many).said
    start, end = said.index("study"), said.index("Recall over all studies")
    assert [line for line in said[start:end] if line in ("finished", "not finished")] == ["finished"] * 2 + [
        "not finished"
    ]
    assert said.count("lors") > 1
    assert "tesla" in said
    assert any(line.startswith("Not finished: it is still running") for line in said)


SCRIPT = """<script>addEventListener("load", () => {
  const images = [...document.images], svgs = [...document.querySelectorAll("figure svg")];
  const seen = {
    images: images.length, missing: images.filter((one) => !one.complete || !one.naturalWidth).length,
    svgs: svgs.length, flat: svgs.filter((one) => one.getBoundingClientRect().height < 50).length,
    outside: performance.getEntriesByType("resource").map((one) => one.name).filter((one) => !one.startsWith("data:")),
    over: document.documentElement.scrollWidth - document.documentElement.clientWidth,
    ink: getComputedStyle(svgs[0].querySelector("text")).fill, page: getComputedStyle(document.body).color,
  };
  const shown = parent.document.createElement("pre");
  shown.textContent = JSON.stringify(seen);
  parent.document.body.append(shown);
})</script>"""


@needs_chromium
def test_a_browser_shows_the_whole_page(many: str, tmp_path: Path) -> None:
    inner = markup.escape(many.replace("</body>", f"{SCRIPT}</body>"), quote=True)
    frames = "".join(
        f'<iframe srcdoc="{inner}" style="width:{width}px;height:900px"></iframe>' for width in (1280, 400)
    )
    host = tmp_path / "host.html"
    host.write_text(f"<!doctype html><meta charset=utf-8><body>{frames}</body>", encoding="utf-8")
    words = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--virtual-time-budget=20000"]
    words += [f"--user-data-dir={tmp_path / 'chromium'}", "--dump-dom", host.as_uri()]
    done = subprocess.run([str(CHROMIUM), *words], capture_output=True, text=True, timeout=120, check=True)
    assert "CONSOLE" not in done.stderr, done.stderr
    seen = [json.loads(markup.unescape(found)) for found in re.findall(r"<pre>(\{.*?\})</pre>", done.stdout)]
    assert len(seen) == 2
    for one in seen:
        assert (one["missing"], one["flat"], one["outside"], one["over"]) == (0, 0, [], 0)
        assert (one["images"], one["svgs"]) == (many.count("<img "), many.count("<svg "))
        assert one["ink"] == one["page"]
