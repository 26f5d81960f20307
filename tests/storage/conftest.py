"""The databases for every test in this folder: SQLite, PostgreSQL and, if installed, MariaDB."""

from pathlib import Path

import pytest
from helpers.mariadb import mariadb
from helpers.postgres import postgres

__all__ = ["mariadb", "postgres"]


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def storage_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A new, empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'tuner.db'}"
    return str(request.getfixturevalue("postgres" if request.param == "postgresql" else "mariadb").fresh())
