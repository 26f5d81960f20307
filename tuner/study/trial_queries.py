"""Read the trials of a study without importing Optuna."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from tuner.goal import Goal
from tuner.study.info import StudyInfo
from tuner.study.optuna_tables import trial_attrs, trial_params, trial_values, trials
from tuner.study.tables import claim_table

FINISHED, OPEN = ("COMPLETE", "PRUNED", "FAIL"), ("RUNNING", "WAITING")  # states
CLAIMED = claim_table.join(trials, trials.c.trial_id == claim_table.c.trial_id)
IS_FIRST = trial_values.c.objective == 0  # the value of the first goal
PAUSED = "PAUSED"  # what summaries and reports call a PRUNED trial that may go on
OVER_LIMIT = "over_limit"  # attribute of a PRUNED trial that broke a limit: which
BROKE_LIMIT = "OVER_LIMIT"  # what summaries and reports call such a trial
EXTENDS = "goes_on_from"  # attribute of a trial in an extension study: which trial it extends
TOOK_OVER = "took_over"  # attribute of such a trial once it has copies of all files of that trial


@dataclass(frozen=True)
class TrialInfo:
    """A trial with its parameters and attributes."""

    id: int
    number: int
    state: str
    value: float | None
    params: dict[str, Any]
    attrs: dict[str, Any]
    paused_at: int | None = None  # the epoch after which it rests, if it may go on


def read_best_trial(db: Connection, info: StudyInfo) -> TrialInfo | None:
    """Return the complete trial with the best value; of two with equal values, the earlier one."""
    found = db.scalar(select_best(info.id, info.goal, trials.c.trial_id))
    return None if found is None else next(iter(read_trials_by_id(db, [found])), None)


def read_best_value(engine: Engine, study_id: int, goal: Goal) -> float | None:
    with engine.connect() as db:
        return db.scalar(select_best(study_id, goal, trial_values.c.value))


def select_best(study_id: int, goal: Goal, column: sa.Column[Any]) -> sa.Select[Any]:
    order = trial_values.c.value.desc() if goal.direction == "maximize" else trial_values.c.value.asc()
    return select_complete(study_id, column).order_by(order, trials.c.number).limit(1)


def read_values(engine: Engine, study_id: int) -> list[float]:
    with engine.connect() as db:
        return list(db.scalars(select_complete(study_id, trial_values.c.value)))


def select_complete(study_id: int, column: sa.Column[Any]) -> sa.Select[Any]:
    """Select a column of all complete trials with a finite value of the first goal."""
    both = trials.join(trial_values, trial_values.c.trial_id == trials.c.trial_id)
    is_complete = (trials.c.state == "COMPLETE") & (trial_values.c.value_type == "FINITE") & IS_FIRST
    return sa.select(column).select_from(both).where(trials.c.study_id == study_id, is_complete)


def read_least(engine: Engine, info: StudyInfo) -> dict[str, float]:
    """Return the least that was measured in any trial of what the study limits."""
    query = sa.select(trial_attrs.c.key, trial_attrs.c.value_json).where(trial_attrs.c.key.in_(list(info.limits)))
    query = query.join(trials, trials.c.trial_id == trial_attrs.c.trial_id).where(trials.c.study_id == info.id)
    least: dict[str, float] = {}
    with engine.connect() as db:
        for name, text in db.execute(query):
            least[name] = min(float(json.loads(text)), least.get(name, math.inf))
    return least


def read_trials_by_id(db: Connection, ids: list[int]) -> list[TrialInfo]:
    """Return these trials in the order of their numbers."""
    rows = db.execute(
        sa.select(
            trials.c.trial_id, trials.c.number, trials.c.state, trial_values.c.value, claim_table.c.paused_at
        )
        .join(trial_values, (trial_values.c.trial_id == trials.c.trial_id) & IS_FIRST, isouter=True)
        .join(claim_table, claim_table.c.trial_id == trials.c.trial_id, isouter=True)
        .where(trials.c.trial_id.in_(ids))
        .order_by(trials.c.number)
    ).all()
    found = {row.trial_id: TrialInfo(*row[:4], {}, {}, row.paused_at) for row in rows}
    for trial_id, params in read_params(db, list(found)).items():
        found[trial_id].params.update(params)
    for row in db.execute(sa.select(trial_attrs).where(trial_attrs.c.trial_id.in_(list(found)))):
        found[row.trial_id].attrs[row.key] = json.loads(row.value_json)
    return list(found.values())


def read_trial(db: Connection, study_id: int, number: int) -> TrialInfo | None:
    """Return the trial of a study with this number, or None."""
    mine = (trials.c.study_id == study_id) & (trials.c.number == number)
    found = read_trials_by_id(db, list(db.scalars(sa.select(trials.c.trial_id).where(mine))))
    return found[0] if found else None


def read_params(db: Connection, ids: list[int]) -> dict[int, dict[str, Any]]:
    """Return the parameters of these trials by trial id, in the order in which the space suggested them."""
    found: dict[int, dict[str, Any]] = {trial_id: {} for trial_id in ids}
    query = sa.select(trial_params).where(trial_params.c.trial_id.in_(ids))
    for row in db.execute(query.order_by(trial_params.c.param_id)):
        value = decode_param(row.param_value, json.loads(row.distribution_json))
        found[row.trial_id][row.param_name] = value
    return found


def read_trials(engine: Engine, info: StudyInfo) -> list[TrialInfo]:
    """Return every trial of a study in the order of their numbers."""
    with engine.connect() as db:
        ids = list(db.scalars(sa.select(trials.c.trial_id).where(trials.c.study_id == info.id)))
        return read_trials_by_id(db, ids)


def decode_param(value: float, distribution: dict[str, Any]) -> Any:
    """Decode a stored parameter: Optuna stores a choice as its index, and an integer as a float."""
    if "choices" in distribution["attributes"]:
        return distribution["attributes"]["choices"][int(value)]
    return int(value) if distribution["name"].startswith("Int") else value


def read_ends(db: Connection, study_id: int) -> dict[int, int | None]:
    """Return all trials that are complete, pruned or failed, by id: where a paused one rests, None for others."""
    claimed = trials.join(claim_table, claim_table.c.trial_id == trials.c.trial_id, isouter=True)
    query = sa.select(trials.c.trial_id, claim_table.c.paused_at).select_from(claimed)
    rows = db.execute(query.where(trials.c.study_id == study_id, trials.c.state.in_(FINISHED)))
    return {row.trial_id: row.paused_at for row in rows}


def read_finished_ids(db: Connection, study_id: int) -> set[int]:
    """Return the ids of all trials that are complete, pruned or failed."""
    query = sa.select(trials.c.trial_id).where(trials.c.study_id == study_id, trials.c.state.in_(FINISHED))
    return set(db.scalars(query))
