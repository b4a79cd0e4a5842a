"""What a worker raises comes out as its own sentence."""

import os
import signal
import threading
import traceback
from pathlib import Path

import pytest
import ray
import torch
from fsspec.exceptions import FSTimeoutError
from ray.train._internal.syncer import _BackgroundProcess
from ray.tune import TuneError

from engine.cluster.errors import died, last_line_of_traceback, one_sentence_errors
from engine.cluster.search.noise import unwrapped, uploads_awaited
from engine.io.storage import StorageError, location

TOO_MUCH = (
    "CUDA out of memory. Tried to allocate 30.00 MiB. GPU 0 has a total capacity of 79.18 GiB of which 20.19 MiB is "
    "free. Including non-PyTorch memory, this process has 78.59 GiB memory in use. See documentation for Memory "
    "Management (https://docs.pytorch.org/docs/stable/notes/cuda.html)"
)
"""The start of what torch raises on a GPU of 80 GB."""
OUT_OF_MEMORY = (
    "resources: a GPU ran out of memory (Tried to allocate 30.00 MiB; GPU 0 has a total capacity of 79.18 GiB of which "
    "20.19 MiB is free), expected fewer pairs, smaller batches or a larger share of a GPU for this task."
)

pytestmark = pytest.mark.usefixtures("ray_local")


@ray.remote
def fails(kind: str) -> None:
    """Raise as a worker does, directly or through a second worker."""
    if kind == "nested":
        ray.get(fails.options(num_cpus=0).remote("value"))
    if kind == "death":
        os.kill(os.getpid(), signal.SIGKILL)
    raise {
        "value": ValueError("seed: got -1."),
        "file": FileNotFoundError("there is no x."),
        "storage": StorageError("s3://a: the upload failed (x)"),
        "package": FSTimeoutError("too late"),
        "memory": torch.OutOfMemoryError(TOO_MUCH),
    }.get(kind, KeyError("k"))


@pytest.mark.parametrize(
    ("kind", "error", "told"),
    [
        ("value", ValueError, "seed: got -1."),
        ("nested", ValueError, "seed: got -1."),
        ("file", FileNotFoundError, "there is no x."),
        ("storage", StorageError, "s3://a: the upload failed (x)"),
        ("package", StorageError, "storage: memory://store failed (too late)"),
        ("memory", ValueError, OUT_OF_MEMORY),
        ("other", RuntimeError, "KeyError: 'k'"),
    ],
)
def test_an_error_of_a_worker_is_its_own_sentence(kind: str, error: type[Exception], told: str) -> None:
    with pytest.raises(error) as caught, one_sentence_errors(location("memory://store")):
        ray.get(fails.remote(kind))
    assert type(caught.value) is error
    assert str(caught.value) == told


def test_the_memory_of_a_gpu_is_one_sentence_in_the_process_itself() -> None:
    with pytest.raises(ValueError, match="a GPU ran out of memory") as caught, one_sentence_errors():
        raise torch.OutOfMemoryError(TOO_MUCH)
    assert str(caught.value) == OUT_OF_MEMORY


@ray.remote
class Unready:
    """An actor that cannot be started."""

    def __init__(self) -> None:
        ray.get(fails.options(num_cpus=0).remote("other"))

    def ready(self) -> None:
        """Never return."""


def test_an_actor_that_cannot_be_started_tells_why_and_did_not_die() -> None:
    with pytest.raises(RuntimeError, match=r"^KeyError: 'k'$") as caught, one_sentence_errors():
        ray.get(Unready.options(num_cpus=0).remote().ready.remote())
    assert caught.value.__cause__ is not None
    assert not died(caught.value.__cause__)


def test_what_a_package_raises_here_is_told_of_the_storage_and_a_mistake_of_ours_passes() -> None:
    place = location("memory://store")
    with (
        pytest.raises(StorageError, match=r"^storage: memory://store failed \(too late\)$"),
        one_sentence_errors(place),
    ):
        raise FSTimeoutError("too late")
    with pytest.raises(FSTimeoutError), one_sentence_errors(Path("runs").absolute()):
        raise FSTimeoutError("too late")
    with pytest.raises(KeyError), one_sentence_errors(place):
        raise KeyError("k")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Traceback:\n  File x\nOSError: the disk\nsaid no.\n", "OSError: the disk said no."),
        ("Traceback:\na.b.KeyError: 'k'\n\nDuring\n\nTraceback:\nValueError: v", "ValueError: v"),
        ("The actor died.\n\tpid: 3\nThe actor is dead.", "The actor is dead."),
        ("", "no message"),
    ],
)
def test_the_last_line_of_traceback_of_a_traceback_are_type_and_message(text: str, words: str) -> None:
    assert last_line_of_traceback(text) == words


def raise_as_tune_does(error: Exception) -> None:
    try:
        raise error
    except KeyError:
        raise TuneError(traceback.format_exc())  # noqa: B904


def test_what_tune_wraps_is_raised_as_it_was() -> None:
    with pytest.raises(KeyError, match="k"), unwrapped():
        raise_as_tune_does(KeyError("k"))
    with pytest.raises(RuntimeError, match=r"^Trials did not complete$"), unwrapped():
        raise TuneError("Trials did not complete")


def test_an_upload_is_waited_for_but_not_for_ever() -> None:
    end = threading.Event()
    upload = _BackgroundProcess(end.wait)  # that of Tune
    with uploads_awaited(patience=0.1):
        upload.start()
    assert upload.is_running
    with uploads_awaited():
        end.set()
    assert not upload.is_running


@pytest.mark.faults
def test_a_dead_worker_is_told_as_one() -> None:
    with pytest.raises(RuntimeError, match="a worker process died") as caught, one_sentence_errors():
        ray.get(fails.options(max_retries=0).remote("death"))
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is not None
    assert died(caught.value.__cause__)
    assert not died(caught.value)
