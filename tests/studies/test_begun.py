"""Photos, captions, weights or code that change between a study's beginning and its repetition."""

from itertools import combinations
from pathlib import Path

import pytest
import ray
import torch

from engine.cluster.experts.registry import get_registry
from engine.experts.store import ExpertStore
from engine.results.row import Provenance
from engine.studies import begun
from engine.studies.begun import BEGUN, begin, begun_by_other_code, check_begun, files_changed
from engine.studies.distill import distill, train_missing_experts
from engine.studies.job import Job
from tests.data.photos import noise
from tests.data.sets.test_karpathy import entry, write
from tests.tiny import tiny_job

WORDS = list(combinations(("red", "blue", "green", "small", "large", "dark", "round", "tall"), 2))
SPLITS = {"train": 24, "val": 10, "test": 10}


def photos(folder: Path, splits: dict[str, int]) -> None:
    """Write photos with a caption each and the annotation of Karpathy's that lists them."""
    entries = []
    for split, number in splits.items():
        for index in range(number):
            photo = folder / "images" / f"{split}_{index}.png"
            photo.parent.mkdir(parents=True, exist_ok=True)
            noise(1000 * len(split) + index, 16, 16).save(photo)
            entries.append(entry(photo.name, split, sentences=[{"raw": " ".join(WORDS[index])}]))
    write(folder / "dataset_made.json", {"images": entries})


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    """Return the tiny study, with one trial, of photos that this test may change."""
    photos(tmp_path / "data" / "made", SPLITS)
    monkeypatch.setenv("VLDD_DATA", str(tmp_path / "data"))
    data = "data={name: karpathy, root: made, image_px: 8}"
    return tiny_job(tmp_path / "runs", data, "baselines.coresets=[random]", "student.text.dim=4", samples=1)


def again(job: Job) -> Job:
    """Return the same job, as another command would make it, which lists the data again."""
    from engine import specification

    specification._built.clear()
    return Job(job.name, job.study, job.specification, job.samples)


def test_a_study_begun_with_other_photos_or_captions_is_refused(job: Job, tmp_path: Path) -> None:
    check_begun(job)
    begin(job)
    check_begun(again(job))
    noise(7, 16, 16).save(tmp_path / "data" / "made" / "images" / "train_0.png")
    with pytest.raises(ValueError, match=r"this study was begun with other photos than .* --fresh starts it over\.$"):
        check_begun(again(job))
    photos(tmp_path / "data" / "made", {**SPLITS, "train": 25})
    with pytest.raises(ValueError, match=r"begun with other photos, captions and text encoder than"):
        check_begun(again(job))


def test_a_renamed_photo_is_the_same_input(job: Job, tmp_path: Path) -> None:
    begin(job)
    annotation, images = tmp_path / "data" / "made" / "dataset_made.json", tmp_path / "data" / "made" / "images"
    annotation.write_text(annotation.read_text().replace("train_0.png", "other.png"))
    (images / "train_0.png").rename(images / "other.png")
    check_begun(again(job))
    assert files_changed(job)


def test_a_study_that_other_code_began_says_so(
    job: Job, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(begun, "provenance", lambda: {"commit": "1234567", "numbers": "5ad"})
    begin(job)
    assert capsys.readouterr().out == ""
    begin(job)
    assert begun_by_other_code(job) == []
    assert capsys.readouterr().out == "This study was begun before; what is done of it is kept (--fresh starts over).\n"
    monkeypatch.setattr(begun, "provenance", lambda: {"commit": "abcdef0", "numbers": "5ae"})
    begin(job)
    assert capsys.readouterr().out == (
        "This study was begun before by commit 1234567, and goes on by abcdef0; what is done of it is kept (--fresh "
        "starts over).\n"
    )
    assert begun_by_other_code(job) == [Provenance(commit="1234567", numbers="5ad")]


def test_what_a_study_writes_itself_is_no_change_of_its_data(job: Job, tmp_path: Path) -> None:
    begin(job)
    assert not files_changed(job)
    data = tmp_path / "data" / "made"
    inside = tiny_job(data / "runs", "data={name: karpathy, root: made, image_px: 8}", "student.text.dim=4", samples=1)
    begin(inside)
    (data / "runs" / "table.json").write_text("{}", encoding="utf-8")
    (data / "nowhere.png").symlink_to(data / "gone.png")
    assert not files_changed(inside)
    assert files_changed(job)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"inputs": 3, "provenance": {}}'])
def test_a_spoiled_file_is_written_anew(job: Job, text: str) -> None:
    begin(job)
    whole = (job.folder / BEGUN).read_text(encoding="utf-8")
    (job.folder / BEGUN).write_text(text, encoding="utf-8")
    check_begun(job)
    assert (begun_by_other_code(job), files_changed(job)) == ([], False)
    begin(job)
    assert (job.folder / BEGUN).read_text(encoding="utf-8") == whole


def test_a_study_of_before_this_file_goes_on(job: Job) -> None:
    assert not files_changed(job)
    assert begun_by_other_code(job) == []


@pytest.mark.slow
@pytest.mark.usefixtures("ray_local")
def test_photos_added_to_a_finished_study_are_said_and_never_mixed(
    job: Job, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = distill(job)
    assert rows[-1].pairs == SPLITS["train"]
    assert distill(again(job))[-1].pairs == SPLITS["train"]
    assert "Files of its data have changed" not in capsys.readouterr().out
    photos(tmp_path / "data" / "made", {**SPLITS, "train": 26})
    distill(again(job))
    told = "Files of its data have changed since: these are the numbers of before (--fresh computes them again)."
    assert told in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"experts were trained on other photos, captions and text encoder than the"):
        train_missing_experts(again(job), local=False)
    before = ExpertStore(job.specification.expert_folder()).load(0, 1)
    assert [row.pairs for row in distill(again(job), fresh=True)] == [8, 8, 26]
    aside = job.specification.expert_folder().with_name(f"{job.specification.expert_folder().name}-before-1")
    assert f"Experts of other data were set aside: {aside}\n" in capsys.readouterr().out
    kept, now = (ExpertStore(folder).load(0, 1) for folder in (aside, job.specification.expert_folder()))
    assert all(torch.equal(value, kept[name]) for name, value in before.items())
    assert any(not torch.equal(value, now[name]) for name, value in before.items())
    # The registry of before served the trial, and must not have served what it had read before.
    served = ray.get(get_registry(job.specification.expert_folder()).snapshot.remote(0, 1))
    assert all(torch.equal(torch.tensor(array), now[name]) for name, array in ray.get(served[0]).items())
