"""All claims that need no GPU as one table: every benchmark in a process of its own, one after another.

python -m benchmarks [--smallest] [NAME ...]

With ``--smallest`` each only compares what both sides compute, at a size of seconds; ratios are printed and not judged,
so that as many run at once as there are CPUs. Ends with 1 if a benchmark failed, which is one whose sides differ too.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from benchmarks.common import Row, table

ROOT = Path(__file__).parents[1]
NAMES = (
    "startup", "overhead", "buffers", "gradients", "experts", "trajectories", "encode_once", "scoring", "coco_scale",
)  # fmt: skip
"""The benchmarks; those that take longest at the smallest size begin first."""
WITHOUT_CLAIMS = ("gpu", "replay", "profile")
"""Those that claim nothing about a CPU: run at the smallest size too, so that they stay usable."""
ELSEWHERE = (
    ("an outer step, heads: launches", "6,060", "<= 1500", "needs a GPU: python -m benchmarks.replay"),
    ("scoring a set on a GPU", "one student after another", ">= 5", "needs a GPU: python -m benchmarks.scoring"),
    ("the Flickr8k job, small recipe", "7 min 27 s", "<= 0.54", "needs photos and idle cores: LOG.md"),
    ("the demo", "2 min 16 s", "<= 0.66", "needs idle cores: time make demo, LOG.md"),
)
"""Claims that are shown elsewhere: claim, reference, goal, and where."""


def run(name: str, folder: Path, *, smallest: bool) -> list[Row] | None:
    """Run one benchmark, and return its rows, or None if it failed; at the smallest size print all at its end."""
    file, began = folder / f"{name}.json", time.perf_counter()
    environment = {"OMP_NUM_THREADS": "1", **os.environ}  # as a trial with one CPU has
    words = [sys.executable, "-m", f"benchmarks.{name}", "--rows", str(file), *["--smallest"] * smallest]
    kept = subprocess.PIPE if smallest else None
    if not smallest:
        print(f"\n== {name}", flush=True)
    done = subprocess.run(words, cwd=ROOT, env=environment, stdout=kept, stderr=kept and subprocess.STDOUT, text=True)
    said = f"\n== {name}\n{done.stdout}" if smallest else ""
    print(f"{said}== {name}: {time.perf_counter() - began:.0f} s", flush=True)
    return None if done.returncode else [Row(**one) for one in json.loads(file.read_text(encoding="utf-8"))]


def main() -> int:
    """Run the benchmarks that are named, or all; print the table of all rows, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)} (default: all)")
    parser.add_argument("--smallest", action="store_true", help="compare both sides at the smallest size, and no more")
    given = parser.parse_args()
    known = (*NAMES, *WITHOUT_CLAIMS) if given.smallest else NAMES
    if unknown := set(given.names) - set(known):
        parser.error(f"expected names of {', '.join(known)}, found {', '.join(sorted(unknown))}")
    names, began = given.names or known, time.perf_counter()
    at_once = len(os.sched_getaffinity(0)) if given.smallest else 1
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(at_once) as pool:
        running = {pool.submit(run, name, Path(folder), smallest=given.smallest): name for name in names}
        try:
            found = {running[done]: done.result() for done in as_completed(running)}
        except KeyboardInterrupt:
            pool.shutdown(cancel_futures=True)
            raise
    failed = [name for name in names if found[name] is None]
    rows = [row for name in names for row in found[name] or ()]
    if not given.names and not given.smallest:
        rows += [Row(claim, against, "-", "-", math.nan, goal, why) for claim, against, goal, why in ELSEWHERE]
    print(f"\n{table(rows, judged=not given.smallest)}\n")
    print(f"All in {time.perf_counter() - began:.0f} s. Seconds are the processor's unless a row says otherwise.")
    if failed:
        print(f"error: {', '.join(failed)} failed, see above", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
