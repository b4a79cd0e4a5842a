"""Input that is damaged or out of reach: one sentence with its file, key or value, exit code 2, and nothing left."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks import cli, coreset, distill, train_experts
from tests.data.photos import save_photos

NAMES = [f"{split}_{index}.png" for split in ("train", "val", "test") for index in range(3)]
STUDENT = ["data.image_px=16", "student.text.dim=2", "student.embed_dim=8", "student.image.width=4"]
TASKS = {"distill": distill, "train_experts": train_experts, "coreset": coreset}


def told(task: str, *words: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Run a task in this process that has to end with 2, and return its one line."""
    module = TASKS[task]
    assert cli.run(module.main, list(words), parser=module.PARSER) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1, captured.err
    assert "Traceback" not in captured.err
    return captured.err.removeprefix("error: ").rstrip("\n")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder that a person works in, with ``data`` and ``weights`` below it."""
    monkeypatch.chdir(tmp_path)
    for name in ("VLDD_DATA", "VLDD_WEIGHTS", "VLDD_CACHE", "VLDD_TRACEBACK"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def left(folder: Path) -> list[str]:
    """Return the files below the storage folder that are no whole cache."""
    files = [path for path in (folder / "runs").rglob("*") if path.is_file() and path.suffix != ".lock"]
    whole = {"images": ".npy", "captions": ".npy", "contents": ".json"}
    return [str(path) for path in files if whole.get(path.parent.name) != path.suffix or path.name.startswith(".")]


def karpathy_folder(folder: Path) -> Path:
    """Write a data set in the Karpathy layout, and return the folder of its photos."""
    root = folder / "data" / "photos"
    save_photos(root / "images", NAMES)
    entries = [
        {"filename": name, "split": name.partition("_")[0], "sentences": [{"raw": f"a photo of {name}"}]}
        for name in NAMES
    ]
    (root / "dataset_photos.json").write_text(json.dumps({"images": entries}), encoding="utf-8")
    return root / "images"


def own_photos(folder: Path, text: str | None = None, name: str = "captions.csv") -> Path:
    """Write a folder of photos with a table, and return the folder."""
    root = folder / "data" / "photos"
    save_photos(root, NAMES)
    rows = "image,caption,split\n" + "".join(f"{n},a photo of {n},{n.partition('_')[0]}\n" for n in NAMES)
    (root / name).write_text(rows if text is None else text, encoding="utf-8")
    return root


KARPATHY = ["data={name: karpathy, root: photos, image_px: 16}", *STUDENT[1:]]
TABLE = ["data={name: table, root: photos, table: captions.csv, image_px: 16}", *STUDENT[1:]]


def garbage(path: Path) -> None:
    path.write_bytes(b"this is no photo")


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:40])


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("spoil", [garbage, cut_short, empty])
@pytest.mark.parametrize("name", ["train_1.png", "test_2.png"])
@pytest.mark.parametrize("layout", ["karpathy", "table"])
def test_a_photo_that_cannot_be_decoded(
    layout: str, name: str, spoil: Callable[[Path], None], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = karpathy_folder(folder) if layout == "karpathy" else own_photos(folder)
    spoil(photos / name)
    words = KARPATHY if layout == "karpathy" else TABLE
    sentence = told("distill", *words, "--local", capsys=capsys)
    assert sentence.startswith(f"{photos / name}: expected an image, but it cannot be decoded (")
    assert left(folder) == []


@pytest.mark.parametrize("task", TASKS)
def test_every_task_refuses_it_alike(task: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    garbage(karpathy_folder(folder) / "val_0.png")
    assert "val_0.png: expected an image" in told(task, *KARPATHY, "--local", capsys=capsys)
    assert left(folder) == []


def test_a_photo_that_is_absent(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (own_photos(folder) / "val_2.png").unlink()
    sentence = told("distill", *TABLE, "--local", capsys=capsys)
    assert "captions.csv: row 6: image 'val_2.png' is not in" in sentence
    assert left(folder) == []


ANNOTATIONS = [
    ("{", "dataset_photos.json: expected a JSON file, but it cannot be parsed"),
    ('{"photos": []}', "dataset_photos.json: expected an object with a list 'images', the Karpathy layout"),
    (
        '{"images": [{"filename": "a.png", "split": "trian", "sentences": []}]}',
        "images[0]: 'split' is 'trian', expected train, val, test or restval",
    ),
    (
        '{"images": [{"filename": "a.png", "split": "train", "sentences": [{}]}]}',
        "images[0]: 'raw' is None, expected text",
    ),
    ('{"images": []}', "the split 'train' has no images"),
]


@pytest.mark.parametrize(("text", "wanted"), ANNOTATIONS, ids=range(len(ANNOTATIONS)))
def test_annotations_that_cannot_be_used(
    text: str, wanted: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    karpathy_folder(folder)
    (folder / "data" / "photos" / "dataset_photos.json").write_text(text, encoding="utf-8")
    assert wanted in told("distill", *KARPATHY, "--local", capsys=capsys)
    assert left(folder) == []


TABLES = [
    (
        "captions.csv",
        "image,text\na.png,a photo\n",
        "the column 'caption' is missing; the columns there are image, text",
    ),
    ("captions.csv", "", "captions.csv: expected a .csv table, but it cannot be parsed"),
    ("captions.csv", "image,caption\na.png,one,two,three\n", "captions.csv: expected a .csv table, but it cannot be"),
    ("captions.csv", "image,caption\ntrain_0.png,\n", "row 1: 'caption' is None, expected text"),
    ("captions.csv", "image,caption,split\ntrain_0.png,a,trian\n", "row 1: 'split' is 'trian', expected train, val or"),
    ("captions.csv", "image,caption\ntrain_0.png,a\n", "leave the split 'val' empty"),
    ("captions.jsonl", '{"image": 1', "captions.jsonl: expected a .jsonl table, but it cannot be parsed"),
    ("captions.jsonl", '{"image": 1, "caption": "a"}', "row 1: 'image' is 1, expected text"),
    ("captions.parquet", "not a table", "captions.parquet: expected a .parquet table, but it cannot be parsed"),
    ("captions.xlsx", "image", "ends in '.xlsx', expected .csv, .txt, .jsonl or .parquet"),
    ("captions.csv", "image,caption\n../../secret.png,a\nb.png,b\nc.png,c\n", "leads out of the image folder"),
]


@pytest.mark.parametrize(("name", "text", "wanted"), TABLES, ids=range(len(TABLES)))
def test_a_table_that_cannot_be_used(
    name: str, text: str, wanted: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own_photos(folder, text, name)
    words = [*TABLE, f"data.table={name}", "data.val_fraction=0.4", "data.test_fraction=0.4"]
    assert wanted in told("distill", *words, "--local", capsys=capsys)
    assert left(folder) == []


WEIGHTS = [
    (
        ["student.text={encoder: transformers, model: nobody/no-such-model}"],
        "text.model: 'nobody/no-such-model' is neither a folder in",
    ),
    (
        ["student.text={encoder: transformers, model: empty}"],
        "empty: expected a transformers model with config.json, tokenizer and safetensors",
    ),
    (
        ["student.image={encoder: timm, model: no_such_net}"],
        "student.image.model: timm",
    ),
    (
        ["student.image={encoder: timm, model: resnet18}"],
        "student.image.model: the weights of 'resnet18' could not be loaded from the hub",
    ),
    (
        ["student.image={encoder: mobilenetv1, weights: absent.safetensors}"],
        "student.image.weights: 'absent.safetensors' is not below",
    ),
    (
        ["student.image={encoder: mobilenetv1, weights: damaged.safetensors}"],
        "damaged.safetensors: expected safetensors weights of this encoder, but",
    ),
]


@pytest.mark.parametrize(("words", "wanted"), WEIGHTS, ids=range(len(WEIGHTS)))
@pytest.mark.parametrize("flag", ["--local", "--dry-run"])
def test_weights_that_are_out_of_reach(
    flag: str, words: list[str], wanted: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "weights" / "empty").mkdir(parents=True)
    (folder / "weights" / "damaged.safetensors").write_bytes(b"\x08\x00\x00\x00")
    karpathy_folder(folder)
    student = [word for word in STUDENT[1:] if not word.startswith(tuple(w.partition("=")[0] for w in words))]
    assert wanted in told("distill", KARPATHY[0], "method.num_pairs=2", *student, *words, flag, capsys=capsys)
    assert left(folder) == []
