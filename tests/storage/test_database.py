"""Databases are opened, created once, and refused if they belong to another program."""

from __future__ import annotations

import hashlib
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from subprocess import CompletedProcess

import optuna
import psycopg
import pytest
import sqlalchemy as sa
from helpers.command_line import environment, opened
from helpers.fork_server import run_code
from helpers.postgres import Postgres

from tuner.errors import StorageError
from tuner.study import database, queries, tables
from tuner.study.storage import open_storage

JOIN = """
import sys, warnings
from tuner.goal import Goal
from tuner.study.info import StudyInfo
from tuner.study.study import join_study
joined = join_study(sys.argv[1], StudyInfo("s", "space", Goal("iou", "maximize"), "shapes"))
print(joined.id, joined.study.user_attrs["tuner"]["space"])
"""


def digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def make_sqlite(file: Path, *statements: str) -> str:
    with sqlite3.connect(file) as db:
        for statement in statements:
            db.execute(statement)
    db.close()
    return f"sqlite:///{file}"


def execute(url: str, *statements: str) -> None:
    with opened(url) as engine, engine.begin() as db:
        for statement in statements:
            db.execute(sa.text(statement))


def make_ours(url: str) -> str:
    open_storage(url)[1].dispose()
    return url


def refusal(url: str) -> str:
    with pytest.raises(StorageError) as told:
        open_storage(url)
    return str(told.value)


def test_opening_twice_changes_nothing(storage_url: str) -> None:
    make_ours(storage_url)
    with opened(storage_url) as engine:
        before = set(sa.inspect(engine).get_table_names())
        make_ours(storage_url)
        assert set(sa.inspect(engine).get_table_names()) == before
    assert {"studies", "tuner_epoch"} <= before


@pytest.mark.slow
def test_ten_processes_create_one_database_and_one_study(storage_url: str, tmp_path: Path) -> None:
    def join(_: int) -> CompletedProcess[str]:
        return run_code(JOIN, storage_url, env=environment(tmp_path))

    with ThreadPoolExecutor(10) as pool:
        ended = list(pool.map(join, range(10)))
    assert [done.returncode for done in ended] == [0] * 10, "\n".join(done.stderr[-600:] for done in ended)
    assert {done.stdout.split()[-1] for done in ended} == {"space"}
    with opened(storage_url) as engine:
        (study,) = queries.read_studies(engine)
        assert tables.schema(engine) is not None
    assert study.name == "s"


def test_tables_left_half_made_by_a_killed_process_are_completed(tmp_path: Path) -> None:
    url = make_ours(f"sqlite:///{tmp_path / 'tuner.db'}")
    execute(url, "DROP TABLE version_info", "DROP TABLE tuner_claim", "DROP TABLE alembic_version")
    make_ours(url)
    with opened(url) as engine:
        assert {"version_info", "tuner_claim", "alembic_version"} <= set(sa.inspect(engine).get_table_names())


FOREIGN = {
    "a shop": ("CREATE TABLE orders (id INTEGER)", "INSERT INTO orders VALUES (7)"),
    "MLflow": (
        "CREATE TABLE alembic_version (version_num VARCHAR(32))",
        "INSERT INTO alembic_version VALUES ('x')",
    ),
    "a university": ("CREATE TABLE studies (name TEXT)", "CREATE TABLE students (name TEXT)"),
}


@pytest.mark.parametrize("owner", FOREIGN)
def test_another_programs_sqlite_file_is_refused_and_stays_as_it_is(owner: str, tmp_path: Path) -> None:
    file = tmp_path / "other.db"
    url = make_sqlite(file, *FOREIGN[owner])
    before = digest(file)
    assert "database of its own" in refusal(url)
    assert digest(file) == before
    assert [path.name for path in tmp_path.iterdir()] == ["other.db"]


@pytest.mark.parametrize("owner", FOREIGN)
def test_another_programs_postgresql_database_is_refused(owner: str, postgres: Postgres) -> None:
    url = postgres.fresh()
    with psycopg.connect(url, autocommit=True) as db:
        for statement in FOREIGN[owner]:
            db.execute(statement.encode())
        assert "database of its own" in refusal(url)
        tables = db.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone()
    assert tables == (len({word for word in FOREIGN[owner] if word.startswith("CREATE")}),)


def test_a_database_of_an_older_optuna_is_refused_with_both_versions(storage_url: str) -> None:
    make_ours(storage_url)
    execute(
        storage_url,
        "UPDATE alembic_version SET version_num = 'v2.6.0.a'",
        "UPDATE version_info SET library_version = '2.6.0'",
        "DROP TABLE tuner_claim",
    )
    said = refusal(storage_url)
    assert "Optuna 2.6.0" in said
    assert optuna.__version__ in said
    assert "optuna storage upgrade" in said
    with opened(storage_url) as engine:  # nothing was added to it
        assert not sa.inspect(engine).has_table("tuner_claim")


