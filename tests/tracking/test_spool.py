import json
import pickle
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from engine.tracking.mlflow.spool import AwayError, Record, RejectedError, Sender, Spool, grouped


class Receiver:
    """Stands at the other end: remembers what arrives, and is away or refuses as told."""

    def __init__(self) -> None:
        self.away = False
        self.refuses: set[str] = set()
        self.received: list[tuple[str, Record]] = []

    def __call__(self, channel: str, records: Sequence[Record]) -> None:
        if self.away:
            raise AwayError("gone fishing")
        if records[0]["op"] in self.refuses:
            raise RejectedError("not this")
        self.received.extend((channel, record) for record in records)


RECEIVER = Receiver()


def deliver_to_module(channel: str, records: Sequence[Record]) -> None:
    RECEIVER(channel, records)


@pytest.fixture
def receiver() -> Receiver:
    return Receiver()


@pytest.fixture
def sender(tmp_path: Path, receiver: Receiver) -> Iterator[Sender]:
    made = Sender(Spool(tmp_path / "spool"), receiver)
    yield made
    made.stop()


def metrics(step: int, count: int = 1) -> Record:
    return {"op": "metrics", "step": step, "values": {f"m{number}": 1.0 for number in range(count)}}


def test_records_arrive_in_order_and_stay_as_history(sender: Sender, receiver: Receiver) -> None:
    for step in range(50):
        sender.put("a", metrics(step))
    assert sender.flush(5)
    assert [record["step"] for _, record in receiver.received] == list(range(50))
    assert [record["step"] for record in sender.spool.history("a")] == list(range(50))
    assert sender.spool.waiting("a") == 0


def test_while_away_nobody_waits_and_later_everything_arrives_once(sender: Sender, receiver: Receiver) -> None:
    receiver.away = True
    start = time.monotonic()
    for step in range(200):
        sender.put("a", metrics(step))
    assert time.monotonic() - start < 1
    assert not sender.flush(5, patient=False), "an impatient caller leaves"
    assert str(sender.trouble) == "gone fishing"
    receiver.away = False
    assert sender.flush(5)
    assert [record["step"] for _, record in receiver.received] == list(range(200))


def test_a_refusal_is_set_aside_and_the_next_record_sent(sender: Sender, receiver: Receiver) -> None:
    receiver.refuses = {"params"}
    sender.put("run", {"op": "params", "values": {}})
    sender.put("run", metrics(1))
    assert sender.flush(5)
    assert [record["op"] for _, record in receiver.received] == ["metrics"]
    assert sender.spool.reasons("run") == ["not this"]
    assert sender.spool.reasons("other") == []


def test_what_a_dead_process_left_is_sent_by_the_next(tmp_path: Path, receiver: Receiver) -> None:
    left = Spool(tmp_path)
    left.append("a", metrics(0))
    left.append("b", metrics(1))
    with (tmp_path / "a.jsonl").open("ab") as handle:
        handle.write(b'{"op": "metrics", "st')  # died while writing
    sender = Sender(Spool(tmp_path), receiver)
    sender.put("a", metrics(2))
    assert sender.flush(5)
    sender.stop()
    assert sorted(record["step"] for _, record in receiver.received) == [0, 1, 2]
    assert [record["step"] for record in left.history("a")] == [0, 2]


def test_only_the_torn_end_is_waited_for(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.append("a", metrics(0))
    with (tmp_path / "a.jsonl").open("ab") as handle:
        handle.write(b'{"op"')
    records = spool.read("a")
    assert [record["step"] for record, _ in records] == [0]
    spool.advance("a", records[-1][1])
    assert spool.read("a") == []


def test_two_copies_deliver_each_record_once(tmp_path: Path) -> None:
    RECEIVER.received.clear()
    first = Sender(Spool(tmp_path), deliver_to_module)
    first.put("a", metrics(0))
    second = pickle.loads(pickle.dumps(first))
    second.put("a", metrics(1))
    assert second.flush(5), "the first copy holds the lock and sends for both"
    first.stop()
    second.put("a", metrics(2))
    assert second.flush(5), "and the second takes over"
    second.stop()
    assert [record["step"] for _, record in RECEIVER.received] == [0, 1, 2]


def test_groups_hold_neighbouring_metrics_up_to_the_limit() -> None:
    records = [metrics(0, 600), metrics(1, 400), metrics(2, 1), {"op": "tags", "values": {}}, {}, metrics(3)]
    groups = list(grouped([(record, number + 1) for number, record in enumerate(records)]))
    assert [([record["op"] for record in group], end) for group, end in groups] == [
        (["metrics", "metrics"], 2),
        (["metrics"], 3),
        (["tags"], 5),
        (["metrics"], 6),
    ]


def test_many_threads_write_whole_lines(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    threads = [
        threading.Thread(target=lambda: [spool.append("a", metrics(step, 20)) for step in range(50)]) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = (tmp_path / "a.jsonl").read_text().splitlines()
    assert len([json.loads(line) for line in lines]) == 200
