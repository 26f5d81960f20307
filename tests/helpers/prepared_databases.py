"""Databases with all tables and no rows. Each serves one test after the other: making the tables takes longer than
most tests of what is stored in them. A test that changes the tables themselves needs a new database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from helpers.optuna_revisions import prepare_file
from tuner.study import database, storage

KEPT = {"alembic_version", "version_info", "tuner_meta"}  # they name the schema


@dataclass
class PreparedDatabases:
    """The databases of one server that no test uses at the moment."""

    fresh: Callable[[], str]
    free: list[str] = field(default_factory=list)

    @contextmanager
    def one(self) -> Iterator[str]:
        """Provide the URL of a database for one test."""
        url = self.free.pop() if self.free else prepare(self.fresh())
        yield url
        clear(url)
        self.free.append(url)


def prepare(url: str) -> str:
    """Create the tables, and return the URL."""
    storage.open_storage(url)[1].dispose()
    return url


def clear(url: str) -> None:
    """Delete all rows, and let numbers begin with 1 again."""
    engine = sa.create_engine(database.parse_url(url), poolclass=NullPool)
    with engine.begin() as db:
        names = [name for name in table_names(db) if name not in KEPT]
        used = " UNION ALL ".join(f"SELECT '{name}' FROM {name} HAVING count(*) > 0" for name in names)
        filled = set(db.scalars(sa.text(used)))
        for name in names:
            if name in filled:
                db.execute(sa.text(f"DELETE FROM {name}"))
        if db.dialect.name == "postgresql":
            sequences = db.scalars(sa.text("SELECT sequencename FROM pg_sequences")).all()
            db.execute(sa.text("; ".join(f"ALTER SEQUENCE {name} RESTART" for name in sequences)))
        else:
            for name in filled:
                db.execute(sa.text(f"ALTER TABLE {name} AUTO_INCREMENT = 1"))


ORDERED: list[str] = []  # the tables, those that refer to others first


def table_names(db: sa.Connection) -> list[str]:
    if not ORDERED:
        metadata = sa.MetaData()
        metadata.reflect(db)
        ORDERED.extend(table.name for table in reversed(metadata.sorted_tables))
    return ORDERED


@pytest.fixture(scope="session")
def prepared_postgres(request: pytest.FixtureRequest) -> PreparedDatabases:
    return PreparedDatabases(request.getfixturevalue("postgres").fresh)


@pytest.fixture(scope="session")
def prepared_mariadb(request: pytest.FixtureRequest) -> PreparedDatabases:
    return PreparedDatabases(request.getfixturevalue("mariadb").fresh)


def provide(request: pytest.FixtureRequest, kind: str, folder: Path) -> Iterator[str]:
    """Provide the URL of a prepared database of this kind."""
    if kind == "sqlite":
        prepare_file(folder / "tuner.db")
        yield f"sqlite:///{folder / 'tuner.db'}"
        return
    with request.getfixturevalue("prepared_postgres" if kind == "postgresql" else "prepared_mariadb").one() as url:
        yield url
