"""A study of one's own: numbers that suit the data, their reasons, copies of spaces, and one sentence otherwise."""

import shlex
from pathlib import Path

import pytest

from engine import build
from engine.config.load import load, resolve
from engine.config.schema import Resolved
from engine.config.spaces import spaces
from engine.data.recognise import Recognised
from engine.io.paths import Paths
from engine.models import packages
from engine.models.available import encoders
from engine.studies.job import make_job
from engine.studies.new import TEMPLATE, _numbers
from engine.studies.preflight.checks import check_budgets, check_study
from tasks import cli, distill, new


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder of this test, without the folders of data and weights of this machine."""
    for name in ("VLDD_DATA", "VLDD_WEIGHTS", "VLDD_CACHE", "VLDD_TRACEBACK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def photos(folder: Path, number: int, *, splits: tuple[str, ...] = (), table: str = "captions.csv") -> Path:
    """Write as many names of photos, which are not read here, with a caption each; ``splits`` are given in turn."""
    names = [f"{index:04}.png" for index in range(number)]
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).touch()
    head, given = ("image,caption,split", splits) if splits else ("image,caption", ("",))
    rows = [f"{name},photo {name}" + f",{given[i % len(given)]}" * bool(splits) for i, name in enumerate(names)]
    (folder / table).parent.mkdir(exist_ok=True)
    (folder / table).write_text("\n".join([head, *rows]) + "\n", encoding="utf-8")
    return folder


def run(*words: str) -> int:
    return cli.run(new.main, list(words), parser=new.PARSER)


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """Run a command that has to end with 2, and return its one sentence."""
    before = sorted(Path().rglob("*"))
    assert run(*words) == 2
    told = capsys.readouterr()
    assert (told.out, told.err.count("\n"), told.err[:7]) == ("", 1, "error: ")
    assert sorted(Path().rglob("*")) == before, "something was left"
    return told.err


def checked(path: str) -> Resolved:
    """Return the study of a file after what a dry run checks of it and of its data."""
    study = resolve(load(path))
    job = make_job(path, study)
    check_study(job)
    check_budgets(job, build.data_set(job.study).sizes(job.specification.paths)["train"].pairs)
    return study


def test_a_folder_becomes_a_study_that_suits_its_size(capsys: pytest.CaptureFixture[str], here: Path) -> None:
    photos(here / "data" / "my photos", 60)
    assert run("mine", "--data", "data/my photos") == 0
    found, few, written, following = capsys.readouterr().out.splitlines()[-4:]
    assert few.startswith("With 36 training photos, chosen pairs may train as well")
    assert "60 photos, 60 captions (train 36, val 12, test 12" in found
    assert (written, following) == ("written: mine.yaml", f"next: {cli.as_typed('distill')} mine.yaml")
    assert shlex.split(following)[-1] == "mine.yaml"
    study = checked("mine.yaml")
    assert study.data.options["root"] == "my photos"
    assert (study.data.options["val_fraction"], study.data.options["test_fraction"]) == (0.2, 0.2)
    assert (study.method.num_pairs, study.method.options["inner_batch"]) == (3, 3)
    assert study.baselines.pairs == [3, 15]
    assert (study.experts.batch_size, study.protocol.batch_size) == (8, 32)
    assert set(study.search) == set(resolve(load("flickr8k_100")).search)


def test_the_recipe_is_that_of_the_space_that_was_measured(here: Path) -> None:
    photos(here / "many", 1600)
    assert run("mine", "--data", "many") == 0
    mine, known = (resolve(load(space)).model_dump() for space in ("mine.yaml", "flickr8k_100"))
    for key in ("note", "data", "student"):
        del mine[key], known[key]
    known["baselines"]["pairs"] = [100, 500]  # 1,000 of 1,280 pairs would be nearly all
    assert mine == known


def test_every_number_has_a_reason(here: Path) -> None:
    photos(here / "own", 60)
    assert run("mine", "--data", "own") == 0
    lines = Path("mine.yaml").read_text(encoding="utf-8").splitlines()
    assert lines[0] == f"# 60 photos, written by: {cli.as_typed('new')} mine --data own"
    for line in lines[2:]:
        same = ("note:", "  similarity_lr:", "  method.inner_lr.text:")
        assert "  # " in line or line.startswith(same), line
    assert "  num_pairs: 3              # synthetic pairs, about a tenth of the 36 training photos" in "\n".join(lines)
    assert f'  root: "{here}/own"  # the folder' in lines
    assert "$" not in "\n".join(lines)


def test_splits_of_the_data_stay_as_they_are(capsys: pytest.CaptureFixture[str], here: Path) -> None:
    photos(here / "own", 80, splits=("train", "train", "val", "test"), table="lists/c.csv")
    assert run("mine", "--data", "own", "--captions", "lists/c.csv", "--pairs", "7") == 0
    assert "train 40, val 20, test 20" in capsys.readouterr().out
    text = Path("mine.yaml").read_text(encoding="utf-8")
    assert "val_fraction" not in text
    assert checked("mine.yaml").method.num_pairs == 7


@pytest.mark.parametrize("train", [20, 21, 24, 30, 36, 50, 99, 150, 160, 999, 1592, 5996, 29000, 10**6])
@pytest.mark.parametrize("captions", [1, 5])
def test_nothing_is_larger_than_the_data(train: int, captions: int) -> None:
    sizes = {"train": train, "val": 10, "test": 10}
    data = Recognised(Path("a"), "table", {}, sizes, {k: n * captions for k, n in sizes.items()}, (), "")
    budget = min(100, train // 10)
    numbers = _numbers(data, budget)
    pairs = train * captions
    coresets = [int(number) for number in numbers["coresets"].strip("[]").split(", ")]
    assert 2 <= budget == coresets[0] <= pairs / 10
    assert max(coresets) < pairs
    assert max(numbers["batch"], numbers["student_batch"]) <= pairs
    assert numbers["steps"] == -(-pairs // numbers["batch"]) >= 3


def test_bad_input_is_one_sentence(capsys: pytest.CaptureFixture[str], here: Path) -> None:
    (here / "empty").mkdir()
    photos(here / "few", 15)
    photos(here / "five", 5)
    photos(here / "misspelt", 60)
    table = next((here / "misspelt").glob("*.csv"))
    table.write_text(table.read_text(encoding="utf-8").replace("caption", "captions", 1), encoding="utf-8")
    photos(here / "uneven", 60, splits=("train",) * 29 + ("val",) * 29 + ("test",) * 2)
    photos(here / "own", 60)
    (here / "there.yaml").write_text("seed: 1\n", encoding="utf-8")
    assert f"{here}/empty is none of the known layouts" in refused(capsys, "x", "--data", "empty")
    assert f"{here}/nowhere is not a folder" in refused(capsys, "x", "--data", "nowhere")
    assert f"{here}/few: 15 photos are too few, expected 50" in refused(capsys, "x", "--data", "few")
    assert f"{here}/five: 5 photos are too few, expected 50" in refused(capsys, "x", "--data", "five")
    assert "as a table " in (told := refused(capsys, "x", "--data", "misspelt"))
    assert "'captions' is not a known name, expected 'caption'" in told
    assert "the split 'test' has 2 of 60 photos, expected 10" in refused(capsys, "x", "--data", "uneven")
    assert "there is no file" in refused(capsys, "x", "--data", "own", "--captions", "no.csv")
    assert "--pairs is 36, expected 2 to 35" in refused(capsys, "x", "--data", "own", "--pairs", "36")
    assert "the file there.yaml is there" in refused(capsys, "there", "--data", "own")
    assert "the file there.yaml is there" in refused(capsys, "there.yaml", "--copy", "shapes_100")
    assert "the name is 'a=b'" in refused(capsys, "a=b", "--data", "own")
    assert "there is no folder no" in refused(capsys, "no/x", "--data", "own")
    assert "the space is 'shapes'" in refused(capsys, "x", "--copy", "shapes")
    assert "expected them with it" in refused(capsys, "x", "--copy", "shapes_100", "--pairs", "3")
    assert (here / "there.yaml").read_text(encoding="utf-8") == "seed: 1\n"


@pytest.mark.parametrize("space", ["flickr8k_100", "published/flickr30k_100_lors"])
def test_a_copy_keeps_comments_and_values(space: str) -> None:
    assert run("mine", "--copy", space) == 0
    assert Path("mine.yaml").read_bytes() == spaces()[space].read_bytes()
    assert load("mine.yaml").model_dump() == load(space).model_dump()
    assert run("again", "--copy", "mine.yaml") == 0
    assert Path("again.yaml").read_bytes() == Path("mine.yaml").read_bytes()


def test_encoders_are_those_of_packages_or_the_weights_folder_or_the_hub(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, text = packages.PUBLIC
    assert packages.installed(image) is None or encoders(paths)["image"].origin == "weights of an installed package"
    for model in (image, text):
        monkeypatch.setitem(packages.PACKAGES, model, packages.Package(f"no-{Path(model).name}", "1.0", ""))
    found = encoders(paths)
    assert not found["image"].here
    assert found["image"].options == f"encoder: timm, model: {image}"
    assert f"fetched from the Hugging Face hub, or type {packages.install(image)}" in found["image"].origin
    paths.weights.mkdir()
    (paths.weights / "mobilenetv1_050_imagenet.safetensors").touch()
    (paths.weights / "all-MiniLM-L6-v2").mkdir()
    found = encoders(paths)
    assert found["image"].options == "encoder: mobilenetv1, width: 0.5, weights: mobilenetv1_050_imagenet.safetensors"
    assert [tower.here for tower in found.values()] == [True, True]
    (paths.weights / image).mkdir()
    assert encoders(paths)["image"].options == f"encoder: timm, model: {image}"


def test_a_dry_run_says_that_the_data_are_too_few(capsys: pytest.CaptureFixture[str], here: Path) -> None:
    photos(here / "own", 60)
    assert run("mine", "--data", "own") == 0
    capsys.readouterr()
    words = ["mine.yaml", "method.num_pairs=100", "--dry-run"]
    assert cli.run(distill.main, words, parser=distill.PARSER) == 2
    assert capsys.readouterr().err.startswith("error: command line: method.num_pairs is 100, expected at most 36")


def test_the_template_is_part_of_the_package() -> None:
    listed = (Path(__file__).resolve().parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    assert f'"studies/{TEMPLATE.name}"' in listed


def test_captions_of_another_script_are_counted(capsys: pytest.CaptureFixture[str], here: Path) -> None:
    table = photos(here / "own", 60) / "captions.csv"
    text = (
        table.read_text(encoding="utf-8")
        .replace("photo 0003.png", "一只棕色的狗在跑")
        .replace("photo 0004.png", "žluťoučký kůň")
    )
    table.write_text(text.replace("photo 0005.png", "Собака бежит по траве (dog)"), encoding="utf-8")
    assert run("mine", "--data", "own") == 0
    assert (
        "2 of 60 captions are not in Latin script, and the text encoder was trained on English; name one of your "
        "language as student.text.model.\n"
    ) in capsys.readouterr().out
