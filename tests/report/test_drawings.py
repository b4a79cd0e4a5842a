"""Each figure shows the numbers of the study: its labels, and the values drawn."""

import base64
import io
import re
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image

from engine.report import curves, knobs, recall
from engine.report.drawings import of_studies, of_study
from engine.report.figures import INK, Drawing, drawing, log_ticks, new_axes, styled
from engine.report.pairs import draw_similarity, pair_views
from engine.report.study import Study
from tests.report.studies import PAIRS, rows


@pytest.fixture(scope="module")
def drawings(study: Study) -> dict[str, Drawing]:
    return {one.name: one for one in of_study(study)}


def texts(svg: str) -> list[str]:
    """Return the texts of an SVG element, in order."""
    return ["".join(element.itertext()).strip() for element in ElementTree.fromstring(svg).iter("text")]


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].get_legend().get_texts()]


def test_a_study_has_all_figures_that_its_data_hold(drawings: dict[str, Drawing]) -> None:
    assert list(drawings) == ["pairs", "time-lapse", "copies", "retrieval", "recall-pairs", "recall-bytes",
                              "recall-seconds", "experts", "validations", "losses", "rates", "slices", "importances",
                              "similarity", "pair-map"]  # fmt: skip


def test_what_is_not_there_is_not_drawn(study: Study) -> None:
    assert of_study(replace(study, rows=(), trials=(), audit=None, experts=(), folder=study.folder / "absent")) == []


def test_recall_against_pairs() -> None:
    figure = recall.draw_against(rows(budgets=(5, PAIRS, 50)), recall.PAIRS)
    axes = figure.axes[0]
    bars = dict(zip((c.get_label() for c in axes.containers), axes.containers, strict=True))
    assert list(bars) == ["lors", "random", "herding"]
    drawn, _, (spread,) = bars["random"].lines
    assert drawn.get_xdata() == pytest.approx([5, PAIRS, 50], rel=0.03)
    assert drawn.get_ydata() == pytest.approx([6.5, 7.4, 11.0])
    ends = [end for segment in spread.get_segments() for end in segment[:, 1]]
    assert ends == pytest.approx([5.5, 7.5, 6.4, 8.4, 10.0, 12.0])
    assert "all 2,000 pairs: 40.0 ± 1.0" in legend(figure)
    line = next(line for line in axes.lines if line.get_linestyle() == "--")
    assert list(line.get_ydata()) == [40.0, 40.0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["5", "14", "50"]
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_xscale()) == ("pairs", "mean recall on test (%)", "log")


def test_recall_of_sets_with_one_budget() -> None:
    figure = recall.draw_sets(rows(budgets=(PAIRS,)))
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["lors", "random", "herding"]
    assert [text.get_text() for text in axes.texts] == ["20.0 ± 1.0", "7.4 ± 1.0", "10.4 ± 1.0"]
    crosses = [list(line.get_xdata()) for line in axes.lines if line.get_marker() == "x"]
    assert crosses[1] == pytest.approx([6.4, 7.4, 8.4])


def test_recall_against_bytes_and_seconds() -> None:
    for measure, label, first in ((recall.BYTES, "size of the stored set", 50_000),
                                  (recall.SECONDS, "time to learn or choose the set", 90)):  # fmt: skip
        axes = recall.draw_against(rows(), measure).axes[0]
        assert axes.get_xlabel() == label
        assert axes.containers[0].lines[0].get_xdata() == pytest.approx([first], rel=0.15)
        assert all(tick.get_text().split()[-1] in ("kB", "MB", "s", "min") for tick in axes.get_xticklabels())


def test_sets_that_all_took_no_time_are_drawn_at_one_place() -> None:
    quick = [row if row.seconds is None else replace(row, seconds=0.0) for row in rows()]
    axes = recall.draw_against(quick, recall.SECONDS).axes[0]
    assert axes.get_xlim() == pytest.approx((0.05, 0.2))


def test_validations_and_losses(study: Study) -> None:
    assert study.best is not None
    figure = curves.draw_validations(study.trials, study.best, key="val/mean_recall", label="mean recall")
    axes = figure.axes[0]
    assert legend(figure) == ["other trials", "trial 4 (best)", "its set"]
    assert len(axes.lines) == 4 + 2
    assert [list(axis) for axis in (axes.lines[4].get_xdata(), axes.lines[4].get_ydata())] == [[2, 4, 6], [18, 20, 19]]
    assert (axes.lines[5].get_xdata()[0], axes.lines[5].get_ydata()[0]) == (4, 20)
    assert axes.get_ylabel() == "mean recall on val (%)"
    losses = curves.draw_numbers(study.best, curves.LOSS, label="loss")
    assert legend(losses) == ["loss", "loss of image"]
    assert losses.axes[0].lines[1].get_ydata() == pytest.approx([0.5, 0.25, 0.5 / 3])
    assert curves.draw_numbers(study.best, curves.RATE, label="rate").axes[0].get_yscale() == "log"


