"""A storage that cannot be used: one clear line, exit code 2, nothing changed, no password anywhere."""

from __future__ import annotations

import hashlib
import os
import signal
import sqlite3
import subprocess
from pathlib import Path

import psutil
import psycopg
import pytest
from helpers.command_line import epochs_of, finish, run, running, wait_for, write_space
from helpers.postgres import Postgres, postgres

__all__ = ["postgres"]
SECRET = "open%sesame"
QUOTED = "open%25sesame"


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    """The message of a refusal; the password must not be in it."""
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert not any(word in done.stderr for word in (SECRET, QUOTED, "Traceback"))
    (line,) = done.stderr.splitlines()
    assert line.startswith("tuner: ")
    return line


def status(folder: Path, url: str) -> str:
    return one_line(run(folder, "status", "--storage", url))


@pytest.mark.parametrize(
    ("url", "words"),
    [
        (f"postgresql://me:{QUOTED}@/name?host=/nowhere", "cannot be reached"),
        (f"foo://me:{QUOTED}@host/name", "no driver"),
        (f"postgresql://me:{QUOTED}@host:port/name", "not a valid database URL"),
        ("tuner.db", "not a valid database URL"),
        ("sqlite:////nowhere/at/all/tuner.db", "no study yet"),
    ],
)
def test_a_url_that_leads_nowhere(url: str, words: str, tmp_path: Path) -> None:
    assert words in status(tmp_path, url)
    assert list(tmp_path.iterdir()) == []


def test_run_meets_a_bad_storage_before_a_worker_starts(tmp_path: Path) -> None:
    space = write_space(tmp_path)
    url = f"postgresql://me:{QUOTED}@/name?host=/nowhere"
    done = run(tmp_path, "run", "--space", space, "--home", tmp_path / "home", TUNER_STORAGE=url)
    assert "cannot be reached" in one_line(done)
    assert not (tmp_path / "home" / "logs").exists()


@pytest.mark.parametrize("command", ["status", "best", "dashboard"])
def test_looking_at_an_absent_database_does_not_make_it(command: str, tmp_path: Path) -> None:
    said = one_line(run(tmp_path, command, "--storage", f"sqlite:///{tmp_path / 'none.db'}"))
    assert "tuner run" in said
    assert list(tmp_path.iterdir()) == []


def test_another_programs_database_is_left_as_it_is(tmp_path: Path) -> None:
    file, space = tmp_path / "shop.db", write_space(tmp_path)
    with sqlite3.connect(file) as db:
        db.execute("CREATE TABLE orders (id INTEGER)")
    db.close()
    before = hashlib.sha256(file.read_bytes()).hexdigest()
    done = run(tmp_path, "run", "--space", space, "--home", tmp_path / "home", "--storage", f"sqlite:///{file}")
    said = one_line(done)
    assert "orders" in said
    assert "database of its own" in said
    assert hashlib.sha256(file.read_bytes()).hexdigest() == before
    assert not list(tmp_path.glob("shop.db?*"))


def test_a_text_file_is_no_database(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("dear diary\n" * 100)
    assert "another kind" in status(tmp_path, f"sqlite:///{file}")
    assert file.read_text() == "dear diary\n" * 100


def test_a_password_works_and_stands_nowhere(tmp_path: Path, postgres: Postgres) -> None:
    postgres.with_password("guarded", SECRET)
    space, empty = write_space(tmp_path, epochs=400), postgres.fresh()
    place = empty.partition("@")[2]
    assert "refused the user name or password" in status(tmp_path, f"postgresql://guarded:wrong@{place}")

    args = ["run", "--space", space, "--home", tmp_path / "home", "--trials", "1"]
    with running(tmp_path, *args, TUNER_STORAGE=f"postgresql://guarded:{QUOTED}@{place}") as fleet:
        wait_for(lambda: epochs_of(empty, 0), fleet)
        commands = [
            " ".join(p.cmdline()) for p in [psutil.Process(fleet.pid), *psutil.Process(fleet.pid).children()]
        ]
        assert len(commands) >= 2
        os.kill(fleet.pid, signal.SIGINT)
        done = finish(fleet)
    assert done.returncode == 0, done.stderr
    written = [f.read_bytes() for f in (tmp_path / "home").rglob("*") if f.is_file()]
    everything = [done.stdout, done.stderr, *commands, *map(str, written), *dump(empty)]
    assert not any("sesame" in text for text in everything)


def dump(url: str) -> list[str]:
    """Every row of every table, as text."""
    with psycopg.connect(url) as db:
        tables = db.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        return [str(db.execute(f'SELECT * FROM "{name}"'.encode()).fetchall()) for (name,) in tables]
