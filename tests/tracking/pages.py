"""MLflow's pages of a study in a browser: serve them, list the runs, choose columns, compare."""

import os
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from tests.chromium import Browser, browser


@dataclass(frozen=True)
class Pages:
    """A browser, the address of the page with all runs that a study printed, and the study's name."""

    tab: Browser
    address: str
    study: str

    def runs(self) -> str:
        """Show the list of runs, and return what it says."""
        self.tab.open(self.address)
        return self.tab.wait("Run Name", self.study, "matching runs")

    def unfold(self) -> None:
        """Close what lies over the list, and show the runs of the study's trials and rows, in all later lists too."""
        self.runs()
        self.tab.press("document.querySelector('[aria-label=Close]')")  # the panel of MLflow's assistant
        self.tab.press("document.querySelector('.ag-row button svg')")  # the sign that shows the runs below a study

    def add_columns(self, columns: Sequence[str]) -> None:
        """Add metrics to the columns of the list."""
        before = self.tab.run("document.querySelectorAll('.ag-header-cell').length")
        self.tab.click("Columns")
        for column in columns:
            self.tab.click(column)
        self.tab.press("document.querySelector('[data-testid=column-selection-dropdown]')")
        self.tab.wait(until=f"document.querySelectorAll('.ag-header-cell').length === {before + len(columns)}")

    def compare(self, names: Sequence[str]) -> None:
        """Tick runs in the list, and compare them."""
        self.runs()
        for name in names:
            row = f"[...document.querySelectorAll('.ag-row')].find((one) => one.innerText.includes('{name}'))"
            self.tab.press(f"{row}?.querySelector('input[type=checkbox]')")
        self.tab.click("Compare")


@contextmanager
def served(lines: Sequence[str], study: str, profile: Path) -> Iterator[Pages]:
    """Run the command that a study prints until its address answers, open its runs, and end what was started."""
    command, address = lines
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "start_new_session": True}
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    process = subprocess.Popen(shlex.split(command), env=environment, **quiet)
    try:
        end = time.monotonic() + 120
        while not _answers(address):
            assert process.poll() is None, f"{command} ended with {process.returncode}"
            assert time.monotonic() < end, f"{command} does not answer"
            time.sleep(0.1)
        with browser(profile) as tab:
            tab.look(1600, 800)
            pages = Pages(tab, address, study)
            pages.unfold()
            yield pages
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def _answers(address: str) -> bool:
    try:
        return urlopen(address, timeout=5).status == 200
    except URLError:
        return False
