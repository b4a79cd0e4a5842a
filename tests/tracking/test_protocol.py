import subprocess
import sys
from pathlib import Path

from engine.tracking import Tracker, Untracked


def test_importing_the_protocol_loads_no_mlflow() -> None:
    code = "import sys, engine.tracking, engine.results.files; print('mlflow' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert answer.stdout.strip() == "False"


def test_untracked_accepts_everything() -> None:
    tracker: Tracker = Untracked()
    child = tracker.child("a", "b")
    child.params({"x": 1})
    child.tags({"x": "1"})
    child.metrics({"x": 1.0}, 0)
    child.artifact(Path("nowhere"))
    child.finish("FINISHED")
    assert isinstance(child, Tracker)
