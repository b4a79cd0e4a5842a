"""Files of classes: what they give, and the sentence for each that cannot be used."""

from pathlib import Path

import pytest
import torch

from engine.config.classes import read_classes
from engine.data.sets import shapes
from engine.io.paths import Paths

LABELS = "image,caption,class\na.jpg,zero,\na.jpg,one,cat\nb.jpg,two,dog\nb.jpg,three,cat\nd.jpg,four,dog\n"
FILE = "labels: labels.csv\nclasses: {cat: a cat, dog: [a dog, a puppy]}\n"


def written(folder: Path, text: str = FILE, labels: str = LABELS, name: str = "labels.csv") -> Path:
    (folder / name).write_text(labels, encoding="utf-8")
    (folder / "pets.yaml").write_text(text, encoding="utf-8")
    return folder / "pets.yaml"


def test_a_table_says_which_images_are_of_which_classes(tmp_path: Path) -> None:
    found = read_classes(written(tmp_path))
    assert dict(found.prompts) == {"cat": ["a cat"], "dog": ["a dog", "a puppy"]}
    rows, belongs = found.among(["a.jpg", "c.jpg", "b.jpg"])
    assert rows.tolist() == [0, 2]
    assert belongs.tolist() == [[True, False], [True, True]]
    assert found.sentence(["a.jpg", "c.jpg", "b.jpg"]) == (
        "top-1 and top-5 are zero-shot accuracies of 2 of 3 test images over 2 classes (class); 'cat' for every image "
        "would be right for 100.0 %"
    )
    with pytest.raises(ValueError, match=r"none of 1 images of test has a class.*'x/a\.jpg'.*'a\.jpg'"):
        found.among(["x/a.jpg"])


def test_a_column_may_have_another_name_and_a_list(tmp_path: Path) -> None:
    rows = '{"file_name": "a.jpg", "breed": ["cat", "dog"]}\n{"file_name": "b.jpg", "breed": "dog"}\n'
    file = written(tmp_path, FILE.replace("labels.csv", "l.jsonl") + "column: breed\n", rows, "l.jsonl")
    assert dict(read_classes(file).of_image) == {"a.jpg": ["cat", "dog"], "b.jpg": ["dog"]}


@pytest.mark.parametrize(
    ("text", "labels", "told"),
    [
        ("labels: labels.csv\n", LABELS, "pets.yaml: classes"),
        ("labels: labels.csv\nclasses: {cat: a cat}\n", LABELS, "pets.yaml: classes"),
        ("labels: labels.csv\nclasses: {cat: [], dog: a dog}\n", LABELS, "pets.yaml: classes.cat"),
        (FILE + "colum: breed\n", LABELS, "colum"),
        (FILE.replace("labels.csv", "none.csv"), LABELS, "labels is 'none.csv', but there is no file"),
        (FILE + "column: breed\n", LABELS, "breed"),
        (FILE, LABELS.replace("cat", "cow"), "row 2: 'class' is 'cow', expected one of the classes 'cat', 'dog'."),
        (FILE, LABELS.replace("a.jpg", ""), "row 2: 'image' is None, expected text."),
        ("[", LABELS, "pets.yaml"),
    ],
)
def test_what_cannot_be_used_is_one_sentence(text: str, labels: str, told: str, tmp_path: Path) -> None:
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        read_classes(written(tmp_path, text, labels))
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_scenes_know_their_classes(paths: Paths) -> None:
    data = shapes.DataSet(image_px=8, train_images=1, val_images=1, test_images=12)
    names = data.load(paths)["test"].image_names
    scenes = shapes.split_scenes({"train": 1, "val": 1, "test": 12}, seed=0)["test"]
    for attribute, many in (("backdrop", False), ("shape", True), ("colour", True)):
        found = data.classes(attribute)
        rows, belongs = found.among(names)
        assert torch.equal(rows, torch.arange(12))
        assert (belongs.sum(dim=1) > 1).any().item() == many
        assert belongs.any(dim=1).all()
    assert [found.of_image[name] for name in names] == [tuple(one.colour for one in scene.things) for scene in scenes]
    with pytest.raises(ValueError, match="--classes is 'size', expected backdrop, shape, colour of shapes"):
        data.classes("size")
