"""A job: one resolved study, the folders of its parts, and where its runs are in MLflow.

A finished study's table is printed by this file, which therefore imports neither Ray nor MLflow: they take longest.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from engine.config.load import assign
from engine.config.schema import Resolved
from engine.data.sets import auto
from engine.data.shared import shared
from engine.io.files import digest
from engine.io.paths import Paths, default_paths, ray_folder
from engine.io.progress import echo
from engine.io.storage import Location, check_answers, check_writable, location, matching
from engine.results.render import render_text
from engine.results.row import Row
from engine.specification import Specification
from engine.studies.preflight.requirements import epochs_read, largest
from engine.tracking.mlflow.uri import check_uri, database_file, default_uri, follow_move, page

EXPERIMENT, ARTIFACTS = "vldistill", "artifacts"


@dataclass(frozen=True)
class Job:
    """A resolved study with the folders of its parts; ``samples`` is the number of trials."""

    name: str
    study: Resolved
    specification: Specification
    samples: int

    @property
    def key(self) -> str:
        """The study's identity; a search with more trials is another study."""
        return digest("job/1", self.study.identity, str(self.samples))

    @cached_property
    def folder(self) -> Location:
        """The folder of the results: an existing one under any name, a finished one first, else a new one."""
        studies = self.specification.storage / "studies"
        there = matching(studies, f"*-{self.key}")
        there = sorted(there, key=lambda folder: (not (folder / "table.json").exists(), folder.name))
        return there[0] if there else studies / f"{self.name}-{self.key}"

    @property
    def finished(self) -> bool:
        """Whether the study's table, which is written last, is there."""
        return (self.folder / "table.json").exists()

    @property
    def expert_count(self) -> int:
        """The number of experts: the largest that any trial reads."""
        return largest(self.study, "experts.count")

    @cached_property
    def expert_epochs(self) -> int:
        """The epochs of each expert: as configured, else the last one that any trial reads."""
        return self.study.experts.epochs or epochs_read(self.study)

    @cached_property
    def shared(self) -> str:
        """What the splits of the data share, in words; the data are loaded for it."""
        datasets = self.specification.setup(device="cpu").datasets
        return shared(datasets, self.specification.paths.cache).sentence()

    @property
    def mlflow_uri(self) -> str:
        """The tracking URI of MLflow: ``MLFLOW_TRACKING_URI``, else a database in the local folder."""
        return default_uri(local_folder(self.specification.storage))


def make_job(space: str, study: Resolved, *, samples: int | None = None) -> Job:
    """Return the job of a resolved study; without ``samples`` the study's own number counts, or one.

    Raises:
        ValueError: the storage cannot be written to, or lies inside Ray's temporary directory; the folder of caches
            cannot be written to; or MLflow cannot work with its URI.
        StorageError: an object store does not answer or refuses.
    """
    storage = location(study.storage)
    here, on_disk = local_folder(storage), isinstance(storage, Path)
    if here.is_relative_to(ray_folder()):
        raise ValueError(f"storage: {here} is in Ray's temporary directory, which is deleted; name another folder.")
    check_writable(here, key="storage" if on_disk else "the folder for caches and MLflow")
    check_answers(storage)
    paths = default_paths(here)
    study = with_data_named(study, paths)
    check_writable(paths.cache, key="VLDD_CACHE")
    check_uri(default_uri(here))
    specification = Specification(study, paths, storage)
    wanted = samples or study.budget.samples or 1
    return Job(Path(space).stem, study, specification, wanted if study.search else 1)


def with_data_named(study: Resolved, paths: Paths) -> Resolved:
    """Return the study with the data set that ``data.name=auto`` recognises in its place, and print what it is.

    Raises:
        FileNotFoundError: the folder or photos are missing.
        ValueError: the folder is no known layout, or several.
    """
    if study.data.name != "auto":
        return study
    chosen = auto.DataSet(**study.data.options)
    found = chosen.recognised(paths)
    echo(f"# {found.line()}")
    named = assign(study, {"data": {"name": found.name, **chosen.options(found)}})
    named._given = study._given
    return named


def local_folder(storage: Location) -> Path:
    """Return the folder for what needs a local disk: caches, MLflow's database and its spool.

    It is the storage folder itself, and ``./runs`` where the storage is an object store.
    """
    return storage if isinstance(storage, Path) else Path("runs").absolute()


def tracking_uri(storage: Location) -> str:
    """Return the tracking URI of a storage, whose database follows its folder of artifacts where both were moved."""
    here = local_folder(storage)
    uri = default_uri(here)
    check_uri(uri)
    if database := database_file(uri):
        follow_move(database, EXPERIMENT, here / ARTIFACTS)
    return uri


def conclude(job: Job, rows: list[Row], *lines: str) -> None:
    """Print the table, further lines, and how to open the runs in MLflow."""
    echo(f"\n{render_text(rows)}")
    for line in lines:
        echo(line)
    for number, line in enumerate(page(tracking_uri(job.specification.storage), EXPERIMENT)):
        echo(f"{'then open:' if number else 'compare runs:':<16}{line}")
