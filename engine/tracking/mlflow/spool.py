"""A queue of records on the disk, and the thread that delivers them."""

import atexit
import fcntl
import json
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

GROUP_VALUES = 1000
BUSY_S = 60.0
POLL_S = 1.0
RETRY_S = 2.0

SCHEMA = """
CREATE TABLE IF NOT EXISTS record (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    time INTEGER NOT NULL,
    channel TEXT NOT NULL,
    operation TEXT NOT NULL,
    content TEXT NOT NULL,
    outcome TEXT -- NULL: waits; '': delivered; anything else: the reason why it was rejected
);
CREATE INDEX IF NOT EXISTS by_channel ON record (channel, number);
CREATE INDEX IF NOT EXISTS waiting ON record (number) WHERE outcome IS NULL;
"""


@dataclass(frozen=True)
class Record:
    """One call of a tracker: its channel, its operation with JSON content, and when it was made (ms since 1970)."""

    number: int
    time: int
    channel: str
    operation: str
    content: dict[str, Any]


class RejectedError(Exception):
    """The receiver rejects the records for good; they are marked and the next ones are sent."""


class Spool:
    """Records of one study in a SQLite file, in the order they were appended; delivered ones stay as a history.

    Every call opens the file, commits with fsync and closes it, so threads and processes may share a folder, and a
    record is kept from the moment ``append`` returns, whenever the process is killed. SQLite's rollback journal is used
    instead of its write-ahead log, which fails where the folder lies on a network file system; there the promise holds
    as far as the file system's locks and fsync do. A record costs about 10 ms on a local SSD.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.path = folder, folder / "spool.db"
        with closing(self._connect()) as connection:
            connection.executescript(SCHEMA)

    def append(self, channel: str, operation: str, **content: Any) -> None:
        """Add a record; it is on the disk when the call returns."""
        insert = "INSERT INTO record (time, channel, operation, content) VALUES (?, ?, ?, ?)"
        self._execute(insert, int(time.time() * 1000), channel, operation, json.dumps(content))

    def next_group(self) -> list[Record]:
        """Return the oldest waiting record; if it holds metrics, with those that follow it in its channel.

        A group of several records has at most ``GROUP_VALUES`` numbers. The list is empty when no record waits.
        """
        oldest = "SELECT channel FROM record WHERE outcome IS NULL ORDER BY number LIMIT 1"
        group, values = list[Record](), 0
        for record in self._select(f"outcome IS NULL AND channel = ({oldest}) ORDER BY number LIMIT {GROUP_VALUES}"):
            values += len(record.content["values"]) if record.operation == "metrics" else GROUP_VALUES
            if group and values > GROUP_VALUES:
                break
            group.append(record)
        return group

    def settle(self, group: Sequence[Record], outcome: str = "") -> None:
        """Mark a group of ``next_group`` as delivered or, with a reason as ``outcome``, as rejected."""
        settle = "UPDATE record SET outcome = ? WHERE channel = ? AND number <= ? AND outcome IS NULL"
        self._execute(settle, outcome, group[-1].channel, group[-1].number)

    def history(self, channel: str, operation: str) -> list[Record]:
        """Return all records of one operation of ``channel``, waiting or settled, oldest first."""
        return self._select("channel = ? AND operation = ? ORDER BY number", channel, operation)

    def waiting(self) -> int:
        """Return the number of records that are not settled."""
        return int(self._execute("SELECT COUNT(*) FROM record WHERE outcome IS NULL")[0][0])

    def unfinished(self) -> list[str]:
        """Return the channels whose last record is not a status."""
        last = "SELECT MAX(number) FROM record GROUP BY channel"
        wanted = f"SELECT channel FROM record WHERE number IN ({last}) AND operation <> 'status' ORDER BY channel"
        return [channel for (channel,) in self._execute(wanted)]

    def rejected(self) -> dict[int, str]:
        """Return the reason of every rejected record by its number."""
        return dict(self._execute("SELECT number, outcome FROM record WHERE outcome <> '' ORDER BY number"))

    def _select(self, condition: str, *values: Any) -> list[Record]:
        rows = self._execute(f"SELECT number, time, channel, operation, content FROM record WHERE {condition}", *values)
        return [Record(one, at, channel, kind, json.loads(content)) for one, at, channel, kind, content in rows]

    def _execute(self, statement: str, *values: Any) -> list[Any]:
        with closing(self._connect()) as connection, connection:
            return connection.execute(statement, values).fetchall()

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self.path, timeout=BUSY_S)


class Sender:
    """A daemon thread that passes the groups of a spool to ``deliver``, until ``stop`` or the end of the process.

    A lock file lets one sender at a time deliver a folder; another takes over when the first stops or its process ends.
    After any error but ``RejectedError`` the records stay and are sent again after ``RETRY_S`` seconds; until that
    succeeds, ``trouble`` is the error.
    """

    def __init__(self, spool: Spool, deliver: Callable[[Sequence[Record]], None]) -> None:
        self.spool = spool
        self.trouble: Exception | None = None
        self._deliver = deliver
        self._rejected_before = spool.rejected()
        self._wake, self._stopping = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="engine-tracking", daemon=True)
        self._thread.start()
        atexit.register(self.stop)

    def put(self, channel: str, operation: str, **content: Any) -> None:
        """Append a record to the spool and have it delivered soon."""
        self.spool.append(channel, operation, **content)
        self._wake.set()

    def flush(self, timeout: float) -> bool:
        """Wait until no record waits, at most ``timeout`` seconds without a delivery, and return whether that is so."""
        left, deadline = self.spool.waiting(), time.monotonic() + timeout
        while left:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
            before, left = left, self.spool.waiting()
            deadline = time.monotonic() + timeout if left < before else deadline
        return True

    def stop(self, timeout: float = 5.0) -> None:
        """End the thread after the group that it is sending; the rest stays on the disk."""
        self._stopping.set()
        self._wake.set()
        self._thread.join(timeout)
        atexit.unregister(self.stop)

    def rejections(self) -> list[str]:
        """Return the reasons of the records that were rejected since this sender was created."""
        return [reason for number, reason in self.spool.rejected().items() if number not in self._rejected_before]

    def _run(self) -> None:
        with (self.spool.folder / "sender.lock").open("a") as handle:
            while not self._stopping.is_set():
                self._wake.clear()
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)  # once acquired, later calls do nothing
                    self._deliver_all()
                    self.trouble = None
                    self._wake.wait(POLL_S)  # records of other processes do not wake this thread
                except BlockingIOError:
                    self._stopping.wait(POLL_S)
                except Exception as error:
                    self.trouble = error
                    self._stopping.wait(RETRY_S)

    def _deliver_all(self) -> None:
        while not self._stopping.is_set() and (group := self.spool.next_group()):
            try:
                self._deliver(group)
            except RejectedError as error:
                self.spool.settle(group, str(error))
            else:
                self.spool.settle(group)
