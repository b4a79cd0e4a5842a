"""What a worker raises comes out as its own sentence."""

import os
import signal

import pytest
import ray

from engine.cluster.errors import died, own_sentences

pytestmark = pytest.mark.usefixtures("ray_local")


@ray.remote
def fails(kind: str) -> None:
    """Raise as a worker does, directly or through a second worker."""
    if kind == "nested":
        ray.get(fails.options(num_cpus=0).remote("value"))
    if kind == "death":
        os.kill(os.getpid(), signal.SIGKILL)
    raise {"value": ValueError("seed: got -1."), "file": FileNotFoundError("there is no x.")}.get(kind, KeyError("k"))


@pytest.mark.parametrize(
    ("kind", "error", "told"),
    [
        ("value", ValueError, "seed: got -1."),
        ("nested", ValueError, "seed: got -1."),
        ("file", FileNotFoundError, "there is no x."),
        ("other", RuntimeError, "KeyError: 'k'"),
    ],
)
def test_an_error_of_a_worker_is_its_own_sentence(kind: str, error: type[Exception], told: str) -> None:
    with pytest.raises(error) as caught, own_sentences():
        ray.get(fails.remote(kind))
    assert type(caught.value) is error
    assert str(caught.value) == told


@pytest.mark.faults
def test_a_dead_worker_is_told_as_one() -> None:
    with pytest.raises(RuntimeError, match="a worker process died") as caught, own_sentences():
        ray.get(fails.options(max_retries=0).remote("death"))
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is not None
    assert died(caught.value.__cause__)
    assert not died(caught.value)
