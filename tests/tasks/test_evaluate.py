"""Zero-shot classification by the command: a row with accuracies, its run in MLflow, and mistakes."""

import json
from pathlib import Path

import pytest
from mlflow import MlflowClient

from engine.results.history import BEST_SET
from engine.studies.job import EXPERIMENT
from tasks import cli, evaluate
from tests.finished import Finished
from tests.tiny import words


def run(*given: str) -> int:
    return cli.run(evaluate.main, list(given), parser=evaluate.PARSER)


def test_a_set_is_classified_and_logged(finished: Finished, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    space = words(finished.job.specification.storage)
    assert run(*space, "--local", "--classes", "backdrop") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "rec. % top-1 top-5" in said
    assert "accuracies of 20 of 20 test images over 10 classes (backdrop); " in said

    names = finished.job.specification.setup(device="cpu").datasets["test"].image_names
    rows = [f"{name},{'many' if index % 2 else 'few'}" for index, name in enumerate(names[:8])]
    (tmp_path / "labels.csv").write_text("\n".join(["image,class", *rows]), encoding="utf-8")
    (tmp_path / "own.yaml").write_text("labels: labels.csv\nclasses: {few: one shape, many: three shapes}", "utf-8")
    own = finished.job.folder / BEST_SET
    assert run(*space, "--local", "--json", "--set", str(own), "--classes", str(tmp_path / "own.yaml")) == 0
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert row["mean"]["mean_recall"] == finished.rows[0].mean["mean_recall"], "the same students"
    assert row["by_student"]["top1"][0][0] * 8 % 100 == 0
    assert (
        "of 8 of 20 test images over 2 classes (class); 'few' for every image would be right for 50.0 %" in row["note"]
    )

    client = MlflowClient(finished.job.mlflow_uri)
    runs = client.search_runs([client.get_experiment_by_name(EXPERIMENT).experiment_id], "tags.classes LIKE '%'")
    found = {one.info.run_name: one for one in runs}
    assert found.keys() == {f"{own.stem}, backdrop", f"{own.stem}, class"}
    assert found[f"{own.stem}, class"].data.metrics["test/top1"] == row["mean"]["top1"]
    assert {"test/top5", "test_std/top1"} <= found[f"{own.stem}, backdrop"].data.metrics.keys()
    assert found[f"{own.stem}, class"].info.status == "FINISHED"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["--classes", "size"], "--classes is 'size', expected backdrop, shape, colour of shapes, or a YAML file."),
        (["--classes", "none.yaml"], "none.yaml: there is no such file"),
        (
            ["--classes", "breed", "data={name: pairs, root: p, image_px: 8}"],
            "data.name=pairs knows no classes of its own",
        ),
    ],
)
def test_a_mistake_is_one_line(given: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*words(tmp_path), *given) == 2
    said = capsys.readouterr().err
    assert told in said
    assert said.count("\n") == 1


def test_values_may_stand_behind_the_files_of_students(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wider = tmp_path / "wider.yaml"
    wider.write_text("student.image.width: 12", encoding="utf-8")
    assert run(*words(tmp_path), "--dry-run", "--students", str(wider), "protocol.seeds=7") == 0
    assert "seeds: 7" in capsys.readouterr().out
