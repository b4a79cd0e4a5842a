"""The folder of somebody who types what the pages say: files that commands expect, and studies small enough to run.

A space is resolved as it is typed; then the tiny study of the tests takes its place, so that commands run to their end.
"""

import argparse
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from engine.config import components
from engine.config.components import FAMILIES
from engine.config.load import change, load, resolve
from engine.config.schema import Resolved, Study
from engine.data.sets import shapes
from engine.io.paths import default_paths
from engine.results.history import BEST_SET
from engine.studies.job import Job, make_job
from engine.studies.preflight.dry_run import describe
from tests.data.sets import layouts
from tests.docs.pages import PAGES, ROOT, blocks
from tests.tasks.test_published import lors_set, write_buffers
from tests.tiny import SPACE

PHOTOS = 60


def barred(root: Path) -> None:
    """Write the layout that the page on adding a data set reads."""
    names = [f"{number}.png" for number in range(40)]
    layouts.photos(root, names)
    layouts.lines(root / "photos.txt", [f"{name} | a photo of {name}" for name in names])


LAYOUTS = {
    "karpathy": layouts.karpathy,
    "flickr": layouts.flickr8k,
    "coco": layouts.coco,
    "pairs": layouts.pairs,
    "imagefolder": layouts.metadata_csv,
    "table": layouts.captions_txt,
    "barred": barred,
}
WRITTEN = {"labels": "breeds.yaml", "lines": "my_table.yaml"}
"""The files into which a reader writes the YAML of pages that has a key."""
EXAMPLE = {
    **{f"data.{split}_images": 40 for split in ("train", "val", "test")},
    "protocol": {"epochs": 1, "seeds": 1, "learning_rates": [0.1]},
    "search": {},
}
"""Changes of the space of the set in ``examples/``, whose students are its own."""


def shown_components() -> dict[tuple[str, str], tuple[Path, str]]:
    """Return the components that the pages show, by family and name: the file below the project, and its text."""
    families = {family.package.replace(".", "/"): name for name, family in FAMILIES.items()}
    found = {}
    for page in PAGES:
        for block in blocks(page, "python"):
            mark, _, path = block.text.partition("\n")[0].partition(" ")
            if mark == "#" and str(Path(path).parent) in families:
                found[families[str(Path(path).parent)], Path(path).stem] = (Path(path), block.text)
    return found


