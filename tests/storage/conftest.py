"""The databases for every test in this folder: SQLite, PostgreSQL and, if installed, MariaDB."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.mariadb import mariadb
from helpers.postgres import postgres
from helpers.prepared_databases import prepared_mariadb, prepared_postgres, provide

__all__ = ["mariadb", "postgres", "prepared_mariadb", "prepared_postgres"]
KINDS = ["sqlite", "postgresql", "mariadb"]


@pytest.fixture(params=KINDS)
def prepared_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database of each kind, with all tables and no rows."""
    yield from provide(request, request.param, tmp_path)


@pytest.fixture(params=KINDS)
def storage_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A new, empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'tuner.db'}"
    return str(request.getfixturevalue("postgres" if request.param == "postgresql" else "mariadb").fresh())
