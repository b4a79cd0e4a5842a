"""All claims that need no GPU as one table: every benchmark in a process of its own, one after another.

python -m benchmarks [--smallest] [NAME ...]

With ``--smallest`` each only compares what both sides compute, at a size of seconds; ratios are printed and not judged.
Ends with 1 if a benchmark failed, which is one whose sides differ too.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.common import Row, table

ROOT = Path(__file__).parents[1]
NAMES = (
    "gradients", "encode_once", "experts", "trajectories", "buffers", "overhead", "scoring", "coco_scale", "startup",
)  # fmt: skip
ELSEWHERE = (
    ("an outer step, heads: launches", "6,060", "<= 1500", "needs a GPU: python -m benchmarks.gpu speed"),
    ("scoring a set on a GPU", "one student after another", ">= 5", "needs a GPU"),
    ("the Flickr8k job, small recipe", "7 min 27 s", "<= 0.54", "needs photos and idle cores: LOG.md"),
    ("the demo", "2 min 16 s", "<= 0.66", "needs idle cores: time make demo, LOG.md"),
)
"""Claims that are shown elsewhere: claim, reference, goal, and where."""


def main() -> int:
    """Run the benchmarks that are named, or all; print the table of all rows, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)} (default: all)")
    parser.add_argument("--smallest", action="store_true", help="compare both sides at the smallest size, and no more")
    given = parser.parse_args()
    if unknown := set(given.names) - set(NAMES):
        parser.error(f"expected names of {', '.join(NAMES)}, found {', '.join(sorted(unknown))}")
    rows, failed, began = list[Row](), list[str](), time.perf_counter()
    environment = {"OMP_NUM_THREADS": "1", **os.environ}  # as a trial with one CPU has
    with tempfile.TemporaryDirectory() as folder:
        for name in given.names or NAMES:
            print(f"\n== {name}", flush=True)
            file, started = Path(folder) / f"{name}.json", time.perf_counter()
            words = [sys.executable, "-m", f"benchmarks.{name}", "--rows", str(file), *["--smallest"] * given.smallest]
            if subprocess.run(words, cwd=ROOT, env=environment).returncode:
                failed.append(name)
            else:
                rows += [Row(**one) for one in json.loads(file.read_text(encoding="utf-8"))]
            print(f"== {name}: {time.perf_counter() - started:.0f} s", flush=True)
    if not given.names:
        rows += [Row(claim, against, "-", "-", math.nan, goal, why) for claim, against, goal, why in ELSEWHERE]
    print(f"\n{table(rows, judged=not given.smallest)}\n")
    print(f"All in {time.perf_counter() - began:.0f} s. Seconds are the processor's unless a row says otherwise.")
    if failed:
        print(f"error: {', '.join(failed)} failed, see above", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
