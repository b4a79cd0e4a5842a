"""The commands as people type them: help, lists, dry runs and mistakes."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.__main__ import verbs

ROOT = Path(__file__).resolve().parents[2]


def run(task: Path | str, *words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    script = task if isinstance(task, Path) else ROOT / "tasks" / f"{task}.py"
    return subprocess.run(
        [sys.executable, str(script), *words], cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.parametrize("task", verbs())
def test_a_copied_file_alone_helps(task: str, tmp_path: Path) -> None:
    copied = Path(shutil.copy(ROOT / "tasks" / f"{task}.py", tmp_path))
    result = run(copied, "--help", folder=tmp_path)
    assert result.returncode == 0
    assert "examples:" in result.stdout


def test_the_spaces_are_listed(tmp_path: Path) -> None:
    result = run("distill", "--list", folder=tmp_path)
    assert result.returncode == 0
    assert {line.split()[0] for line in result.stdout.splitlines()} >= {"shapes_100", "flickr8k_100"}


def test_a_dry_run_describes_and_writes_nothing(tmp_path: Path) -> None:
    result = run("distill", "--dry-run", "experts.count=2", folder=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "trained parameters" in result.stdout
    assert "MiB of trajectories" in result.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["method.inner_step=4"], "inner_steps"),
        (["method.inner_steps=many"], "method.inner_steps"),
        (["no_such_space"], "no_such_space"),
        (["data.name=karpathy", "data.root=nowhere", "student.text.dim=8"], "nowhere"),
        (["data.train_images=10", "student.text.dim=8", "method.num_pairs=1000"], "1000"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(words: list[str], sentence: str, tmp_path: Path) -> None:
    result = run("distill", "--local", *words, folder=tmp_path)
    assert result.returncode == 2, result.stderr
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert sentence in result.stderr
    assert not (tmp_path / "runs" / "mlflow.db").exists()
    assert not (tmp_path / "runs" / "studies").exists()
