"""What a command works on: one resolved study, and where its parts lie."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from engine.cluster import runtime
from engine.config.load import Study, as_yaml, identity
from engine.io.files import atomic_path, digest
from engine.io.paths import default_paths
from engine.io.storage import Location, as_file, location, matching, remove_tree
from engine.io.terminal import echo
from engine.results.render import render_text
from engine.results.row import Row
from engine.specification import Specification
from engine.studies.preflight.requirements import epochs_read, experts_read
from engine.tracking import Tracker
from engine.tracking.mlflow.tracker import MlflowTracker, default_uri

EXPERIMENT = "vldistill"


@dataclass(frozen=True)
class Job:
    """One study and where its parts lie."""

    name: str
    study: Study
    specification: Specification
    samples: int

    @property
    def key(self) -> str:
        """The study's identity; a search with more trials is another study."""
        return digest("job/1", identity(self.study), str(self.samples))

    @cached_property
    def folder(self) -> Location:
        """Where the results of this study lie: where they are already, whatever it was called then, or a new folder.

        Of several, which earlier versions left, a finished one.
        """
        studies = self.specification.storage / "studies"
        there = sorted(matching(studies, f"*-{self.key}"), key=lambda folder: (not _ended(folder), folder.name))
        return there[0] if there else studies / f"{self.name}-{self.key}"

    @property
    def finished(self) -> bool:
        """Whether the study's table, which is written last, is there."""
        return _ended(self.folder)

    @property
    def expert_count(self) -> int:
        """How many experts there are: as many as any trial reads."""
        return experts_read(self.study)

    @cached_property
    def expert_epochs(self) -> int:
        """How many epochs each expert is trained: as configured, else as many as any trial reads."""
        return self.study.experts.epochs or epochs_read(self.study)

    @property
    def mlflow_uri(self) -> str:
        """Where MLflow keeps its runs: ``MLFLOW_TRACKING_URI``, else a database on this machine's disks."""
        return os.environ.get("MLFLOW_TRACKING_URI") or default_uri(desk(self.specification.storage))


def _ended(folder: Location) -> bool:
    return (folder / "table.json").exists()


def make_job(space: str, study: Study, *, samples: int | None = None) -> Job:
    """Return the job of a resolved study; without ``samples`` the study's own number counts, or one.

    Raises:
        ValueError: the storage folder lies inside Ray's temporary directory.
    """
    storage = location(study.storage)
    if isinstance(storage, Path) and storage.is_relative_to(runtime.temporary_folder()):
        raise ValueError(f"storage: {storage} is in Ray's temporary directory, which is deleted; name another folder.")
    specification = Specification(study, default_paths(desk(storage)), storage)
    wanted = samples or study.budget.samples or 1
    return Job(Path(space).stem, study, specification, wanted if study.search else 1)


def desk(storage: Location) -> Path:
    """Return the folder for what has to lie on this machine's disks: caches, MLflow's database, what it waits for.

    It is the storage folder itself, and ``./runs`` where the storage is an object store.
    """
    return storage if isinstance(storage, Path) else Path("runs").absolute()


@contextmanager
def tracked(job: Job, *, fresh: bool) -> Iterator[Tracker]:
    """Open the study's run in MLflow with its configuration, and end it as the block ends.

    FINISHED, KILLED after an interrupt, FAILED after any other error.
    """
    here = desk(job.specification.storage)
    tracker = MlflowTracker.open_study(
        job.mlflow_uri,
        experiment=EXPERIMENT,
        name=job.name,
        key=job.key,
        note=job.study.note,
        artifacts=here / "artifacts",
        spool=here / "spool",
        fresh=fresh,
    )
    try:
        _record_configuration(job, tracker)
        yield tracker
    except BaseException as error:
        with suppress(ConnectionError, ValueError):  # what went wrong first is what should be told
            tracker.finish("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
        raise
    tracker.finish("FINISHED")


def _record_configuration(job: Job, tracker: Tracker) -> None:
    with atomic_path(job.folder / "configuration.yaml") as temporary:
        temporary.write_text(as_yaml(job.study), encoding="utf-8")
    keep(tracker, job.folder / "configuration.yaml")
    tracker.params(job.study.model_dump(mode="json", exclude={"search", "note", "published"}))


def keep(tracker: Tracker, where: Location) -> None:
    """Have a tracker keep a copy of a file, wherever that lies."""
    with as_file(where) as file:
        tracker.artifact(file)


def forget(job: Job) -> None:
    """Delete the results of a study; its experts, and the scores of baselines, are other studies' too and stay."""
    remove_tree(job.folder)


def conclude(job: Job, rows: list[Row], *lines: str) -> None:
    """Print the table, where things lie, and how to look at everything."""
    echo(f"\n{render_text(rows)}")
    for line in lines:
        echo(line)
    if job.mlflow_uri.startswith("http"):
        echo(f"compare runs:   {job.mlflow_uri}")
    else:
        echo(f"compare runs:   mlflow server --backend-store-uri {job.mlflow_uri}")
