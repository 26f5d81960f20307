"""Execute notebook.ipynb in a temporary folder and save its outputs: python docs/make_notebook.py"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nbformat
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).with_name("notebook.ipynb")
TIMEOUT = 240  # seconds a cell may take


def executed() -> Any:
    """Return the notebook with the outputs of a fresh kernel; CellExecutionError if a cell fails."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    with TemporaryDirectory() as folder:
        NotebookClient(notebook, timeout=TIMEOUT, resources={"metadata": {"path": folder}}).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # times, which differ in every run
    return notebook


if __name__ == "__main__":
    nbformat.write(executed(), NOTEBOOK)