def test_experts_are_drawn_with_the_segments_of_students(study: Study, drawings: dict[str, Drawing]) -> None:
    loss, recall_on_val, below = curves.draw_experts(study.experts, {"image": [(0, 2)], "text": [(0, 2), (1, 3)]}).axes
    assert [list(line.get_ydata()) for line in loss.lines] == [[2.0, 1.0, 0.5], [2.5, 1.5, 1.0]]
    assert [list(line.get_ydata()) for line in recall_on_val.lines] == [[5, 10, 15], [4, 9, 14]]
    assert [list(line.get_xdata()) for line in below.lines] == [[0, 2], [0, 2], [1, 3]]
    assert len({line.get_color() for line in below.lines}) == 2
    assert "2 experts" in drawings["experts"].caption
    assert "from epoch to epoch (0 to 2, 1 to 3)" in drawings["experts"].caption


def test_slices_show_every_trial_at_its_value(study: Study) -> None:
    figure = knobs.draw_slices(study.trials, study.domains, label="mean recall")
    rate, init = figure.axes
    assert rate.get_xlabel() == "inner_lr.image"
    assert rate.get_xscale() == "log"
    assert list(rate.lines[0].get_xdata()) == pytest.approx([0.02, 0.1, 0.06, 0.08, 0.1])
    assert list(rate.lines[0].get_ydata()) == [11, 12, 13, 20, 15]
    assert [label.get_text() for label in init.get_xticklabels()] == ["real", "kmeans"]
    assert list(init.lines[0].get_xdata()) == [1, 0, 1, 0, 1]
    squares = [(line.get_xdata()[0], line.get_ydata()[0]) for line in init.lines[1:]]
    assert squares == [(0, 12), (0, 20)]


def test_the_knob_that_decides_is_the_important_one(study: Study) -> None:
    trials = [
        replace(trial, history=replace(trial.history, searched={"a": 0.05 * n, "b": (7 * n % 20) / 20},
                                       validations=[{"outer_step": 2.0, "best": 50 * 0.05 * n}]))
        for n, trial in enumerate([*study.trials] * 4)
    ]  # fmt: skip
    rate = replace(study.domains["method.inner_lr.image"], low=0.0, high=1.0, log=False)  # type: ignore[type-var]
    shares = knobs.importances(trials, {"b": rate, "a": rate})
    assert list(shares) == ["a", "b"]
    assert shares["a"] > 0.7
    figure = knobs.draw_importances(shares)
    assert [bar.get_width() for bar in figure.axes[0].patches] == pytest.approx(list(shares.values()))
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["a", "b"]


def decoded(uri: str) -> Image.Image:
    kind, _, data = uri.partition(",")
    assert kind == "data:image/webp;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


def test_pairs_are_shown_before_after_and_as_difference(drawings: dict[str, Drawing]) -> None:
    views = drawings["pairs"].pairs
    assert len(views) == 12
    assert (views[0].captions, views[1].captions) == (
        {"unchanged": "a dog"}, {"start": "a dog", "learned": "a <b>cat</b>"})  # fmt: skip
    colours = {side: np.asarray(decoded(uri)).mean() / 255 for side, uri in views[0].images.items()}
    assert colours == pytest.approx({"start": 0.25, "learned": 0.75, "difference": 1.0}, abs=0.01)
    assert drawings["pairs"].caption.startswith("The first 12 of 14 pairs: ")
    assert "multiplied by 1" in drawings["pairs"].caption


def test_a_difference_is_grey_where_nothing_changed_and_stretched_where_it_is_small() -> None:
    before = torch.full((2, 3, 4, 4), 0.5)
    after = before.clone()
    after[0, 0, 0, 0] += 0.05
    after[1, 0, 0, 0] = torch.nan
    gain, views = pair_views(before[:1], after[:1], None)
    assert gain == pytest.approx(10)
    drawn = np.asarray(decoded(views[0].images["difference"]))
    assert drawn[0, 0].tolist() == [255, 128, 128]
    assert (drawn[1:] == 128).all()
    assert pair_views(before[1:], after[1:], None)[0] == pytest.approx(1)


def test_the_time_lapse_has_a_frame_for_each_validation(drawings: dict[str, Drawing]) -> None:
    moving = decoded(drawings["time-lapse"].image)
    assert moving.n_frames == 3
    shades = []
    for number in range(3):
        moving.seek(number)
        shades.append(np.asarray(moving.convert("RGB"))[4, 4].mean() / 255)
    assert shades == pytest.approx([0.2, 0.4, 0.6], abs=0.02)
    assert "outer steps 0 to 4, 3 frames" in drawings["time-lapse"].caption


