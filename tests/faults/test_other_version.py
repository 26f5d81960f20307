"""Workers of different versions do not mix: who comes later is refused in one line, and nothing changes."""

from __future__ import annotations

import sqlite3
import subprocess
from pathlib import Path

import pytest
from helpers.command_line import alter, home_url, run, running, states, wait_for
from helpers.recording_model import write_booked


def search(folder: Path) -> list[str | Path]:
    return ["run", "--space", folder / "tiny.py", "--home", folder / "home", "--trials", "1"]


def content(home: Path) -> list[str]:
    with sqlite3.connect(home / "tuner.db") as db:
        return list(db.iterdump())


def refused(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 2, done.stdout + done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("tuner: ")]
    assert "Traceback" not in done.stderr
    return line


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("UPDATE tuner_meta SET value = '99' WHERE name = 'schema'", ("schema 99", "Install that version")),
        ("UPDATE alembic_version SET version_num = 'v99.0.a'", ("schema v99.0.a", "Install that Optuna")),
    ],
    ids=["tuner's tables", "Optuna's tables"],
)
def test_the_tables_of_a_later_version_are_left_alone(change: str, words: tuple[str, str], tmp_path: Path) -> None:
    write_booked(tmp_path)
    assert run(tmp_path, "init", "--home", tmp_path / "home").returncode == 0
    alter(home_url(tmp_path / "home"), change)
    before = content(tmp_path / "home")
    line = refused(run(tmp_path, *search(tmp_path)))
    assert all(word in line for word in (*words, "Nothing was changed"))
    assert content(tmp_path / "home") == before


@pytest.mark.parametrize("command", ["status", "table"])
def test_the_tables_of_a_later_version_are_not_read(command: str, tmp_path: Path) -> None:
    assert run(tmp_path, "init", "--home", tmp_path / "home").returncode == 0
    alter(home_url(tmp_path / "home"), "UPDATE tuner_meta SET value = '99' WHERE name = 'schema'")
    assert "schema 99" in refused(run(tmp_path, command, "--home", tmp_path / "home"))


@pytest.mark.slow
def test_nobody_joins_living_workers_of_another_version_and_dead_ones_are_no_hindrance(tmp_path: Path) -> None:
    write_booked(tmp_path, 4, "gate=2")
    url = home_url(tmp_path / "home")
    pausing = [*search(tmp_path), "--pruning", "promote"]
    with running(tmp_path, *pausing) as fleet:
        wait_for((tmp_path / "waiting").exists, fleet)
        alter(url, "UPDATE tuner_worker SET version = 'tuner 99.0, Optuna 5.0.0', host = 'elsewhere'")
        line = refused(run(tmp_path, *pausing))
        assert "elsewhere works on this study with tuner 99.0" in line
        assert states(url) == {0: "RUNNING"}
        assert fleet.poll() is None  # undisturbed, until it is killed here
    (tmp_path / "go").touch()
    done = run(tmp_path, *pausing)
    assert done.returncode == 0, done.stderr
    assert states(url) == {0: "COMPLETE"}