def test_a_database_of_a_newer_optuna_is_refused_with_both_versions(storage_url: str) -> None:
    make_ours(storage_url)
    execute(
        storage_url,
        "UPDATE alembic_version SET version_num = 'v9.0.0.a'",
        "UPDATE version_info SET library_version = '9.1.0'",
    )
    said = refusal(storage_url)
    assert "Optuna 9.1.0" in said
    assert optuna.__version__ in said
    assert "newer" in said


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("no url at all", "not a valid database URL"),
        ("postgresql://user:hunter2@host:port/name", "not a valid database URL"),
        ("sqlite://", "memory"),
        ("sqlite:///:memory:", "memory"),
        ("foo://user:hunter2@host/name", "no driver"),
        ("oracle://user:hunter2@host/name", "no driver"),
        ("postgresql://user:hunter2@/name?host=/nowhere", "cannot be reached"),
        ("postgresql://user:hunter2@127.0.0.1:9/name", "cannot be reached"),
        ("postgresql://user:hunter2@/name?host=/nowhere&colour=red", "cannot be reached"),
        ("sqlite:////nowhere/at/all/tuner.db", "cannot be opened"),
    ],
)
def test_a_url_that_leads_nowhere_is_told_in_one_line_without_its_password(url: str, what: str) -> None:
    said = refusal(url)
    assert what in said
    assert "hunter2" not in said
    assert "\n" not in said


def test_a_text_file_is_no_database_and_stays_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "notes.db"
    file.write_text("not a database, but rather long notes about horses\n" * 50)
    before = digest(file)
    assert "another kind" in refusal(f"sqlite:///{file}")
    assert digest(file) == before


def test_a_folder_is_no_database(tmp_path: Path) -> None:
    assert "cannot be opened" in refusal(f"sqlite:///{tmp_path}")


def test_braces_and_blanks_in_a_path_are_taken_as_they_are(tmp_path: Path) -> None:
    file = tmp_path / "my {x} runs" / "tuner.db"
    file.parent.mkdir()
    make_ours(f"sqlite:///{file}")
    assert file.is_file()
    assert list(tmp_path.iterdir()) == [file.parent]


def test_a_wrong_password_is_refused_and_a_right_one_is_never_shown(postgres: Postgres) -> None:
    postgres.with_password("secured", "right%horse")
    place = postgres.fresh().partition("@")[2]
    said = refusal(f"postgresql://secured:wrong-horse@{place}")
    assert "refused the user name or password" in said
    assert "wrong-horse" not in said
    right = f"postgresql://secured:right%25horse@{place}"
    make_ours(right)
    assert "right" not in database.hide_password(right)


def test_sqlite_writes_ahead_and_waits_for_others(tmp_path: Path) -> None:
    url = make_ours(f"sqlite:///{tmp_path / 'tuner.db'}")
    with opened(url) as engine, engine.connect() as db:
        assert db.scalar(sa.text("PRAGMA journal_mode")) == "wal"
        assert db.scalar(sa.text("PRAGMA busy_timeout")) == database.BUSY_SECONDS * 1000


def test_looking_at_an_absent_sqlite_file_is_possible_without_making_it(tmp_path: Path) -> None:
    assert database.is_absent(f"sqlite:///{tmp_path / 'tuner.db'}")
    assert list(tmp_path.iterdir()) == []


def test_a_cut_connection_is_tried_again(postgres: Postgres) -> None:
    url = make_ours(postgres.fresh())
    with opened(url) as engine:
        tries = []

        @database.retried
        def ask() -> int:
            with engine.connect() as db:
                tries.append(db.scalar(sa.text("SELECT pg_backend_pid()")))
                if len(tries) == 1:
                    postgres.run(f"SELECT pg_terminate_backend({tries[0]})")
                return int(db.scalar(sa.text("SELECT 41 + 1")) or 0)

        assert ask() == 42
        assert len(tries) == 2


def test_a_password_behind_the_question_mark_is_not_shown_either() -> None:
    shown = database.hide_password("postgresql://me@host/name?password=secret&sslmode=require")
    assert "secret" not in shown
    assert "host/name" in shown


def test_errors_that_optuna_wraps_are_told_in_one_line(storage_url: str) -> None:
    storage, engine = open_storage(storage_url)
    execute(storage_url, "DROP TABLE study_directions")
    with pytest.raises(StorageError, match="study_directions"), database.convert_errors(storage_url):
        storage.create_new_study([optuna.study.StudyDirection.MAXIMIZE], "s")
    engine.dispose()
