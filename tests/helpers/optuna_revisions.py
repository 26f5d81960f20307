"""New SQLite databases in less time: Optuna's revisions are loaded once, files with all tables are copied."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

import alembic.util


def load_once() -> None:
    """Have each revision loaded once in this process."""
    if not hasattr(alembic.util.load_python_file, "cache_info"):
        alembic.util.load_python_file = cache(alembic.util.load_python_file)


@cache
def prepared_bytes() -> bytes:
    """Return an SQLite database with all tables and no rows, made once for this process and its forks."""
    from tuner.study.storage import open_storage

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tuner.db"
        open_storage(f"sqlite:///{path}")[1].dispose()
        return path.read_bytes()


def prepare_file(path: Path) -> None:
    """Write a database with all tables, if there is none: making them takes longer than copying them."""
    if not path.exists():
        path.write_bytes(prepared_bytes())
