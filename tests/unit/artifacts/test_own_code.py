"""The source of own parts is kept with a trial, and used again only as the database knows it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tuner.artifacts.own_code import load_code, save_code, use_code
from tuner.errors import FilesError
from tuner.paths import Run
from tuner.recipe import use
from tuner.registry import build

NAMES = ("unet", "kept_part:f")


@pytest.fixture
def run(tmp_path: Path, own_folder: Path) -> Run:
    (own_folder / "kept_part.py").write_text("from kept_helper import value\n\ndef f():\n    return value\n")
    (own_folder / "kept_helper.py").write_text("value = 1\n")
    return Run(tmp_path / "run").make()


def test_code_is_kept_with_the_modules_that_it_imports(run: Run) -> None:
    digest = save_code(NAMES, run)
    assert sorted(load_code(run, digest)) == ["kept_helper.py", "kept_part.py"]
    assert save_code(["unet"], Run(run.folder / "other").make()) == ""
    assert run.code in run.weights
    run.delete_previous()
    assert run.code.is_file()


def test_code_is_used_as_it_was_when_it_was_kept(run: Run, own_folder: Path, tmp_path: Path) -> None:
    digest = save_code(NAMES, run)
    (own_folder / "kept_helper.py").write_text("value = 2\n")
    assert save_code(NAMES, run) == digest, "an attempt that goes on keeps the code it began with"
    assert use_code(run, digest, tmp_path / "cache")
    assert build("part", {}, use("kept_part:f")) == 1


@pytest.mark.parametrize("digest", ["", "0" * 64])
def test_code_that_the_database_does_not_know_is_not_used(run: Run, tmp_path: Path, digest: str) -> None:
    save_code(NAMES, run)
    assert not use_code(run, digest, tmp_path / "cache") and not (tmp_path / "cache").exists()


@pytest.mark.parametrize("path", ["/etc/mine.py", "../mine.py", "mine.pyc", "a/../../mine.py"])
def test_code_stays_in_its_folder(tmp_path: Path, path: str) -> None:
    import hashlib

    run = Run(tmp_path / "run").make()
    run.code.write_text(json.dumps({path: ""}))
    with pytest.raises(FilesError, match="not that of a module in a folder"):
        load_code(run, hashlib.sha256(run.code.read_bytes()).hexdigest())
