"""A lease: one process at a time trains into a store, on whichever machine it runs.

The file ``lease.json`` says who, and its holder rewrites it every few seconds. It is taken over from a holder whose
process on this machine ended, and from any one whose file has not changed for ``STALE_S`` seconds by the clock of the
one who waits (clocks of machines are not compared). Who takes it does so under a file lock, which a shared folder has
to offer to all machines. Object stores have no locks. Of several that find no lease there, one creates it, where the
store writes on a condition; but two may take over that of a dead one. So who takes it there looks again after
``SETTLE_S`` seconds whether it still is the one; should two train at once all the same, they write the same bytes.
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
    """A process: its host's name for people, the start of the machine and the view of its process ids, and its id."""

    owner: str
    host: str
    machine: str
    pid: int
    started: str
    beat: int = 0

    def is_gone(self) -> bool:
        """Say whether this holder surely ended; of another machine's processes nobody here can know."""
        return self.machine == _machine() and _start_of(self.pid) != self.started


@dataclass
class Lease:
    """The lease in ``path``, as seen by one process that wants it."""

    path: Location
    beat_s: float = BEAT_S
    stale_s: float = STALE_S
    me: Holder = field(default_factory=lambda: this_process())

    def holder(self) -> Holder | None:
        """Return who holds the lease, or None; what cannot be read was never held, for it is written whole."""
        try:
            return Holder(**read_json(self.path))
        except (FileNotFoundError, ValueError, TypeError):
            return None

    @contextmanager
    def held(self, *, on_wait: Callable[[Holder], None], on_loss: Callable[[], None]) -> Iterator[None]:
        """Hold the lease for the block, after waiting for it.

        ``on_wait`` is told of a holder that is waited for; it may raise to give up. ``on_loss`` is called, in another
        thread, where somebody took the lease over, which happens to a process that stood still for long.
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
            self._release()

    def _acquire(self, on_wait: Callable[[Holder], None]) -> None:
        seen, since = None, time.monotonic()
        while True:
            with self._alone():
                found = self.holder()
                if found != seen:
                    seen, since = found, time.monotonic()
                free = found is None or found.is_gone() or time.monotonic() - since > self.stale_s
                taken = free and self._take(found)
            if taken and self._stays_mine():
                return
            if not free and found is not None:
                on_wait(found)
            if not taken:
                time.sleep(min(0.5, self.beat_s))

    def _take(self, before: Holder | None) -> bool:
        """Write this process into the lease, over ``before``, and say whether it is the one."""
        if before is None and not on_disk(self.path) and not self._is_spoiled():
            created = create(self.path, json.dumps(asdict(self.me)).encode())
            return created or self._is_mine()  # it was, where the answer was lost and the request sent again
        write_json(self.path, asdict(self.me))
        return True

    def _is_spoiled(self) -> bool:
        """Say whether something lies in the lease's place that names no holder."""
        try:
            Holder(**read_json(self.path))
        except FileNotFoundError:
            return False
        except (ValueError, TypeError):
            return True
        return False

    def _stays_mine(self) -> bool:
        if on_disk(self.path):
            return True
        time.sleep(SETTLE_S)
        return self._is_mine()

    def _beat(self, ended: threading.Event, on_loss: Callable[[], None]) -> None:
        beat = 0
        while not ended.wait(self.beat_s):
            beat += 1
            try:
                with self._alone():
                    if not self._is_mine():
                        break
                    write_json(self.path, asdict(self.me) | {"beat": beat})
            except OSError:  # a full disk, or a storage that is away: the next beat may find it well
                continue
        else:
            return
        on_loss()

    def _release(self) -> None:
        with self._alone():
            if self._is_mine():
                self.path.unlink(missing_ok=True)

    def _is_mine(self) -> bool:
        found = self.holder()
        return found is not None and found.owner == self.me.owner

    def _alone(self) -> AbstractContextManager[None]:
        return exclusive(self.path.with_name(f".{self.path.name}.lock"))


def this_process() -> Holder:
    pid = os.getpid()
    return Holder(uuid.uuid4().hex, platform.node(), _machine(), pid, _start_of(pid))


def _machine() -> str:
    """Return what identifies this start of the machine and this view of its process ids, else the host's name."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return platform.node()


def _start_of(pid: int) -> str:
    """Return when a process of this machine started, so that its number given again is not taken for it.

    Empty where no such process is, and ``"unknown"`` where it lives but the system does not tell.
    """
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return "" if state[0] in "ZX" else state[19]
    except OSError:
        return "unknown" if not Path("/proc/self").exists() and _lives(pid) else ""


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
