"""Every command of every page runs, or is read by the program that it names."""

import shlex
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.studies.preflight import dry_run
from tasks import cli
from tests.docs.pages import PAGES, Command, commands, name
from tests.docs.programs import PROGRAMS, run
from tests.docs.reader import Desk, install_components

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def desk(ray_local: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """Sit down where the first study of all, the tiny one, has just been distilled."""
    folder = tmp_path_factory.mktemp("desk")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for variable in ("VLDD_DATA", "VLDD_CACHE", "VLDD_TRACEBACK", "MLFLOW_TRACKING_URI"):
            patch.delenv(variable, raising=False)
        install_components(folder / "components", patch)
        desk = Desk(folder)
        patch.setattr(cli, "read_job", desk.read_job)
        patch.setattr(dry_run, "describe", desk.describe)
        desk.prepare()
        run(Command("the first", ["python", "tasks/distill.py"]), desk)
        desk.keep_set(desk.jobs[0])
        run(Command("its folder", ["python", "tasks/export.py", "shapes_100", "--out", "my_set"]), desk)
        yield desk


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)], ids=name)
def test_commands_run(page: Path, desk: Desk) -> None:
    for command in commands(page):
        began = time.process_time()
        run(command, desk)
        print(f"### {time.process_time() - began:.1f} s: {command.line}")


def test_every_program_is_on_a_page() -> None:
    found = {word for page in PAGES for command in commands(page) for word in command.words}
    assert PROGRAMS.keys() <= found


@pytest.mark.parametrize(
    "line",
    [
        "python tasks/distill.py no_such_space",
        "python tasks/distill.py method.inner_stepz=4",
        "python tasks/distill.py --no-such-flag",
        "python tasks/no_such_task.py",
        "python tasks/report.py shapes_100 --format pdf",
        "ray submit ray_cluster.yaml tasks/distill.py no_such_space",
        "ray up no_such_file.yaml",
        "ray up -y --no-such-flag ray_cluster.yaml",
        "ray exec ray_cluster.yaml 'ray no-such-command'",
        "make no-such-target",
        "kubectl create -f no_such_file.yaml",
        "no-such-program --help",
    ],
)
def test_a_wrong_command_fails(line: str, desk: Desk) -> None:
    with pytest.raises((AssertionError, ValueError, KeyError)):
        run(Command("a page", shlex.split(line)), desk)