def test_a_similarity_is_a_heat_map_with_its_values() -> None:
    matrix = torch.tensor([[1.0, -0.5], [0.25, 2.0]])
    caption, figure = draw_similarity(matrix)
    drawn = figure.axes[0].images[0]
    assert drawn.get_array().tolist() == [[0.0, -0.5], [0.25, 1.0]]
    assert drawn.get_clim() == (-1, 1)
    assert (figure.axes[0].get_xlabel(), figure.axes[0].get_ylabel()) == ("text of pair", "image of pair")
    assert figure.axes[1].get_ylabel() == "target similarity - identity"
    assert "diagonal is 1.500 in the mean; off it from -0.500 to 0.250" in caption


def test_svg_is_text_in_the_colour_of_the_page(drawings: dict[str, Drawing]) -> None:
    for name in ("recall-pairs", "slices", "similarity"):
        svg = drawings[name].svg
        assert svg.startswith('<svg viewBox="0 0 ')
        assert "http" not in svg
        assert "currentColor" in svg
        assert all(found.startswith(f"{name}-") for found in re.findall(r'(?: id="|href="#|url\(#)([^")]*)', svg))
    assert {"pairs", "mean recall on test (%)", "lors", "random", "all 2,000 pairs: 40.0 ± 1.0"} <= set(
        texts(drawings["recall-pairs"].svg))  # fmt: skip


def test_a_name_with_markup_is_drawn_as_it_is() -> None:
    with styled():
        figure, axes = new_axes()
        axes.set_xlabel("<b>$x_2$ & 1</b>")
        assert "<b>$x_2$ & 1</b>" in texts(drawing("a", "", figure).svg)


def test_recalls_of_several_studies_are_one_figure_for_each_protocol(study: Study) -> None:
    other = replace(study, rows=rows(method="tesla"))
    elsewhere = replace(study, rows=[replace(row, protocol="another") for row in study.rows])
    drawn = {one.name: one for one in of_studies([study, other, elsewhere])}
    assert {"lors", "tesla"} <= set(texts(drawn["recall-pairs-1"].svg))
    assert "Protocol: another." in drawn["recall-pairs-2"].caption


@pytest.mark.parametrize(("low", "high"), [(1, 1000), (0.1, 90), (20_000, 31_000), (5, 5), (0.001, 0.1), (1, 1e12)])
def test_ticks_of_logarithmic_axes_are_few_and_inside(low: float, high: float) -> None:
    ticks = log_ticks(low, high)
    assert 1 <= len(ticks) <= 9
    assert all(low <= tick <= high for tick in ticks)


def test_transfer_is_a_map_of_sets_by_students() -> None:
    own = rows(budgets=(PAIRS,))
    other = [replace(row, name=f"{row.name}, NFNet", protocol="other", mean={"mean_recall": row.mean["mean_recall"]/2})
             for row in own if row.name in ("lors", "all pairs")]  # fmt: skip
    cells = recall.transfers([*own, *other])
    assert {place: row.mean["mean_recall"] for place, row in cells.items()} == {
        ("lors, 14 pairs", "own student"): 20.0, ("all pairs", "own student"): 40.0,
        ("lors, 14 pairs", "NFNet"): 10.0, ("all pairs", "NFNet"): 20.0}  # fmt: skip
    axes = recall.draw_transfer(cells)[1].axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["own student", "NFNet"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["lors, 14 pairs", "all pairs"]
    assert [text.get_text() for text in axes.texts] == ["20.0 ± 1.0", "40.0 ± 1.0", "10.0 ± 1.0", "20.0 ± 1.0"]
    assert axes.images[0].get_array().tolist() == [[50.0, 50.0], [100.0, 100.0]]
    assert recall.transfers(own) == {}
    alike = [replace(row, protocol=own[0].protocol) for row in other]
    assert recall.transfers([*own, *alike]).keys() == cells.keys(), "by name, since a protocol names no widths"


@pytest.mark.parametrize("share", [0.0, 30.0, 59.9, 60.1, 80.0, 100.0, None])
def test_numbers_in_a_map_stand_out_of_their_colour(share: float | None) -> None:
    own, full = (one for one in rows(budgets=(PAIRS,)) if one.name in ("lors", "all pairs"))
    cells = {("lors", "own student"): replace(own, recovery=share), ("all pairs", "own student"): full}
    axes = recall.draw_transfer(cells)[1].axes[0]
    if share is None:
        assert axes.texts[0].get_color() == INK
        assert axes.images[0].get_array().mask.tolist() == [[True], [False]]
        return
    image = axes.images[0]

    def light(colour: Any) -> float:
        parts = np.array(to_rgb(colour))
        linear = np.where(parts <= 0.03928, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    low, high = sorted([light(axes.texts[0].get_color()), light(image.cmap(image.norm(share))[:3])])
    assert (high + 0.05) / (low + 0.05) >= 3
