"""Write a study of one's own: numbers that suit the size of the data, each with its reason, or a copy of a space."""

import json
import os
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from string import Template
from typing import Any

from engine.config.components import find
from engine.config.errors import COMMAND_LINE, ConfigError
from engine.config.load import load
from engine.config.spaces import spaces
from engine.data.recognise import Recognised, recognise
from engine.data.splits import EmptySplitError
from engine.io.files import atomic_path
from engine.io.paths import Paths, default_paths
from engine.models.available import encoders

LEAST = {"train": 20, "val": 10, "test": 10}
"""Photos of a split below which nothing is learned, or its recalls say nothing."""

FEW = 50
"""Photos below which data that have no splits are refused."""

WORTH_LEARNING = 200
"""Training photos below which coresets were as good as a learned set (LOG.md, 2026-11-26)."""

PARTS = ("val_fraction", "test_fraction")
ENOUGH, MOST = 100, 5000
"""Photos of val and of test that are worth more than a tenth of few data, and that suffice of many."""

TEMPLATE = Path(__file__).with_name("new.yaml")


def write_copy(name: str, space: str) -> tuple[Path, list[str]]:
    """Write the file of a space, with its comments, under a name of one's own; return as ``write_study`` does.

    Raises:
        ConfigError: the space cannot be read, or the name cannot be used.
        FileExistsError: a file of this name is there.
    """
    path = own_file(name)
    note = load(space).note
    _write(path, spaces().get(space, Path(space).expanduser()).read_text(encoding="utf-8"))
    return path, [f"{space}: {note}"]


