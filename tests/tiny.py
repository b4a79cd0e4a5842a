"""The tiny study of these tests, as a job and as a command line."""

from pathlib import Path

from engine.config.load import load, resolve
from engine.studies.job import Job, make_job

SPACE = Path(__file__).with_name("tiny.yaml")
STEPS, EVERY = 6, 2


def words(storage: Path | str, *overrides: str) -> list[str]:
    """Return the words of the command line that run the tiny study in ``storage``."""
    return [str(SPACE), f"storage={storage}", *overrides]


def tiny_job(storage: Path | str, *overrides: str, samples: int | None = None) -> Job:
    """Return the job of the tiny study."""
    space, *rest = words(storage, *overrides)
    return make_job(space, resolve(load(space, rest)), samples=samples)
