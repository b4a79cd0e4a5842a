"""A lease on a store: one process at a time trains into it, on whichever machine it runs.

The file ``lease.json`` names its holder, who rewrites it every ``BEAT_S`` seconds. Another process takes it over when
the holder's process on the same machine has ended, or when the file has not changed for ``STALE_S`` seconds of its own
clock. On disks this happens under a file lock, which a shared folder has to offer to all machines. Object stores have
no locks: only one process can create a lease there, if the store supports conditional writes, but two may take over
that of a dead holder. So a process looks again ``SETTLE_S`` seconds after it took one. Two that train at once all the
same write the same bytes.
"""

import json
import os
import platform
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from engine.io.files import exclusive, read_json, write_json
from engine.io.storage import Location, create, on_disk

BEAT_S = 5.0
STALE_S = 30.0
SETTLE_S = 2.0


@dataclass(frozen=True)
class Holder:
    """A process: a random id, host name, machine (its boot and process-id namespace), process id and start time."""

    owner: str
    host: str
    machine: str
    pid: int
    started: str
    beat: int = 0

    def is_gone(self) -> bool:
        """Return whether this holder has surely ended, which is known of processes of this machine only."""
        return self == NOBODY or (self.machine == _machine() and _start_of(self.pid) != self.started)


NOBODY = Holder("", "", "", 0, "")  # leases are written whole, so a file that cannot be read was never held


@dataclass
class Lease:
    """The lease in ``path``, for one process that wants it."""

    path: Location
    beat_s: float = BEAT_S
    stale_s: float = STALE_S
    me: Holder = field(default_factory=lambda: this_process())

    def holder(self) -> Holder | None:
        """Return the holder, None without a lease file, or ``NOBODY`` if it cannot be read."""
        try:
            return Holder(**read_json(self.path))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError):
            return NOBODY

    @contextmanager
    def held(self, *, on_wait: Callable[[Holder], None], on_loss: Callable[[], None]) -> Iterator[None]:
        """Wait for the lease and hold it for the block.

        ``on_wait`` is called with the holder that is waited for; it may raise to give up. ``on_loss`` is called in
        another thread if a process takes the lease over, as happens to a holder that stood still for long.
        """
        self._acquire(on_wait)
        ended = threading.Event()
        beating = threading.Thread(target=self._beat, args=(ended, on_loss), name="engine-lease", daemon=True)
        beating.start()
        try:
            yield
        finally:
            ended.set()
            beating.join()
            with self._locked():
                if self._is_mine():
                    self.path.unlink(missing_ok=True)

    def _acquire(self, on_wait: Callable[[Holder], None]) -> None:
        seen, since = None, time.monotonic()
        while True:
            with self._locked():
                found = self.holder()
                if found != seen:
                    seen, since = found, time.monotonic()
                free = found is None or found.is_gone() or time.monotonic() - since > self.stale_s
                taken = free and self._take(found)
            if taken:
                if not on_disk(self.path):
                    time.sleep(SETTLE_S)
                if self._is_mine():
                    return
            else:
                if not free and found is not None:
                    on_wait(found)
                time.sleep(min(0.5, self.beat_s))

    def _take(self, before: Holder | None) -> bool:
        """Write this process into the lease in place of ``before``, and return whether it is the holder."""
        if before is None and not on_disk(self.path):
            created = create(self.path, json.dumps(asdict(self.me)).encode())
            return created or self._is_mine()  # ours already, if the answer was lost and the request sent again
        write_json(self.path, asdict(self.me))
        return True

    def _beat(self, ended: threading.Event, on_loss: Callable[[], None]) -> None:
        beat = 0
        while not ended.wait(self.beat_s):
            beat += 1
            try:
                with self._locked():
                    if not self._is_mine():
                        on_loss()
                        return
                    write_json(self.path, asdict(self.me) | {"beat": beat})
            except OSError:  # a full disk or a storage that is away may be well again at the next beat
                continue

    def _is_mine(self) -> bool:
        found = self.holder()
        return found is not None and found.owner == self.me.owner

    def _locked(self) -> AbstractContextManager[None]:
        return exclusive(self.path.with_name(f".{self.path.name}.lock"))


def this_process() -> Holder:
    """Return this process as a holder, under a new random id."""
    return Holder(uuid.uuid4().hex, platform.node(), _machine(), os.getpid(), _start_of(os.getpid()))


def _machine() -> str:
    """Return an id of this boot of the machine and this namespace of process ids; without /proc, the host's name."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return platform.node()


def _start_of(pid: int) -> str:
    """Return the start time of a process of this machine, which tells it from a later one with the same id.

    The result is empty if there is no such process, and ``"unknown"`` for a live one on a system without /proc.
    """
    if Path("/proc/self").exists():
        try:
            state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        except OSError:
            return ""
        return "" if state[0] in "ZX" else state[19]
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except PermissionError:
        pass
    return "unknown"
