"""Optuna's database revisions: modules that alembic loads anew for each new database."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

import alembic.util


def load_once() -> None:
    """Have each revision loaded once in this process."""
    if not hasattr(alembic.util.load_python_file, "cache_info"):
        alembic.util.load_python_file = cache(alembic.util.load_python_file)


def load_now() -> None:
    """Create a database, so that processes that fork from this one have loaded all that this takes."""
    from tuner.study.storage import open_storage

    with tempfile.TemporaryDirectory() as folder:
        open_storage(f"sqlite:///{Path(folder) / 'tuner.db'}")[1].dispose()
