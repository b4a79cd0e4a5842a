import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from engine.tracking.mlflow.spool import Record, RejectedError, Sender, Spool


class Receiver:
    """The other end: remembers what arrives; can be away, and can reject operations."""

    def __init__(self) -> None:
        self.away = False
        self.rejects: set[str] = set()
        self.received: list[Record] = []

    def __call__(self, group: Sequence[Record]) -> None:
        if self.away:
            raise ConnectionError("gone fishing")
        if group[0].operation in self.rejects:
            raise RejectedError("not this")
        self.received.extend(group)

    @property
    def steps(self) -> list[int]:
        """The steps of the metrics that arrived, in the order of their arrival."""
        return [record.content["step"] for record in self.received]


@pytest.fixture
def receiver() -> Receiver:
    return Receiver()


@pytest.fixture
def sender(tmp_path: Path, receiver: Receiver) -> Iterator[Sender]:
    made = Sender(Spool(tmp_path / "spool"), receiver)
    yield made
    made.stop()


def put_metrics(target: Sender, channel: str, step: int) -> None:
    target.put(channel, "metrics", step=step, values={"m": 1.0})


def append_metrics(target: Spool, channel: str, step: int, count: int = 1) -> None:
    target.append(channel, "metrics", step=step, values={f"m{number}": 1.0 for number in range(count)})


def test_records_arrive_in_order_and_stay_as_history(sender: Sender, receiver: Receiver) -> None:
    before = time.time() * 1000
    for step in range(50):
        put_metrics(sender, "a", step)
    assert sender.flush(10)
    assert receiver.steps == list(range(50))
    history = sender.spool.history("a", "metrics")
    assert history == receiver.received
    assert before - 1 <= history[0].time <= history[-1].time <= time.time() * 1000
    assert sender.spool.history("a", "tags") == sender.spool.history("b", "metrics") == []


def test_while_away_nobody_waits_and_later_everything_arrives_once(sender: Sender, receiver: Receiver) -> None:
    receiver.away = True
    start = time.monotonic()
    for step in range(50):
        put_metrics(sender, "a", step)
    assert time.monotonic() - start < 5
    assert not sender.flush(0.5)
    assert str(sender.trouble) == "gone fishing"
    receiver.away = False
    assert sender.flush(10)
    assert receiver.steps == list(range(50))


def test_an_unexpected_error_of_the_receiver_loses_nothing(tmp_path: Path) -> None:
    received: list[Record] = []

    def deliver(group: Sequence[Record]) -> None:
        if not received:
            received.append(group[0])
            raise KeyError("a bug of a library")

    sender = Sender(Spool(tmp_path), deliver)
    put_metrics(sender, "a", 0)
    assert sender.flush(10)
    sender.stop()


def test_a_rejection_is_set_aside_and_the_next_record_sent(sender: Sender, receiver: Receiver) -> None:
    receiver.rejects = {"params"}
    sender.put("run", "params", values={"lr": "0.1"})
    put_metrics(sender, "run", 1)
    assert sender.flush(10)
    assert receiver.steps == [1]
    assert sender.rejections() == ["not this"]
    assert sender.spool.history("run", "params")[0].content == {"values": {"lr": "0.1"}}, "and is kept"


def test_rejections_of_an_earlier_sender_are_not_named_again(tmp_path: Path, receiver: Receiver) -> None:
    receiver.rejects = {"params"}
    for number in range(2):
        sender = Sender(Spool(tmp_path), receiver)
        sender.put("run", "params", values={})
        assert sender.flush(10)
        sender.stop()
        assert (number, sender.rejections()) == (number, ["not this"])


def test_the_records_of_an_earlier_process_are_sent_by_the_next(tmp_path: Path, receiver: Receiver) -> None:
    left = Spool(tmp_path)
    append_metrics(left, "a", 0)
    append_metrics(left, "b", 1)
    sender = Sender(Spool(tmp_path), receiver)
    put_metrics(sender, "a", 2)
    assert sender.flush(10)
    sender.stop()
    assert sorted(receiver.steps) == [0, 1, 2]
    assert [record.content["step"] for record in left.history("a", "metrics")] == [0, 2]


