"""What benchmarks share: rows of the table of claims, options, repetitions that alternate, peaks of fresh processes.

A benchmark is a file with a frozen dataclass ``Size``, whose fields are its options, ``SMALLEST``, the size at which it
only shows that both sides compute the same, and ``measure(size)``, which yields the rows of its claims.
"""

import argparse
import json
import math
import multiprocessing
import os
import re
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from engine.peak_memory import PeakMemory
from engine.provenance import commit, device_name, versions

TITLES = ("claim", "against", "ours", "theirs", "ratio", "goal", "met")
compared: list[str] = []
"""What ``check_same`` has compared in this process."""
CPU = torch.device("cpu")


class Spent(NamedTuple):
    """Seconds of the clock, and of the processor, which other load on the machine changes little."""

    clock: float
    processor: float

    def __str__(self) -> str:
        return f"{self.processor:.3g} s"


@dataclass(frozen=True)
class Row:
    """One claim: both sides in words, the ratio that the goal (``<= 0.3``, ``>= 6`` or empty) is about.

    ``why`` says in a few words why a goal is not met. A row without a ratio was not run here, for the reason ``why``.
    """

    claim: str
    against: str
    ours: str
    theirs: str
    ratio: float
    goal: str
    why: str = ""

    def met(self) -> bool | None:
        """Return whether the ratio reaches the goal; None where there is no goal or no ratio."""
        if not self.goal or math.isnan(self.ratio):
            return None
        comparison, bound = self.goal.split()
        return self.ratio <= float(bound) if comparison == "<=" else self.ratio >= float(bound)


def table(rows: Iterable[Row], *, judged: bool = True) -> str:
    """Return rows as a Markdown table; rows of the smallest sizes are not ``judged``."""
    cells = [TITLES]
    for row in rows:
        met = row.met() if judged else None
        answer = {True: "yes", None: "-", False: f"no: {row.why or 'see its docstring'}"}[met]
        if math.isnan(row.ratio):
            answer = f"not run: {row.why}"
        ratio = "-" if math.isnan(row.ratio) else f"{row.ratio:.3g}"
        cells.append((row.claim, row.against, row.ours, row.theirs, ratio, row.goal or "-", answer))
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["| " + " | ".join(map(str.ljust, line, widths)).rstrip() + " |" for line in cells]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]])


def header(size: object) -> str:
    """Return the line above every result: commit, versions, processor, load of the machine, and the size."""
    found = versions()
    names = ", ".join(f"{name} {found[name]}" for name in ("torch", "ray", "python"))
    load = f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    return f"commit {commit()}, {names}, {device_name()}, {load}; {size}"


def synchronise() -> None:
    """Wait for the GPU, if this process uses one."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def timed(call: Callable[[], Any]) -> tuple[Spent, Any]:
    """Call, and return the seconds of this process until a GPU has ended too, with what was returned."""
    synchronise()
    began = time.perf_counter(), time.process_time()
    result = call()
    synchronise()
    return Spent(time.perf_counter() - began[0], time.process_time() - began[1]), result


def median(spent: Sequence[Spent]) -> Spent:
    """Return the medians of both kinds of seconds."""
    return Spent(*(statistics.median(column) for column in zip(*spent, strict=True)))


def interleave(ways: Mapping[str, Callable[[], Any]], repeat: int) -> tuple[dict[str, Spent], dict[str, Any]]:
    """Call every way in turn, ``repeat`` times; return each one's median seconds and its last result."""
    spent: dict[str, list[Spent]] = {name: [] for name in ways}
    results: dict[str, Any] = {}
    for _ in range(repeat):
        for name, way in ways.items():
            seconds, results[name] = timed(way)
            spent[name].append(seconds)
    return {name: median(each) for name, each in spent.items()}, results


def peak(call: Callable[[], Any], device: torch.device = CPU) -> tuple[Spent, float, Any]:
    """Call, and return the seconds, the peak bytes beyond what was held before (NaN if unknown), and the result."""
    measured, held = PeakMemory(device), 0
    if device.type == "cuda":
        held = torch.cuda.memory_allocated(device)
    elif measured.bytes() is not None:
        held = int(re.search(r"VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024  # type: ignore[index]
    spent, result = timed(call)
    found = measured.bytes()
    return spent, math.nan if found is None else found - held, result


def in_fresh_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """Return what a function returns in a process of its own that has as many threads as this one."""
    with multiprocessing.get_context("spawn").Pool(1, torch.set_num_threads, (torch.get_num_threads(),)) as pool:
        return pool.apply(function, arguments)


def difference(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> float:
    """Return the norm of the difference of two sets of named tensors, relative to that of the second."""
    assert ours.keys() == theirs.keys(), f"{sorted(ours)} differ from {sorted(theirs)}"
    away = sum(float((ours[name].double() - theirs[name].double()).square().sum()) for name in theirs)
    return math.sqrt(away / sum(float(value.double().square().sum()) for value in theirs.values()))


def cosine(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> float:
    """Return the cosine of two sets of named tensors, each taken as one vector."""
    flat = [torch.cat([one[name].double().flatten() for name in theirs]) for one in (ours, theirs)]
    return float(torch.nn.functional.cosine_similarity(*flat, dim=0))


def check_same(what: str, away: float, *, limit: float) -> None:
    """Print how far both sides are apart, and end the benchmark if that is beyond ``limit``."""
    compared.append(what)
    line = f"{what}: both sides differ by {away:.1e}, at most {limit:.0e} is expected"
    if not away <= limit:
        raise SystemExit(f"error: {line}")
    print(f"  {line}", flush=True)


def main(doc: str | None, size: type, smallest: object, measure: Callable[[Any], Iterable[Row]]) -> None:
    """Measure at the size that the command line asks for, and print the table of its rows."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    for field in fields(size):
        several = isinstance(field.default, tuple)
        kind = type(field.default[0] if several else field.default)
        many = {"nargs": "+"} if several else {}
        parser.add_argument(f"--{field.name}", type=kind, help=f"default: {field.default}", **many)
    parser.add_argument("--smallest", action="store_true", help="compare both sides at the smallest size, and no more")
    parser.add_argument("--rows", type=Path, help="write the rows into this JSON file, too")
    given = vars(parser.parse_args())
    judged, file = not given.pop("smallest"), given.pop("rows")
    named = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items() if value}
    chosen = size(**({} if judged else asdict(smallest)) | named)
    print(header(chosen), flush=True)
    rows = list(measure(chosen))
    if rows and not judged and not compared:
        raise SystemExit("error: a claim was measured, but nothing was compared")
    if file:
        file.write_text(json.dumps([asdict(row) for row in rows]), encoding="utf-8")
    if rows:
        print(table(rows, judged=judged))
