"""The script for Slurm, with stand-ins for Slurm: it starts Ray on two machines, runs a study, and ends Ray."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.end_to_end.conftest import ROOT, World
from tests.end_to_end.machines import make_environment, runs_ray
from tests.runs import recorded
from tests.tiny import SPACE, tiny_job

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]

SCRIPT = ROOT / "clusters" / "slurm.sbatch"
SCONTROL = """\
#!/bin/bash
[[ $* == "show hostnames $SLURM_JOB_NODELIST" ]] && tr , '\\n' <<< "$SLURM_JOB_NODELIST"
"""

# A step takes the variables of the script along; bash would read ~/.bashrc where it sees that ssh has started it.
SRUN = """\
#!/bin/bash
for word; do
  case $word in
    --nodelist=*) node=${{word#*=}} ;;
    --*) ;;
    *) break ;;
  esac
  shift
done
[[ $node == {head} ]] && exec "$@"
exec ssh -i {key} -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null "root@$node" \\
  "unset SSH_CLIENT; $(export -p | grep -E ' (PATH|RAY_[A-Z_]+|SLURM_[A-Z_]+)='); cd $PWD; $(printf '%q ' "$@")"
"""


@pytest.fixture(scope="module")
def project(world: World) -> Path:
    """Return a folder that both machines see, with the project, an environment, and the stand-ins."""
    folder = world.shared / "project"
    folder.mkdir()
    for name in ("engine", "tasks", "tune_spaces", "clusters"):
        (folder / name).symlink_to(ROOT / name)
    make_environment(folder / ".venv", project=True)
    _script(folder / "slurm" / "scontrol", SCONTROL)
    _script(folder / "slurm" / "srun", SRUN.format(head=world.head.address, key=world.key))
    return folder


def _script(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)


TERMINATED = """\
bash {script} "$@" & job=$!
until compgen -G "terminated/studies/*/tune/trial_*/checkpoint_*/progress.json" > /dev/null; do sleep 0.2; done
kill -TERM $job
wait $job || echo "ended with $?"
"""


def in_an_allocation(world: World, project: Path, *command: str) -> str:
    """Run a command on the head with the variables of an allocation of both machines, and return its output."""
    number = str(os.getpid())
    variables = {
        "PATH": f"{project / 'slurm'}:/usr/sbin:/usr/bin:/sbin:/bin",
        "SLURM_CPUS_PER_TASK": "2",
        "SLURM_JOB_ID": number,
        "SLURM_JOB_NODELIST": f"{world.head.address},{world.worker.address}",
        "SLURM_SUBMIT_DIR": str(project),
    }
    own = Path(f"/tmp/ray-{number}")
    own.mkdir()
    try:
        for machine in (world.head, world.worker):  # whose /tmp are one folder, other than two machines'
            subprocess.run(machine.within("--mount", "mount", "-t", "tmpfs", "none", str(own)), check=True)
        return world.on_head(*command, variables=variables)
    finally:
        own.rmdir()


def test_a_study_runs_in_an_allocation(world: World, project: Path) -> None:
    words = ["baselines.coresets=[]", "budget.samples=1"]
    said = in_an_allocation(world, project, "bash", str(SCRIPT), str(SPACE), *words)
    assert "Ray: the running cluster (4 CPUs" in said
    assert tiny_job(project / "runs", *words).folder.name in said
    assert not list(world.head.home.glob(".ray/*.token"))
    assert not runs_ray(world.head)


def test_the_signal_of_scancel_ends_the_study_as_killed(world: World, project: Path) -> None:
    words = ["baselines.coresets=[]", "budget.samples=1", "seed=1", "budget.outer_steps=60"]
    script = f"cd {project}; {TERMINATED.format(script=SCRIPT)}"
    said = in_an_allocation(world, project, "bash", "-c", script, "sbatch", str(SPACE), *words, "storage=terminated")
    assert "terminated; repeat the command to go on" in said
    assert "ended with 143" in said
    studies, trials = recorded(tiny_job(project / "terminated", *words))
    assert {run.status for run in (*studies, *trials)} == {"KILLED"}
    assert not list(world.head.home.glob(".ray/*.token"))
    assert not runs_ray(world.head)