WRITER = """
import sys
from pathlib import Path
from engine.tracking.mlflow.spool import Sender, Spool

def deliver(group):
    raise ConnectionError("away")

sender = Sender(Spool(Path(sys.argv[1])), deliver)
for step in range(10**6):
    sender.put("a", "metrics", step=step, values={"m": 1.0})
    print(step, flush=True)
"""


@pytest.mark.parametrize("lines", [1, 20, 41])
def test_a_killed_process_leaves_every_record_that_it_has_put(tmp_path: Path, receiver: Receiver, lines: int) -> None:
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for _ in range(lines):
        process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    last = int((f"{lines - 1}\n" + process.stdout.read()).split()[-1])
    process.stdout.close()
    process.wait(timeout=10)
    sender = Sender(Spool(tmp_path), receiver)
    put_metrics(sender, "a", -1)
    assert sender.flush(20), "the lock of the killed process is free"
    sender.stop()
    steps = receiver.steps[:-1]
    assert steps == list(range(len(steps)))
    assert len(steps) in {last + 1, last + 2}, "one more where the process was killed before it printed"
    assert receiver.steps[-1] == -1


def test_two_senders_deliver_each_record_once(tmp_path: Path, receiver: Receiver) -> None:
    first = Sender(Spool(tmp_path), receiver)
    put_metrics(first, "a", 0)
    assert first.flush(10)
    second = Sender(Spool(tmp_path), receiver)
    put_metrics(second, "a", 1)
    assert second.flush(10), "the first holds the lock and sends the records of both"
    first.stop()
    put_metrics(second, "a", 2)
    assert second.flush(10), "the second takes over"
    second.stop()
    assert receiver.steps == [0, 1, 2]


def test_groups_hold_metrics_of_one_channel_up_to_the_limit(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    append_metrics(spool, "a", 0, 600)
    append_metrics(spool, "b", 1)
    append_metrics(spool, "a", 2, 400)
    append_metrics(spool, "a", 3)
    spool.append("a", "tags", values={})
    spool.append("a", "tags", values={})
    append_metrics(spool, "b", 4)
    append_metrics(spool, "a", 5, 1001)
    groups = []
    while group := spool.next_group():
        groups.append([(record.channel, record.operation, record.content.get("step")) for record in group])
        spool.settle(group)
    assert groups == [
        [("a", "metrics", 0), ("a", "metrics", 2)],
        [("b", "metrics", 1), ("b", "metrics", 4)],
        [("a", "metrics", 3)],
        [("a", "tags", None)],
        [("a", "tags", None)],
        [("a", "metrics", 5)],
    ]
    assert spool.waiting() == 0


def test_unfinished_are_the_channels_whose_last_record_is_no_status(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    for channel, operation in [("b", "open"), ("a", "status"), ("b", "status"), ("a", "open"), ("c", "status")]:
        spool.append(channel, operation)
    assert spool.unfinished() == ["a"]


def test_many_threads_write_whole_records(tmp_path: Path) -> None:
    spools = [Spool(tmp_path) for _ in range(4)]
    threads = [
        threading.Thread(
            target=lambda spool: [append_metrics(spool, "a", step, 20) for step in range(20)], args=[spool]
        )
        for spool in spools
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    steps = [record.content["step"] for record in spools[0].history("a", "metrics")]
    assert sorted(steps) == sorted(list(range(20)) * 4)


def test_a_file_that_is_no_spool_is_named(tmp_path: Path) -> None:
    (tmp_path / "spool.db").write_text("something else, which is longer than the header of a database" * 20)
    with pytest.raises(sqlite3.DatabaseError, match="not a database"):
        Spool(tmp_path)
