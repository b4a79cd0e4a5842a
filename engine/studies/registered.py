"""Take from MLflow what it keeps of studies: registered sets, and the configuration of a run."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from engine.config.load import load, parse_overrides, resolve
from engine.io.files import atomic_path
from engine.io.progress import echo
from engine.io.storage import Location, location
from engine.results.files import read_table
from engine.results.history import BEST_SET
from engine.results.render import row_cells
from engine.studies.job import EXPERIMENT, Job, make_job, tracking_uri
from engine.studies.record import study_tags
from engine.tracking.mlflow.registry import SCHEME, kept_file, register, run_of_study, run_with, version_at

CONFIGURATION = "configuration.yaml"


def job_of_run(run_id: str, words: Sequence[str], *, samples: int | None = None) -> Job:
    """Return the job of the study that a run in MLflow recorded, with the overrides ``words``.

    Without ``samples``, it has as many trials as the run was asked for.

    Raises:
        ValueError: MLflow knows no such run, it keeps no configuration, or an override does not fit.
        ConnectionError: MLflow does not answer.
    """
    uri = tracking_uri(_storage(words))
    run = run_with(uri, run_id)
    with tempfile.TemporaryDirectory(prefix="vldd-") as folder:
        study = resolve(load(str(kept_file(uri, run, CONFIGURATION, Path(folder))), words))
    asked = run.tags.get("samples", "")
    return make_job(run.name, study, samples=samples or (int(asked) if asked.isdecimal() else None))


def set_location(text: str, storage: Location | None = None, words: Sequence[str] = ()) -> Location:
    """Return the file of ``--set``: a path, or a copy of a registered set, ``models:/NAME/VERSION``.

    The copy lies in ``storage``, or in that of the overrides ``words``, where workers read it.

    Raises:
        ValueError: MLflow has no such set.
        ConnectionError: MLflow does not answer.
    """
    if not text.startswith(SCHEME):
        return location(text, key="--set")
    storage = storage or _storage(words)
    uri = tracking_uri(storage)
    version = version_at(uri, text)
    target = storage / "registered" / f"{version.name}-{version.number}.safetensors"
    with tempfile.TemporaryDirectory(prefix="vldd-") as folder, atomic_path(target) as temporary:
        temporary.write_bytes(kept_file(uri, run_with(uri, version.run_id), BEST_SET, Path(folder)).read_bytes())
    return target


def register_set(job: Job, name: str) -> str:
    """Register the set of a finished study under ``name``; print and return its address, ``models:/NAME/VERSION``.

    Raises:
        ValueError: the study is not finished, MLflow keeps no set of it, or it cannot hold the name.
        ConnectionError: MLflow does not answer.
    """
    if not job.finished:
        raise ValueError(f"{job.folder}: the study is not finished, expected its set; distil it first.")
    uri, own = tracking_uri(job.specification.storage), read_table(job.folder)[0]
    run = run_of_study(uri, EXPERIMENT, job.key)
    if run is None:
        raise ValueError(f"{job.folder}: MLflow has no run of this study, expected the one that recorded it.")
    recall = row_cells(own)["mean"]
    note = f"{own.name}, {own.pairs} pairs: mean recall {recall} % on test; {own.protocol}."
    version = register(uri, name, run, BEST_SET, tags=study_tags(job.study) | {"mean recall": recall}, note=note)
    fetched_by = f"{SCHEME}{version.name}/{version.number}"
    echo(f"registered: {fetched_by} (evaluate and export take it as --set)")
    return fetched_by


def _storage(words: Sequence[str]) -> Location:
    """Return the storage among the overrides ``words``, or the default one."""
    return location(str(parse_overrides(words).get("storage", "runs")))
