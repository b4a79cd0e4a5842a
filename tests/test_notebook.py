"""The notebook runs from top to bottom on a finished study."""

import ast
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from tests.finished import Finished

NOTEBOOK = Path(__file__).resolve().parents[1] / "docs" / "notebook.ipynb"


def test_the_notebook_shows_a_study_and_trains_a_student(finished: Finished) -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells), "it is stored without outputs"
    first, *rest = (cell for cell in notebook.cells if cell.cell_type == "code")
    first.source = f"storage = {str(finished.job.specification.storage)!r}"
    NotebookClient(notebook, timeout=240, resources={"metadata": {"path": str(NOTEBOOK.parent)}}).execute()
    shown = [output for cell in rest for output in cell.outputs]
    assert any("| tiny | 8 |" in output.get("data", {}).get("text/markdown", "") for output in shown)
    kinds = [kind for output in shown for kind in output.get("data", {})]
    assert "image/png" in kinds
    assert kinds.count("image/svg+xml") > 5
    recalls = ast.literal_eval(rest[-1].outputs[-1]["data"]["text/plain"])
    assert 0 < recalls["mean_recall"] <= 100
