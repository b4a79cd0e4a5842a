"""All text of a page can be read, light and dark, wide and narrow."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from engine.report.page import html
from engine.report.study import Study, read_study
from engine.results.files import write_students
from tests.chromium import browser, needs_chromium

LOWEST = 3.0
"""The contrast that WCAG 2 asks of large text."""

CONTRASTS = """(() => {
  const read = (colour) => {  // to sRGB, whatever form the colour has
    const pen = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
    pen.fillStyle = colour; pen.fillRect(0, 0, 1, 1);
    return [...pen.getImageData(0, 0, 1, 1).data];
  };
  const light = (colour) => colour.slice(0, 3).map((one) => one / 255)
    .map((one) => one <= 0.03928 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4)
    .reduce((sum, one, index) => sum + one * [0.2126, 0.7152, 0.0722][index], 0);
  const behind = (one) => {
    for (; one; one = one.parentElement) {
      const found = read(getComputedStyle(one).backgroundColor);
      if (found[3] === 255) return found;
    }
    return read("white");
  };
  const own = (one) => [...one.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
  const ink = getComputedStyle(document.body).color;
  const onColour = (one) => one.closest("[id$=transfer] svg") && getComputedStyle(one).fill !== ink;
  const texts = [...document.querySelectorAll("body *")].filter((one) => own(one) && !one.closest("style"));
  return texts.filter((one) => !onColour(one)).map((one) => {
    const style = getComputedStyle(one), inside = one.closest("svg");
    const colours = [read(inside ? style.fill : style.color), behind(one)];
    const [low, high] = colours.map(light).sort((a, b) => a - b);
    const shape = inside ? one.getScreenCTM() : {a: 1, b: 0};
    return {text: one.textContent.trim(), contrast: (high + 0.05) / (low + 0.05), svg: Boolean(inside),
            page: light(colours[1]), pixels: parseFloat(style.fontSize) * Math.hypot(shape.a, shape.b)};
  });
})()"""


@needs_chromium
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_stands_out_and_none_is_cut_off(scheme: str, study: Study, tmp_path: Path) -> None:
    long = "a_folder_whose_name_is_too_long_for_the_width_of_a_telephone-0123456789abcdef"
    folder = shutil.copytree(study.folder, tmp_path / long)
    write_students(folder, [replace(row, name=f"{row.name}, NFNet") for row in study.rows if row.full or row.size])
    file = tmp_path / "report.html"
    file.write_bytes(html([read_study(folder)]))
    with browser(tmp_path / "chromium") as tab:
        tab.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        for width in (1280, 400):
            tab.look(width, 900)
            tab.open(file.as_uri())
            tab.wait("lors", until="document.readyState === 'complete'")
            assert tab.run("document.documentElement.scrollWidth <= innerWidth"), width
            texts = tab.run(CONTRASTS)
            assert {one["text"] for one in texts if one["svg"]} > {
                "real images",
                "synthetic texts",
                "outer step",
                "NFNet",
            }
            assert all((one["page"] < 0.1) == (scheme == "dark") for one in texts)
            assert [one for one in texts if one["contrast"] < LOWEST] == []
            assert [one for one in texts if one["pixels"] < 8] == []
