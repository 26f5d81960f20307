"""Read the recorded epochs of trials without importing Optuna."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from tuner.study.optuna_tables import trials
from tuner.study.tables import epoch_table
from tuner.study.trial_queries import OPEN


def read_epochs(engine: Engine, trial_id: int) -> list[dict[str, Any]]:
    """Return every recorded epoch of a trial as a flat row, in order."""
    query = sa.select(epoch_table).where(epoch_table.c.trial_id == trial_id).order_by(epoch_table.c.epoch)
    with engine.connect() as db:
        return [flatten_epoch(dict(row)) for row in db.execute(query).mappings()]


def read_study_epochs(db: Connection, study_id: int) -> dict[int, list[dict[str, Any]]]:
    """Return every recorded epoch of a study as flat rows, in order, by trial id."""
    query = sa.select(epoch_table).join(trials, trials.c.trial_id == epoch_table.c.trial_id)
    query = query.where(trials.c.study_id == study_id).order_by(epoch_table.c.trial_id, epoch_table.c.epoch)
    epochs: dict[int, list[dict[str, Any]]] = {}
    for row in db.execute(query).mappings():
        epochs.setdefault(row["trial_id"], []).append(flatten_epoch(dict(row)))
    return epochs


def flatten_epoch(row: dict[str, Any]) -> dict[str, Any]:
    """Return the row of an epoch with its metrics as columns of their own."""
    return {name: value for name, value in row.items() if name not in ("metrics", "trial_id")} | row["metrics"]


def read_recorded_epochs(engine: Engine, trial_id: int) -> set[int]:
    with engine.connect() as db:
        return set(db.scalars(sa.select(epoch_table.c.epoch).where(epoch_table.c.trial_id == trial_id)))


def select_validated_epochs(study_id: int, *columns: sa.Column[Any]) -> sa.Select[Any]:
    """Select these columns, the epoch and its value of every validated epoch of a study, in order."""
    return (
        sa.select(*columns, epoch_table.c.epoch, epoch_table.c.value)
        .join(trials, trials.c.trial_id == epoch_table.c.trial_id)
        .where(trials.c.study_id == study_id, epoch_table.c.value.is_not(None))  # NULL without validation
        .order_by(epoch_table.c.epoch)
    )


def read_open_epochs(
    db: Connection, study_id: int, states: Sequence[str] = OPEN
) -> list[tuple[int, int, int, float]]:
    """Return (trial id, number, epoch, value) of every validated epoch of trials in these states, in order."""
    query = select_validated_epochs(study_id, trials.c.trial_id, trials.c.number)
    return [tuple(row) for row in db.execute(query.where(trials.c.state.in_(states)))]


def read_curves(db: Connection, study_id: int, numbers: Iterable[int]) -> dict[int, list[tuple[int, float]]]:
    """Return (epoch, value) of every validated epoch, in order, by trial number."""
    query = select_validated_epochs(study_id, trials.c.number).where(trials.c.number.in_(list(numbers)))
    found: dict[int, list[tuple[int, float]]] = {}
    for number, epoch, value in db.execute(query):
        found.setdefault(number, []).append((epoch, value))
    return found
