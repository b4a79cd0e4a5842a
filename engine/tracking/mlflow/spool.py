"""Records wait on disk until a thread has delivered them, so that a server that is away stalls nobody."""

import atexit
import fcntl
import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from engine.io.files import atomic_path, sync

Record = dict[str, Any]
"""One thing to deliver: ``op``, ``time`` (milliseconds since 1970) and what belongs to the operation."""

Deliver = Callable[[str, Sequence[Record]], None]
"""Sends a group of records of one channel: either metrics alone, or a single record of another kind."""

CHUNK_BYTES = 1 << 20
GROUP_VALUES = 1000
GATHER_S = 0.1
LOOK_AGAIN_S = 1.0
FIRST_RETRY_S = 0.5
SLOWEST_RETRY_S = 15.0


class RejectedError(Exception):
    """The records can never be delivered; they are set aside and the next ones are tried."""


class AwayError(Exception):
    """Nobody takes records at present; they are tried again later."""


class Spool:
    """Append-only records of one study: a JSON-lines file a channel, and beside it how far it was delivered.

    Safe for several writing threads and for a process that dies at any moment; delivered records stay as a history.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def append(self, channel: str, record: Record) -> None:
        """Add one record to the end of ``channel``."""
        self.folder.mkdir(parents=True, exist_ok=True)
        line = json.dumps({"time": int(time.time() * 1000), **record}).encode() + b"\n"
        descriptor = os.open(self._records(channel), os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)  # a long line grows page by page, and would look torn meanwhile
            os.write(descriptor, b"\n" + line if _is_torn(descriptor) else line)
        finally:
            os.close(descriptor)

    def channels(self) -> list[str]:
        """Return the names of all channels, sorted."""
        return sorted(path.stem for path in self.folder.glob("*.jsonl"))

    def waiting(self, channel: str) -> int:
        """Return how many bytes of ``channel`` are not delivered yet."""
        return self._records(channel).stat().st_size - self._delivered(channel)

    def read(self, channel: str) -> list[tuple[Record, int]]:
        """Return the next undelivered records, each with the offset at which it ends.

        What is returned is on the disk, so that no offset can ever lie behind a crash's end of file.
        """
        path, start = self._records(channel), self._delivered(channel)
        sync(path)
        with path.open("rb") as handle:
            handle.seek(start)
            return list(_parse(handle.readlines(CHUNK_BYTES), start))

    def advance(self, channel: str, offset: int) -> None:
        """Remember that ``channel`` is delivered up to ``offset``."""
        with atomic_path(self._offset(channel)) as temporary:
            temporary.write_text(str(offset), encoding="utf-8")

    def history(self, channel: str) -> Iterator[Record]:
        """Yield every record of ``channel``, delivered or not, oldest first."""
        path = self._records(channel)
        if path.exists():
            with path.open("rb") as handle:
                yield from (record for record, _ in _parse(handle, 0) if record)

    def unfinished(self) -> list[str]:
        """Return the channels whose last record is not a status."""
        last = {channel: record for channel in self.channels() for record in self.history(channel)}
        return [channel for channel, record in last.items() if record.get("op") != "status"]

    def set_aside(self, channel: str, records: Sequence[Record], reason: str) -> None:
        """Write records that were refused for good to ``rejected`` so that they can be looked at."""
        with self.rejected.open("a", encoding="utf-8") as handle:
            handle.write(json.dumps({"channel": channel, "reason": reason, "records": list(records)}) + "\n")

    def reasons(self, prefix: str) -> list[str]:
        """Return why records of channels whose names begin with ``prefix`` were refused for good, oldest first."""
        if not self.rejected.exists():
            return []
        refused = [json.loads(line) for line in self.rejected.read_text(encoding="utf-8").splitlines()]
        return [entry["reason"] for entry in refused if entry["channel"].startswith(prefix)]

    @property
    def rejected(self) -> Path:
        """File of the records that were refused for good."""
        return self.folder / "rejected.log"

    def _records(self, channel: str) -> Path:
        return self.folder / f"{channel}.jsonl"

    def _offset(self, channel: str) -> Path:
        return self.folder / f"{channel}.offset"

    def _delivered(self, channel: str) -> int:
        try:
            return int(self._offset(channel).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return 0


def _is_torn(descriptor: int) -> bool:
    size = os.fstat(descriptor).st_size
    return size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"


def _parse(lines: Iterable[bytes], start: int) -> Iterator[tuple[Record, int]]:
    """Yield whole lines as records with their end offsets; one torn by a crash is an empty record."""
    end = start
    for line in lines:
        end += len(line)
        if line.endswith(b"\n"):
            yield _record(line), end


def _record(line: bytes) -> Record:
    try:
        value = json.loads(line)
    except (json.JSONDecodeError, UnicodeDecodeError):
        return {}
    return value if isinstance(value, dict) else {}


def grouped(records: Sequence[tuple[Record, int]]) -> Iterator[tuple[list[Record], int]]:
    """Join neighbouring metrics records up to ``GROUP_VALUES`` numbers; every other record stands alone."""
    group: list[Record] = []
    size, end = 0, 0
    for record, offset in records:
        count = len(record["values"]) if record.get("op") == "metrics" else GROUP_VALUES * bool(record)
        if group and size + count > GROUP_VALUES:
            yield group, end
            group, size = [], 0
        if record:
            group.append(record)
            size += count
        end = offset
    if end:
        yield group, end


class Sender:
    """Delivers a spool from one daemon thread, in the order of each channel.

    Started at the first record, so it can be pickled into another process; a lock file lets one process deliver at a
    time. While ``deliver`` raises ``AwayError`` the thread tries again, ever more slowly.
    """

    def __init__(self, spool: Spool, deliver: Deliver) -> None:
        self.spool = spool
        self._deliver = deliver
        self._reset()

    def __getstate__(self) -> dict[str, Any]:
        return {"spool": self.spool, "_deliver": self._deliver}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._reset()

    def _reset(self) -> None:
        self.trouble: Exception | None = None
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._waited_for = 0

    def put(self, channel: str, record: Record) -> None:
        """Write ``record`` to the disk and return; the thread delivers it soon."""
        self.spool.append(channel, record)
        self.start()
        self._wake.set()

    def start(self) -> None:
        """Start the thread unless it runs."""
        with self._starting:
            if self._thread is None or not self._thread.is_alive():
                self._stopping.clear()
                self._thread = threading.Thread(target=self._run, name="engine-tracking", daemon=True)
                self._thread.start()
                atexit.register(self.stop)

    def stop(self, timeout: float = 5.0) -> None:
        """End the thread after the group it is sending; what is left stays on the disk."""
        self._stopping.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout)
        atexit.unregister(self.stop)

    def flush(self, timeout: float, *, channel: str | None = None, patient: bool = True) -> bool:
        """Wait until everything (of ``channel``, if given) is delivered, and return whether it is.

        An impatient caller stops waiting at the first sign that the server is away.
        """
        deadline = time.monotonic() + timeout
        self.start()
        self._waited_for += 1
        self._wake.set()
        try:
            while self._remaining(channel) > 0:
                gone = self._thread is None or not self._thread.is_alive()
                if gone or time.monotonic() > deadline or (self.trouble is not None and not patient):
                    return False
                time.sleep(0.02)
            return True
        finally:
            self._waited_for -= 1

    def _remaining(self, channel: str | None) -> int:
        channels = self.spool.channels() if channel is None else [channel]
        return sum(self.spool.waiting(name) for name in channels)

    def _run(self) -> None:
        self.spool.folder.mkdir(parents=True, exist_ok=True)
        with (self.spool.folder / "sender.lock").open("a") as handle:
            self._wait_for_turn(handle)
            delay = FIRST_RETRY_S
            while not self._stopping.is_set():
                self._wake.clear()
                try:
                    self._deliver_all()
                    self.trouble, delay = None, FIRST_RETRY_S
                    self._wait_for_records()
                except AwayError as error:
                    self.trouble = error
                    self._wait_after_trouble(delay)
                    delay = min(2 * delay, SLOWEST_RETRY_S)

    def _wait_for_turn(self, handle: IO[str]) -> None:
        """Wait until no other process (or copy of this sender) delivers this spool."""
        while not self._stopping.is_set():
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                self._stopping.wait(LOOK_AGAIN_S)

    def _wait_for_records(self) -> None:
        """Wait for a record (another process may write one unheard), then gather a few more unless somebody waits."""
        if self._wake.wait(LOOK_AGAIN_S) and not self._waited_for:
            self._stopping.wait(GATHER_S)

    def _wait_after_trouble(self, delay: float) -> None:
        """Wait ``delay`` seconds, or the shortest delay as long as somebody waits in ``flush``."""
        waited = 0.0
        while waited < (FIRST_RETRY_S if self._waited_for else delay) and not self._stopping.wait(0.05):
            waited += 0.05

    def _deliver_all(self) -> None:
        for channel in self.spool.channels():
            while self.spool.waiting(channel) > 0 and not self._stopping.is_set():
                records = self.spool.read(channel)
                if not records:
                    break
                self._deliver_records(channel, records)

    def _deliver_records(self, channel: str, records: Sequence[tuple[Record, int]]) -> None:
        for group, end in grouped(records):
            if self._stopping.is_set():
                return
            try:
                if group:
                    self._deliver(channel, group)
            except RejectedError as error:
                self.spool.set_aside(channel, group, str(error))
            self.spool.advance(channel, end)
