"""Claim: the package, the help of a command and the table of a finished study come at once.

python -m benchmarks.startup [--repeat 5]

Each is a process of its own: ``import engine``, ``tasks/distill.py --help``, and the command of a finished study asked
again (a small one, which runs first on a private Ray), which must print the table that it printed
the first time. Seconds of the processor (median) are compared with a bound.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.common import Row, Spent, check_same, main, median

ROOT = Path(__file__).parents[1]
SPACE = ROOT / "tests" / "tiny.yaml"
ONE_OF_EACH = (
    "search={}", "experts.count=1", "baselines.coresets=[random]", "protocol.seeds=1", "resources.evaluation.cpu=2"
)  # fmt: skip
"""Makes the study of as few processes as there can be: of how many it was does not matter for its table."""
WHY = "torch is imported for the checks of the configuration"


@dataclass(frozen=True)
class Size:
    """How often each process is started."""

    repeat: int = 5


SMALLEST = Size(repeat=1)


def process(*words: str) -> tuple[Spent, str]:
    """Run Python in the project's folder; return its seconds and what it printed."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, *words], cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"error: {' '.join(words)} ended with {done.returncode}: {done.stderr}")
    after, clock = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter() - began
    return Spent(clock, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime), done.stdout


def table_of(printed: str) -> str:
    """Return what a command printed from the head of its table on."""
    return printed[printed.index("set    ") :]


def measure(size: Size) -> Iterator[Row]:
    """Yield one row for each process."""
    with tempfile.TemporaryDirectory() as storage:
        study = ("tasks/distill.py", str(SPACE), f"storage={storage}/runs", *ONE_OF_EACH)
        took, first = process(*study, "--local")
        print(f"  the study itself takes {took.clock:.0f} s", flush=True)
        for claim, words, bound in (
            ("import engine", ("-c", "import engine"), 1.0),
            ("--help", ("tasks/distill.py", "--help"), 1.5),
            ("a finished study's table, asked for again", study, 2.0),
        ):
            runs = [process(*words) for _ in range(size.repeat)]
            spent = median([one[0] for one in runs])
            if words is study:
                others = sum(table_of(printed) != table_of(first) for _, printed in runs)
                check_same("tables that are not the first one", others, limit=0)
            yield Row(claim, "a bound", str(spent), f"{bound:g} s", spent.processor / bound, "<= 1", WHY)


if __name__ == "__main__":
    main(__doc__, Size, SMALLEST, measure)
