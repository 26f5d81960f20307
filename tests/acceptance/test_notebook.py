"""The notebook of the documentation runs, and shows what it shows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).parent.parent.parent / "docs"
EXECUTE = "import json, runpy; print(json.dumps(runpy.run_path('make_notebook.py')['executed']()))"


def outputs(notebook: dict[str, Any]) -> list[list[tuple[str, list[str]]]]:
    """Return the kinds of the outputs of every code cell."""
    return [
        [(one["output_type"], sorted(one.get("data", ()))) for one in cell["outputs"]]
        for cell in notebook["cells"]
        if cell["cell_type"] == "code"
    ]


@pytest.mark.slow
def test_the_notebook_runs_and_has_the_outputs_that_are_stored() -> None:
    stored = json.loads((DOCS / "notebook.ipynb").read_text())
    assert sum(map(bool, outputs(stored))) >= 9, "run: python docs/make_notebook.py"
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TUNER_")}
    clean["OMP_NUM_THREADS"] = "1"
    done = subprocess.run(
        [sys.executable, "-c", EXECUTE],
        cwd=DOCS,
        env=clean,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert outputs(json.loads(done.stdout)) == outputs(stored)
