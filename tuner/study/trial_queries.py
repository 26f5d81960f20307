"""Read the trials of a study without Optuna, whose tables are only read here."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from tuner.goal import Goal
from tuner.study.info import StudyInfo
from tuner.study.tables import (
    trial_attrs,
    trial_params,
    trial_values,
    trials,
)

FINISHED = ("COMPLETE", "PRUNED", "FAIL")
EXTENDS = "goes_on_from"  # the attribute of a trial that names the earlier one


@dataclass(frozen=True)
class Trial:
    """One trial with its parameters and what was noted on it."""

    id: int
    number: int
    state: str
    value: float | None
    params: dict[str, Any]
    attrs: dict[str, Any]


def read_best_trial(db: Connection, info: StudyInfo) -> Trial | None:
    """The finished trial with the best value; the earlier one of two equals."""
    found = db.scalar(select_best(info.id, info.goal, trials.c.trial_id))
    return None if found is None else next(iter(read_trials_by_id(db, [found])))


def read_best_value(engine: Engine, study_id: int, goal: Goal) -> float | None:
    """The value of the best finished trial, if there is one."""
    with engine.connect() as db:
        return db.scalar(select_best(study_id, goal, trial_values.c.value))


def select_best(study_id: int, goal: Goal, column: sa.Column[Any]) -> sa.Select[Any]:
    """A column of the best finished trial."""
    order = trial_values.c.value.desc() if goal.direction == "maximize" else trial_values.c.value.asc()
    return (
        sa.select(column)
        .join(trial_values, trial_values.c.trial_id == trials.c.trial_id)
        .where(trials.c.study_id == study_id, trials.c.state == "COMPLETE", trial_values.c.value_type == "FINITE")
        .order_by(order, trials.c.number)
        .limit(1)
    )


def read_trials_by_id(db: Connection, ids: list[int]) -> Iterable[Trial]:
    """These trials, in the order of their numbers."""
    rows = db.execute(
        sa.select(trials.c.trial_id, trials.c.number, trials.c.state, trial_values.c.value)
        .join(trial_values, trial_values.c.trial_id == trials.c.trial_id, isouter=True)
        .where(trials.c.trial_id.in_(ids))
        .order_by(trials.c.number)
    ).all()
    chosen: dict[int, dict[str, Any]] = {}
    query = sa.select(trial_params).where(trial_params.c.trial_id.in_(ids))
    for row in db.execute(query.order_by(trial_params.c.param_id)):  # as the space chose them
        value = decode_param(row.param_value, json.loads(row.distribution_json))
        chosen.setdefault(row.trial_id, {})[row.param_name] = value
    notes: dict[int, dict[str, Any]] = {}
    for row in db.execute(sa.select(trial_attrs).where(trial_attrs.c.trial_id.in_(ids))):
        notes.setdefault(row.trial_id, {})[row.key] = json.loads(row.value_json)
    for trial_id, number, state, value in rows:
        yield Trial(trial_id, number, state, value, chosen.get(trial_id, {}), notes.get(trial_id, {}))


def read_trials(engine: Engine, info: StudyInfo) -> list[Trial]:
    """Every trial of a study, in the order of their numbers."""
    with engine.connect() as db:
        ids = list(db.scalars(sa.select(trials.c.trial_id).where(trials.c.study_id == info.id)))
        return list(read_trials_by_id(db, ids))


def decode_param(value: float, distribution: dict[str, Any]) -> Any:
    """Optuna stores a choice as its place in the list, and whole numbers as floats."""
    if "choices" in distribution["attributes"]:
        return distribution["attributes"]["choices"][int(value)]
    return int(value) if distribution["name"].startswith("Int") else value


def read_finished_ids(db: Connection, study_id: int) -> set[int]:
    query = sa.select(trials.c.trial_id).where(trials.c.study_id == study_id, trials.c.state.in_(FINISHED))
    return set(db.scalars(query))


def read_values(engine: Engine, study_id: int) -> list[float]:
    """The values of all completed trials."""
    query = (
        sa.select(trial_values.c.value)
        .join(trials, trial_values.c.trial_id == trials.c.trial_id)
        .where(trials.c.study_id == study_id, trials.c.state == "COMPLETE", trial_values.c.value_type == "FINITE")
    )
    with engine.connect() as db:
        return [float(value) for value in db.scalars(query)]
