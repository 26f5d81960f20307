"""The package as somebody else gets it: a wheel that carries the shipped spaces and tables."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    return next(out.glob("*.whl"))


def test_the_wheel_carries_every_space_and_table(wheel: Path) -> None:
    inside = set(zipfile.ZipFile(wheel).namelist())
    for folder in ("search_spaces", "studies"):
        for file in (ROOT / folder).rglob("*.*"):
            if "__pycache__" not in file.parts:
                assert f"tuner/shipped/{folder}/{file.relative_to(ROOT / folder)}" in inside


def test_the_wheel_carries_the_templates_of_the_report(wheel: Path) -> None:
    inside = set(zipfile.ZipFile(wheel).namelist())
    templates = {path.relative_to(ROOT).as_posix() for path in (ROOT / "tuner/report/templates").iterdir()}
    assert len(templates) == 6 and templates <= inside


def test_the_installed_wheel_lists_its_spaces_outside_the_clone(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)  # what installing does, without the 5 GB of requirements
    code = "import sys, tuner.cli as c; sys.argv = ['tuner', 'spaces']; print(c.__file__); c.main()"
    env = {**os.environ, "PYTHONPATH": str(site)}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert str(site) in done.stdout.splitlines()[0]
    assert "unet_k" in done.stdout and str(site / "tuner/shipped/search_spaces/unet_k.py") in done.stdout


def test_requirements_are_pinned_and_name_no_place() -> None:
    for name in ("requirements.txt", "requirements-test.txt"):
        lines = [line for line in (ROOT / name).read_text().splitlines() if line and line[0] not in "#-"]
        assert lines and all("==" in line for line in lines)
        assert "://" not in (ROOT / name).read_text()
