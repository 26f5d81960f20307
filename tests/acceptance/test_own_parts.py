"""Parts of the user's own, found as the installed command finds them: without the working folder on the path."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.command_line import run, write_space

from tuner import load_study

MINE = """import tuner_is_not_hidden
from torch import nn


def net(channels, outputs, *, width=4):
    return nn.Conv2d(channels, outputs, 3, padding=1)
"""
AS_INSTALLED = {"PYTHONPATH": "", "PYTHONSAFEPATH": "1"}


def write_own_model(folder: Path, space: Path) -> Path:
    """Write an own model with a helper module and files named like ours; return its space."""
    (folder / "mine.py").write_text(MINE)
    (folder / "tuner_is_not_hidden.py").touch()
    for name in ("torch", "tuner", "numpy"):
        (folder / f"{name}.py").write_text("raise RuntimeError('hidden')\n")
    return write_space(space, epochs=1, model='use("mine:net", width=2)')


@pytest.mark.parametrize("place", ["beside the space", "the working folder"])
def test_own_parts_are_found_by_the_command_and_its_workers(tmp_path: Path, place: str) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    space = write_own_model(there if place == "beside the space" else here, there)
    done = run(here, "run", "--space", space, "--trials", 1, **AS_INSTALLED)
    assert done.returncode == 0, done.stderr
    assert load_study(home=here / "runs").trials[0].state == "COMPLETE"


def test_a_part_that_is_nowhere_is_told_in_one_line(tmp_path: Path) -> None:
    here = tmp_path / "here"
    here.mkdir()
    space = write_space(tmp_path, model='use("mine:net")', extra='    mine = use("mine:loss")\n')
    done = run(here, "check", space, **AS_INSTALLED)
    assert done.returncode == 2
    places = f"{tmp_path} (beside the space), {here} (the working folder) and the installed packages"
    assert done.stderr == (
        f"tuner: {space}: its recipes cannot be trained: there is no module 'mine'. Looked in {places}. "
        "Put mine.py into one of these folders, or install its package.\n"
    )
