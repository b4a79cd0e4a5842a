"""The run of a study in MLflow, from its beginning to how it ended."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from engine.config.load import as_yaml
from engine.provenance import provenance
from engine.studies.job import ARTIFACTS, EXPERIMENT, Job, local_folder
from engine.studies.record import study_data, study_tags
from engine.tracking import Tracker
from engine.tracking.mlflow.tracker import MlflowTracker, RunIdentity


def open_run(job: Job, identity: RunIdentity, *, fresh: bool = False) -> MlflowTracker:
    """Open a run at the top of the job's MLflow.

    Raises:
        ConnectionError: MLflow does not answer.
    """
    here = local_folder(job.specification.storage)
    return MlflowTracker.open_study(
        job.mlflow_uri, identity, artifacts=here / ARTIFACTS, spool=here / "spool", fresh=fresh
    )


@contextmanager
def tracked(job: Job, *, fresh: bool = False) -> Iterator[Tracker]:
    """Open the study's run in MLflow, record its configuration and what runs it, and end it when the block ends.

    The run ends FINISHED, KILLED after Ctrl-C or SIGTERM, and FAILED after any other error.
    """
    tracker = open_run(job, RunIdentity(EXPERIMENT, job.name, job.key, job.study.note), fresh=fresh)
    try:
        with TemporaryDirectory() as folder:
            configuration = Path(folder) / "configuration.yaml"
            configuration.write_text(as_yaml(job.study), encoding="utf-8")
            tracker.artifact(configuration)
        tracker.params(job.study.model_dump(mode="json", exclude={"search", "note", "published"}))
        tracker.tags(provenance() | study_tags(job.study) | {"samples": job.samples})
        tracker.data(study_data(job.specification))
        yield tracker
    except BaseException as error:
        with suppress(ConnectionError, ValueError):  # the first error is the one to report
            tracker.finish("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
        raise
    tracker.finish("FINISHED")
