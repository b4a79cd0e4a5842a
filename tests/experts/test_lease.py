"""One process trains into a store at a time, and one that is gone keeps nobody out."""

import json
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from engine.experts.lease import Holder, Lease, this_process
from engine.io.files import read_json, write_json

# Adds to a number in a file a hundred times, the slow and unsafe way: two at once would lose some.
COUNTING = """
import sys, time
from pathlib import Path
from engine.experts.lease import Lease
path = Path(sys.argv[1])
for _ in range(10):
    with Lease(path / "lease.json", beat_s=0.05).held(on_wait=lambda holder: None, on_loss=sys.exit):
        number = int((path / "number").read_text())
        time.sleep(0.005)
        (path / "number").write_text(str(number + 1))
"""


class GaveUpError(Exception):
    """Somebody who waits does not want to any more."""


def give_up(holder: Holder) -> None:
    raise GaveUpError(holder.owner)


def elsewhere(**changes: object) -> Holder:
    """Return a holder on another machine."""
    return replace(this_process(), owner="other", machine="another", host="far", **changes)


def hold(path: Path, holder: Holder) -> None:
    write_json(path, asdict(holder))


def test_the_lease_is_held_and_released(tmp_path: Path) -> None:
    lease = Lease(tmp_path / "lease.json")
    with lease.held(on_wait=give_up, on_loss=pytest.fail):
        assert lease.holder() == lease.me
        with pytest.raises(GaveUpError), Lease(lease.path).held(on_wait=give_up, on_loss=pytest.fail):
            pass
    assert lease.holder() is None


def test_two_processes_take_turns(tmp_path: Path) -> None:
    (tmp_path / "number").write_text("0")
    both = [subprocess.Popen([sys.executable, "-c", COUNTING, str(tmp_path)]) for _ in range(2)]
    assert [process.wait(60) for process in both] == [0, 0]
    assert (tmp_path / "number").read_text() == "20"


def test_a_dead_process_of_this_machine_holds_nothing(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    path = tmp_path / "lease.json"
    for gone in (replace(this_process(), pid=dead.pid), replace(this_process(), started="1")):  # its number given again
        hold(path, gone)
        with Lease(path).held(on_wait=give_up, on_loss=pytest.fail):
            assert read_json(path)["owner"] != gone.owner


def test_a_holder_elsewhere_is_waited_for_until_its_beat_stops(tmp_path: Path) -> None:
    path, waited = tmp_path / "lease.json", []
    hold(path, elsewhere())
    started = time.monotonic()

    def on_wait(holder: Holder) -> None:
        waited.append(holder)
        if len(waited) < 4:
            hold(path, elsewhere(beat=len(waited)))

    with Lease(path, beat_s=0.1, stale_s=0.5).held(on_wait=on_wait, on_loss=pytest.fail):
        assert time.monotonic() - started > 0.8  # three beats, and then half a second of silence
    assert {holder.host for holder in waited} == {"far"}


def test_a_beating_holder_keeps_the_lease_of_one_that_waits(tmp_path: Path) -> None:
    path, looks = tmp_path / "lease.json", []

    def wait_a_second(holder: Holder) -> None:
        looks.append(holder)
        if len(looks) > 20:
            raise GaveUpError

    with (
        Lease(path, beat_s=0.05).held(on_wait=give_up, on_loss=pytest.fail),
        pytest.raises(GaveUpError),
        Lease(path, beat_s=0.05, stale_s=0.5).held(on_wait=wait_a_second, on_loss=pytest.fail),
    ):
        pass
    assert len({holder.beat for holder in looks}) > 5


def test_one_that_stood_still_is_told_and_leaves_the_new_holder_alone(tmp_path: Path) -> None:
    path, lost = tmp_path / "lease.json", threading.Event()
    with Lease(path, beat_s=0.05).held(on_wait=give_up, on_loss=lost.set):
        hold(path, elsewhere())
        assert lost.wait(5)
    assert read_json(path)["owner"] == "other"


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", json.dumps({"owner": "x"})])
def test_a_lease_that_cannot_be_read_is_nobodys(text: str, tmp_path: Path) -> None:
    (tmp_path / "lease.json").write_text(text)
    with Lease(tmp_path / "lease.json").held(on_wait=give_up, on_loss=pytest.fail):
        pass