def install_components(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the components of the pages be found, as if they lay in the folders of their families."""
    known = components.names
    shown = shown_components()
    for (family, _), (path, text) in shown.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")
        package = __import__(FAMILIES[family].package, fromlist=["__path__"])
        monkeypatch.setattr(package, "__path__", [*package.__path__, str((folder / path).parent)])

    def names(family: str, **rest: Any) -> list[str]:
        return sorted({*known(family, **rest), *(name for of, name in shown if of == family)})

    monkeypatch.setattr(components, "names", names)


@dataclass
class Desk:
    """The folder where commands are typed, and the jobs that they ran there."""

    folder: Path
    jobs: list[Job] = field(default_factory=list)
    described: dict[str, str] = field(default_factory=dict)

    def read_job(self, args: argparse.Namespace, *, samples: int | None = None) -> Job:
        """Return the job of the small study that stands for the space in ``args``, which is resolved first."""
        study = resolve(load(args.space, args.overrides))
        if "buffers" in args and args.buffers:
            small = resolve(load(str(SPACE), [f"seed={100 + len(self.jobs)}"]))  # whose store has no experts yet
            job = make_job(args.space, small)
            Path(args.buffers).mkdir(parents=True, exist_ok=True)
            write_buffers(Path(args.buffers), job, experts=2, epochs=3)
        else:
            job = make_job(args.space, small_study(args, study))
        self.jobs.append(job)
        return job

    def prepare(self) -> None:
        """Write what a reader has before any command: photos, published files, other students."""
        for name in ("tasks", "examples", "tune_spaces", "clusters"):
            (self.folder / name).symlink_to(ROOT / name)
        _photos(self.folder / "photos")
        torch.save(lors_set(), self.folder / "distilled_3000.pt")
        for width, name in enumerate(("vit", "wider"), start=4):
            student = f"student.image: {{encoder: convnet, width: {width}, depth: 2, grid: 1}}\n"
            (self.folder / f"{name}.yaml").write_text(student, encoding="utf-8")
        for block in (block for page in PAGES for block in blocks(page, "yaml")):
            if file := next((file for key, file in WRITTEN.items() if f"\n{key}:" in f"\n{block.text}"), None):
                (self.folder / file).write_text(block.text, encoding="utf-8")
        shutil.copy(self.folder / "photos" / "captions.csv", self.folder / "captions.csv")

    def lay_out(self, study: Study) -> None:
        """Write a small folder in the layout of a study's data, in place of one that is there."""
        name, root = study.data.name, str(study.data.options.get("root"))
        if name == "auto":
            name = {"flickr8k": "flickr"}.get(root, "table")
        if name in LAYOUTS:
            shutil.rmtree(self.folder / "data" / root, ignore_errors=True)
            LAYOUTS[name](self.folder / "data" / root)

    def remove(self, name: str) -> None:
        """Remove a file or folder that an earlier page wrote, so that a command may write it again."""
        path = self.folder / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)

    def describe(self, job: Job) -> str:
        """Return what a dry run says of a job, which is computed once for each study."""
        if job.key not in self.described:
            self.described[job.key] = describe(job)
        return self.described[job.key]

    def keep_set(self, job: Job) -> None:
        """Put the set of a finished study where pages have one, as a file."""
        shutil.copy(job.folder / BEST_SET, self.folder / "my_set.safetensors")

    def name_study(self, name: str) -> None:
        """Let the folder of results have a study of this name, as if the space had been distilled."""
        folders = self.folder / "runs" / "studies"
        if not [*folders.glob(f"{name}-*")]:
            first = self.jobs[0].folder
            shutil.copytree(first, folders / f"{name}-{self.jobs[0].key}")


def small_study(args: argparse.Namespace, study: Resolved) -> Resolved:
    """Return the tiny study with what was typed of data, method and encoders, if these are not the usual ones."""
    if str(getattr(args, "set", "")).startswith("examples/"):
        return resolve(change(load("shapes_100"), EXAMPLE, place="tests"))
    tiny, changes = load(str(SPACE)), dict[str, Any]()
    if study.data.name != "shapes" and (typed(args, "data") or args.space.endswith(".yaml")):
        changes["data"] = study.data.model_dump() | {"image_px": 8}
    shown = {name for _, name in shown_components()}
    if study.method.name in shown:
        changes["method"] = {"name": study.method.name, "num_pairs": 8}
        changes["search"] = {}
    if study.student.image.encoder in shown:
        changes["student.image"] = {"encoder": study.student.image.encoder, "train": "full", "head": "mlp"}
    if study.student.text.encoder in shown:
        changes["student.text"] = {"encoder": study.student.text.encoder, "train": "frozen", "head": "mlp"}
    return resolve(change(tiny, changes, place="tests"))


def typed(args: argparse.Namespace, section: str) -> bool:
    """Return whether an override changes a section."""
    return any(word.startswith((f"{section}.", f"{section}=")) for word in args.overrides)


def _photos(folder: Path) -> None:
    """Write drawn scenes as photos with a table of their captions and breeds."""
    data = shapes.DataSet(image_px=16, train_images=PHOTOS, val_images=1, test_images=1)
    pairs = data.load(default_paths(folder.parent / "runs"))["train"]
    folder.mkdir()
    rows = ["image,caption,breed"]
    for number, pixels in enumerate(pairs.images):
        Image.fromarray(pixels.transpose(1, 2, 0)).save(folder / f"{number}.png")
    for text, number in zip(pairs.captions, pairs.caption_image, strict=True):
        breed = ("beagle", "poodle")[number % 2]
        rows.append(f'{number}.png,"a {breed}, {text}",{breed}')
    layouts.lines(folder / "captions.csv", rows)
