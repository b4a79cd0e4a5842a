"""Take the README's pictures of the finished demo: ``python -m tests.screenshots runs docs/images``."""

import sys
import tempfile
from pathlib import Path

from engine.studies.job import EXPERIMENT
from engine.tracking.mlflow.uri import page
from tests.chromium import browser
from tests.tracking.pages import served

DEMO = "shapes_100"


def main(storage: Path, folder: Path) -> None:
    """Write the demo's report and its runs in MLflow as PNG files."""
    (report,) = storage.resolve().glob(f"studies/{DEMO}-*/report.html")
    with tempfile.TemporaryDirectory() as profile, browser(Path(profile)) as tab:
        tab.look(1280, 630)
        tab.open(report.as_uri())
        tab.wait(DEMO, until="[...document.images].every((one) => one.complete)")
        tab.run("document.querySelector('figure').scrollIntoView(), scrollBy(0, -60)")  # pairs as they were learned
        tab.picture(folder / "report.png")
    lines = page(f"sqlite:///{storage.resolve() / 'mlflow.db'}", EXPERIMENT)
    with tempfile.TemporaryDirectory() as profile, served(lines, DEMO, Path(profile)) as pages:
        pages.add_columns(["test/mean_recall", "test/recovery"])
        pages.tab.picture(folder / "mlflow.png")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