def write_study(
    name: str, folder: Path, captions: Path | None, *, pairs: int | None, typed: str
) -> tuple[Path, list[str]]:
    """Write a study of the photos in ``folder``; return its path, and what a person should know about it.

    ``pairs`` None: a tenth of the training photos, at most 100. ``typed`` is the command, for the first comment.

    Raises:
        ConfigError: the name cannot be used, or the data are too few for what was asked.
        FileExistsError: a file of this name is there.
        FileNotFoundError: the folder, the captions or photos are missing.
        ValueError: the folder is of no known layout, or its captions cannot be read.
    """
    path, paths, root = own_file(name), default_paths(Path("runs")), Path(os.path.abspath(folder.expanduser()))
    if captions is not None:  # named from here, or from the folder of the photos
        here, beside = Path(os.path.abspath(captions.expanduser())), root / captions
        captions = beside if beside.is_file() and not here.is_file() else here
    data, settings = _divided(root, captions)
    train = data.captions["train"]
    if pairs is not None and not 2 <= pairs < train:
        raise ConfigError(
            f"{COMMAND_LINE}: --pairs is {pairs}, expected 2 to {train - 1:,}, fewer than the {train:,} training pairs "
            f"of {data.root}."
        )
    photos = data.photos["train"]
    towers = encoders(paths)
    values = {
        **_numbers(data, pairs or min(100, photos // 10)),
        **{key: tower.options for key, tower in towers.items()},
        **{f"{key}_origin": tower.origin for key, tower in towers.items()},
        "typed": "".join(letter if letter.isprintable() else "?" for letter in typed),
        "note": _quoted(f"{sum(data.photos.values()):,} photos in {root.name}"),
        "layout": data.name,
        "settings": "\n".join(_settings(data, settings, paths)),
    }
    lines = []
    for line in Template(TEMPLATE.read_text(encoding="utf-8")).substitute(values).splitlines():
        key, mark, comment = line.rpartition("  # ")  # comments stand below each other, as far as lines leave room
        lines.append(f"{key:<26}{mark}{comment}" if mark else line)
    _write(path, "\n".join(lines) + "\n")
    absent = [f"{key} encoder: {tower.origin}" for key, tower in towers.items() if not tower.here]
    few = f"With {photos} training photos, chosen pairs may train as well as learned ones; compare the coresets."
    script = (
        f"{data.not_latin:,} of {sum(data.captions.values()):,} captions are not in Latin script, and the text encoder "
        "was trained on English; name one of your language as student.text.model."
    )
    advice = [few] * (photos < WORTH_LEARNING) + [script] * (data.not_latin > 0)
    return path, [data.line(), *absent, *advice]


def own_file(name: str) -> Path:
    """Return the YAML file that a name or a path stands for, which has to be new, in a folder that is there."""
    path = Path(name).expanduser()
    path = path if path.suffix in (".yaml", ".yml") else path.with_name(f"{path.name}.yaml") if path.name else path
    if not path.stem or "=" in name or not name.isprintable() or len(os.fsencode(path.name)) > 200:
        raise ConfigError(f"{COMMAND_LINE}: the name is {name!r}, expected the name of a file, without '='.")
    if os.path.lexists(path):
        raise ConfigError(
            f"{COMMAND_LINE}: the name is {name!r}, expected a new one; the file {path} is there already."
        )
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{COMMAND_LINE}: the name is {name!r}, but there is no folder {path.parent}.")
    return path


def _divided(root: Path, captions: Path | None) -> tuple[Recognised, dict[str, Any]]:
    """Return the data, and the fractions of val and test where the data leave them open; few data give larger ones."""
    too_few = f"photos are too few, expected {FEW} or more, a fifth each for val and test."
    try:
        data, chosen = recognise(root, captions), dict[str, Any]()
    except EmptySplitError as error:
        raise ConfigError(f"{root}: {error.photos} {too_few}") from error
    total = sum(data.photos.values())
    if data.divided and {*PARTS} <= {field.name for field in fields(find("data", data.name))}:  # type: ignore[arg-type]
        if total < FEW:
            raise ConfigError(f"{root}: {total} {too_few}")
        chosen = dict.fromkeys(PARTS, round(min(max(0.1, min(0.2, ENOUGH / total)), MOST / total), 3))
        data = recognise(root, captions, **chosen)
    for split, least in LEAST.items():
        if data.photos[split] < least:
            raise ConfigError(
                f"{root}: the split {split!r} has {data.photos[split]} of {total} photos, expected {least} or more."
            )
    return data, chosen


def _numbers(data: Recognised, budget: int) -> dict[str, Any]:
    """Return the numbers of a study that depend on the sizes of the splits and on the number of synthetic pairs."""
    train = data.captions["train"]
    batch = next((size for size in (128, 64, 32, 16) if 10 * size <= train), 8)
    larger = next((times * budget for times in (10, 5, 2) if 3 * times * budget <= 2 * train), None)
    return {
        "budget": budget,
        "batch": batch,
        "steps": -(-train // batch),
        "student_batch": next(size for size in (128, 64, 32, 16) if size <= train),
        "coresets": f"[{budget}, {larger}]" if larger else f"[{budget}]",
        "outer_steps": 200 if budget >= 200 else 120,
        "photos": f"{sum(data.photos.values()):,}",
        **{f"{split}_photos": f"{number:,}" for split, number in data.photos.items()},
        "train_pairs": f"{train:,}",
    }


def _settings(data: Recognised, chosen: Mapping[str, Any], paths: Paths) -> list[str]:
    """Return the lines of the options of the data set; a folder below that of all data is named from there."""
    below = data.root.is_relative_to(paths.data) and data.root != paths.data
    root = str(data.root.relative_to(paths.data) if below else data.root)
    why = {
        "root": "the folder, below that of all data (VLDD_DATA, ./data)" if below else "the folder",
        "val_fraction": f"{data.photos['val']:,} photos, on which learning rates and the best step are chosen",
        "test_fraction": f"{data.photos['test']:,} photos, which only the table sees",
    }
    options = {"root": root, **data.settings, **chosen}
    comments = {key: why.get(key, "as it was found in the folder") for key in options}
    return [f"  {key}: {_quoted(value)}  # {comments[key]}" for key, value in options.items()]


def _quoted(value: Any) -> str:
    """Return a value of JSON as YAML on one line."""
    text = json.dumps(value, ensure_ascii=False)
    return text if text.isprintable() else json.dumps(value)


def _write(path: Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
