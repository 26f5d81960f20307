"""`tuner init`: tables are created once, even by several at a time; other programs' databases stay unchanged."""

from __future__ import annotations

import hashlib
import sqlite3
from pathlib import Path

import pytest
from helpers.command_line import claims, finish, home_url, rows, run, start, states, write_space
from helpers.postgres import postgres, storage_url

from tuner.study import tables

__all__ = ["postgres", "storage_url"]


@pytest.mark.slow
def test_ten_hosts_start_at_once_some_with_init_and_some_with_run(storage_url: str, tmp_path: Path) -> None:
    space = write_space(tmp_path, epochs=1)
    search = ["run", "--space", space, "--trials", "2"]
    makers = [start(tmp_path, "init", TUNER_STORAGE=storage_url) for _ in range(8)]
    searchers = [start(tmp_path, *search, "--home", f"home{at}", TUNER_STORAGE=storage_url) for at in range(2)]
    made, searched = [finish(process) for process in makers], [finish(process) for process in searchers]
    for done in made + searched:
        assert done.returncode == 0, done.stdout + done.stderr
    assert len({done.stdout.splitlines()[0] for done in made}) == 1
    assert all("of 2 trials ended" in done.stdout for done in searched)
    assert list(states(storage_url)) == [0, 1]
    assert [slot for slot, *_ in claims(storage_url)] == [1, 2]
    assert [row.study_name for row in rows(storage_url, "SELECT study_name FROM studies")] == ["tiny"]
    assert len(rows(storage_url, "SELECT version_num FROM alembic_version")) == 1


def test_it_tells_what_is_there_and_changes_nothing_the_second_time(storage_url: str, tmp_path: Path) -> None:
    first = run(tmp_path, "init", "--storage", storage_url)
    assert first.returncode == 0, first.stderr
    ready, versions, studies = first.stdout.splitlines()
    assert "is ready: " in ready
    assert f"schema {tables.SCHEMA} (made by tuner " in versions
    start = "Start one with: tuner run --space unet_k --rehearse --storage "
    assert studies.startswith(f"studies: none yet. {start}")
    assert run(tmp_path, "init", "--storage", storage_url).stdout == first.stdout


def test_without_a_storage_the_home_gets_its_database(tmp_path: Path) -> None:
    assert run(tmp_path, "init", "--home", "home").returncode == 0
    assert rows(home_url(tmp_path / "home"), "SELECT count(*) AS n FROM tuner_study")[0].n == 0


def test_another_programs_database_is_refused_and_stays_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "shop.db"
    with sqlite3.connect(file) as db:
        db.execute("CREATE TABLE orders (id INTEGER)")
    db.close()
    before = hashlib.sha256(file.read_bytes()).hexdigest()
    done = run(tmp_path, "init", "--storage", f"sqlite:///{file}")
    assert done.returncode == 2
    assert "orders" in done.stderr and len(done.stderr.splitlines()) == 1
    assert hashlib.sha256(file.read_bytes()).hexdigest() == before
    assert [path.name for path in tmp_path.iterdir()] == ["shop.db"]
