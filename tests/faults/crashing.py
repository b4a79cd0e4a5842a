"""Saves a snapshot in children that are killed at every step of it, and tells what a reader finds each time.

Run as a script, ``crashing.py FOLDER``: prints a JSON list of ``[where, how the child ended, what is found]``.
"""

import json
import os
import resource
import shutil
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import torch

import engine.experts.store
import engine.io.files
from engine.experts.store import ExpertStore
from engine.tensors import Params

WATCHED = {engine.io.files.__file__, engine.experts.store.__file__}
OLD, NEW = (0, 1), (0, 1, 2)


def params(number: float) -> Params:
    """Return a snapshot of 4 KiB that is known by its number."""
    return {"image.w": torch.full((1000,), number), "text.w": torch.full((24,), -number)}


def ended(action: Callable[[], None]) -> str:
    """Run ``action`` in a child, and return how that ended."""
    child = os.fork()
    if child == 0:
        try:
            action()
        except OSError:
            os._exit(3)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    return f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"exit {os.WEXITSTATUS(status)}"


def killed_at(step: int, where: Path, action: Callable[[], None]) -> None:
    """Kill this process as it comes to the line number ``step``, counted over all lines that write files."""
    steps = 0

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal steps
        if frame.f_code.co_filename not in WATCHED:
            return None
        if event == "line":
            if steps == step:
                where.write_text(f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}")
                os.kill(os.getpid(), signal.SIGKILL)
            steps += 1
        return trace

    sys.settrace(trace)
    action()
    sys.settrace(None)


def killed_after(size: int, action: Callable[[], None]) -> None:
    """Have the kernel kill this process as it writes past ``size`` bytes of a file: the write is torn there."""
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    action()


def found(store: ExpertStore, replaced: float) -> str:
    """Say which state a reader finds, which can be whole without what was to be replaced, or what is wrong.

    And whether a writer can go on.
    """
    index = store.index().get(0)
    numbers = [store.load(0, epoch)["image.w"][0].item() for epoch in index or ()]
    states = {"old": [0.0, 1.0], "new": [0.0, 1.0, replaced] if replaced == 2 else [0.0, replaced], "shorter": [0.0]}
    state = next((name for name, expected in states.items() if numbers == expected), f"{index} {numbers}")
    store.check(0)
    for epoch in range(3):
        store.save(0, epoch, params(epoch))
    store.check(0)
    return state if store.index()[0] == NEW else "a writer cannot go on"


def main(folder: Path) -> list[list[str]]:
    """Crash at every step of adding a snapshot, at every step of replacing one, and inside of its writes."""
    ExpertStore(folder / "fresh").save(0, 0, params(0))
    ExpertStore(folder / "fresh").save(0, 1, params(1))
    outcomes = []
    for epoch, number in ((2, 2.0), (1, 7.0)):
        for step in range(400):
            store = again(folder)
            action = partial(store.save, 0, epoch, params(number))
            how = ended(partial(killed_at, step, folder / "where", action))
            if how == "exit 0":
                break
            outcomes.append([(folder / "where").read_text(), how, found(store, number)])
    for size in (0, 1, 100, 4000, 4200):
        store = again(folder)
        how = ended(partial(killed_after, size, partial(store.save, 0, 2, params(2))))
        outcomes.append([f"{size} bytes", how, found(store, 2.0)])
    return outcomes


def again(folder: Path) -> ExpertStore:
    """Return a fresh copy of the store with the epochs ``OLD``."""
    shutil.rmtree(folder / "store", ignore_errors=True)
    shutil.copytree(folder / "fresh", folder / "store")
    return ExpertStore(folder / "store")


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
