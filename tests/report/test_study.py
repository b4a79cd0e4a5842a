"""A folder is read as far as it is there, and what is damaged is named."""

from pathlib import Path

import pytest

from engine.report.facts import command, cost, facts, selection, state
from engine.report.study import Study, read_study, studies_in
from engine.results.files import write_table
from engine.results.row import Row
from tests.report.studies import PAIRS, rows, write_study


def test_a_finished_study(study: Study) -> None:
    assert (study.name, len(study.trials), len(study.rows)) == ("tiny_14", 5, len(rows()))
    assert study.best is not None
    assert (study.best.name, study.best.best, study.best.outer_steps, study.best.seconds) == ("trial 4", 20.0, 6, 3.0)
    assert [step for step, _ in study.best.frames] == [0, 2, 4]
    assert list(study.domains) == ["method.inner_lr.image", "method.init"]
    assert study.published[0].name == "LoRS"


def test_its_facts_say_how_the_numbers_were_made(study: Study) -> None:
    told = facts(study)
    assert told["State"].startswith("Finished; its table was written 20")
    assert told["Commit"] == "35db3ea"
    assert told["Device"] == "CPU, 2 threads"
    assert told["Seeds"] == "seed 3 of the study; 3 students of each set, 3 of all pairs"
    assert told["Protocol"] == "heads, 100 epochs"
    assert told["Selection"] == (
        "trial: the largest mean recall on val of 5; outer step: the largest mean recall on val, every 2 steps; "
        "learning rate of students: 0.1, 0.3, by val; epoch of students: the last; test was used for: the table alone"
    )
    assert cost(study) == (
        "lors: 90 s, at most 1000.0 MB of memory, 50 kB stored; search: 5 trials, 30 outer steps, 15 s in them "
        "(0.5 s a step); a student of all pairs: 30 s"
    )


def test_recalls_chosen_on_test_are_called_optimistic(tmp_path: Path) -> None:
    folder = write_study(tmp_path / "a-1", trials=0, protocol={"select_epoch": "best_on_test", "select_step": "last"})
    assert "epoch of students: the best on test" in selection(read_study(folder))
    assert selection(read_study(folder)).endswith("test was used for: a choice, so its recalls are optimistic")


def test_every_row_has_its_command(study: Study) -> None:
    made = [command(study, row) for row in study.rows]
    given = f"--config {study.folder}/configuration.yaml storage={study.folder.parents[1]}"
    assert made[0] == f"vldistill distill {given} --samples 5 --fresh"
    assert (
        made[1]
        == f"vldistill coreset {given} 'baselines.coresets=[random]' 'baselines.options={{}}' 'baselines.pairs=[5]'"
    )
    assert made[-1] == f"vldistill coreset {given} 'baselines.coresets=[]'"


def test_an_unfinished_study_says_how_far_it_is(unfinished: Study) -> None:
    told = state(unfinished)
    assert told.startswith(
        "Not finished: it is still running, or was interrupted. 2 trials validated, 12 outer steps in"
    )
    assert "the best set so far has mean recall 12.0 on val" in told
    assert unfinished.set_file == unfinished.folder / "trials" / "trial_2" / "synthetic_set.safetensors"


def test_a_study_that_has_just_begun_is_read(tmp_path: Path) -> None:
    began = read_study(write_study(tmp_path / "a-1", finished=False, trials=0))
    assert "no trial has been validated yet" in state(began)
    assert (began.best, began.set_file, began.rows) == (None, None, ())


def test_a_table_alone_is_read(tmp_path: Path) -> None:
    write_table(tmp_path / "tables" / "shapes", rows())
    (study,) = studies_in(tmp_path)
    assert (study.name, study.configuration, command(study, study.rows[0])) == ("shapes", {}, "")
    assert facts(study)["Commit"] == "35db3ea"


def test_studies_of_one_space_or_of_all(tmp_path: Path) -> None:
    for name in ("a-1", "b-1"):
        write_table(tmp_path / "studies" / name, [Row(name="lors", pairs=PAIRS, mean={"mean_recall": 20.0})])
    write_study(tmp_path / "studies" / "b-2", finished=False, trials=0)
    assert [study.folder.name for study in studies_in(tmp_path, name="a")] == ["a-1"]
    assert {study.folder.name for study in studies_in(tmp_path)} == {"a-1", "b-1", "b-2"}
    with pytest.raises(FileNotFoundError, match=r"studies: no study of c is here\.$"):
        studies_in(tmp_path, name="c")


DAMAGED = [
    ("table.json", "{", r"table\.json: expected a JSON file"),
    ("configuration.yaml", "[1]", r"configuration\.yaml: the file holds \[1\], expected a mapping"),
    ("configuration.yaml", "a: [", r"configuration\.yaml: line 1 is not usable YAML"),
    ("trials/trial_1/history.json", "{}", r"history\.json: got format_version None, expected 1"),
    ("trials/trial_1/history.json", '{"format_version": 1, "validations": [{}]}', r"it is not the history of a trial"),
    ("trials/trial_1/history.json", '{"format_version": 1, "validations": [3]}', r"it is not the history of a trial"),
]


@pytest.mark.parametrize(("name", "text", "told"), DAMAGED, ids=range(len(DAMAGED)))
def test_a_damaged_file_is_named(name: str, text: str, told: str, tmp_path: Path) -> None:
    folder = write_study(tmp_path / "a-1", trials=1)
    (folder / name).write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=told):
        read_study(folder)


def test_another_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="expected the folder of a study"):
        read_study(tmp_path)
