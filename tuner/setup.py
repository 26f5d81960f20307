"""`tuner init`: the tables of a database, made before anybody works."""

from __future__ import annotations

import optuna
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from tuner import database, overview, tables
from tuner.errors import some
from tuner.storage import open_storage


def init(url: str) -> list[str]:
    """Make all tables, once, under a lock, and tell in lines what is there now.

    Whoever comes second, on this host or another, waits and finds them made. A database that holds another
    program's tables, or those of another version, is refused before a change.
    """
    _, engine = open_storage(url)
    try:
        with database.told(url):
            return [f"{database.shown(url)} is ready: {server(engine)}", versions(engine), studies(engine)]
    finally:
        engine.dispose()


def server(engine: Engine) -> str:
    """What kind of database it is, and which version."""
    with engine.connect() as db:
        number = ".".join(str(part) for part in db.dialect.server_version_info or ())
    return f"{'mariadb' if getattr(engine.dialect, 'is_mariadb', False) else engine.dialect.name} {number}"


def versions(engine: Engine) -> str:
    """Of the tables, and of who works on them here."""
    with engine.connect() as db:
        schema = db.scalar(sa.text("SELECT version_num FROM alembic_version"))
    number, made_by = tables.schema(engine) or (tables.SCHEMA, "another tuner")
    optunas = f"schema {schema} (Optuna {optuna.__version__})"
    return f"tables: Optuna's of {optunas}, tuner's of schema {number} (made by {made_by})"


def studies(engine: Engine) -> str:
    """The studies in it, by name."""
    names = [study.name for study in overview.all_studies(engine)]
    return f"studies: {some(names, 8)}" if names else "studies: none yet. Begin one: tuner run --space unet_k"
