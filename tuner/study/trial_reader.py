"""Read trials as Optuna's objects with two SQL statements.

Optuna uses seven statements and an ORM object for each row: ten round trips, and seconds for thousands of trials.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from optuna.distributions import BaseDistribution, json_to_distribution
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.engine import Connection, Engine

from tuner.study.database import retried
from tuner.study.optuna_tables import (
    studies,
    trial_attrs,
    trial_params,
    trial_steps,
    trial_system_attrs,
    trial_values,
    trials,
)
from tuner.study.paused import MARK
from tuner.study.tables import claim_table

MAX_IDS = 500  # listed in a statement; the details of more trials are read by the condition on the trials
NON_FINITE = {"INF_POS": math.inf, "INF_NEG": -math.inf, "NAN": math.nan}
parse_distribution: Callable[[str], BaseDistribution] = lru_cache(maxsize=1024)(json_to_distribution)


@retried
def read_trials(engine: Engine, study_id: int, ids: Iterable[int] = (), beyond: int = -1) -> list[FrozenTrial]:
    """Return the trials with these ids and all with an id above `beyond`, by id; KeyError without such a study."""
    wanted = trials.c.trial_id > beyond
    if named := [trial_id for trial_id in ids if trial_id <= beyond]:
        wanted |= trials.c.trial_id.in_(named)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as db:
        found = select_trials(db, (trials.c.study_id == study_id) & wanted)
        if not found and not db.scalar(sa.select(sa.exists().where(studies.c.study_id == study_id))):
            raise KeyError(f"no study with the id {study_id}")
    return found


@retried
def read_trial(engine: Engine, trial_id: int) -> FrozenTrial:
    """Return one trial; KeyError if there is none with this id."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as db:
        for trial in select_trials(db, trials.c.trial_id == trial_id):
            return trial
    raise KeyError(f"no trial with the id {trial_id}")


def select_trials(db: Connection, wanted: sa.ColumnElement[bool]) -> list[FrozenTrial]:
    """Read trials in two statements, by id.

    The rows of the trials are read first, their parameters, values and attributes second. So nothing is missing
    from a trial that is finished in the first: all of it was written before. A paused trial is marked by a system
    attribute.
    """
    claimed = trials.join(claim_table, claim_table.c.trial_id == trials.c.trial_id, isouter=True)
    query = sa.select(trials, claim_table.c.paused_at, claim_table.c.attempt).select_from(claimed)
    rows = db.execute(query.where(wanted).order_by(trials.c.trial_id)).all()
    found = {
        row.trial_id: make_trial(row.trial_id, row.number, row.state, row.datetime_start, row.datetime_complete)
        for row in rows
    }
    if found:
        these = list(found) if len(found) <= MAX_IDS else sa.select(trials.c.trial_id).where(wanted)
        for row in sorted(db.execute(select_details(these)).all(), key=lambda row: row.at):
            if trial := found.get(row.trial_id):  # the second statement may see a trial that the first did not
                add_detail(trial, row)
        for row in rows:
            if row.paused_at is not None and row.state == "PRUNED":
                found[row.trial_id].system_attrs[MARK] = {"epoch": row.paused_at, "attempt": row.attempt}
    return list(found.values())


def make_trial(
    trial_id: int, number: int, state: str, started: datetime | None, ended: datetime | None = None
) -> FrozenTrial:
    """Return a trial without parameters, values and attributes. Times are given in UTC."""
    return FrozenTrial(
        number=number,
        state=TrialState[state],
        value=None,
        datetime_start=to_local_time(started),
        datetime_complete=to_local_time(ended),
        params={},
        distributions={},
        user_attrs={},
        system_attrs={},
        intermediate_values={},
        trial_id=trial_id,
    )


def to_local_time(stored: datetime | None) -> datetime | None:
    """Return a time, which is stored in UTC, in local time as Optuna does."""
    return stored and stored.replace(tzinfo=UTC).astimezone().replace(tzinfo=None)


def select_details(ids: Any) -> sa.CompoundSelect[Any]:
    """Select what belongs to these trials as rows of one shape: kind, position, name, number, text."""
    none: Any = sa.null()

    def part(kind: str, table: sa.Table, *columns: Any) -> sa.Select[Any]:
        names = ("at", "name", "number", "text")
        labelled = [column.label(name) for column, name in zip(columns, names, strict=True)]
        return sa.select(table.c.trial_id, sa.literal_column(f"'{kind}'").label("kind"), *labelled).where(
            table.c.trial_id.in_(ids)
        )

    def text(column: Any) -> Any:
        return sa.cast(column, sa.Text)

    p, v, s, u, a = trial_params.c, trial_values.c, trial_steps.c, trial_attrs.c, trial_system_attrs.c
    return sa.union_all(
        part("param", trial_params, p.param_id, p.param_name, p.param_value, p.distribution_json),
        part("value", trial_values, v.objective, none, v.value, text(v.value_type)),
        part("step", trial_steps, s.step, none, s.intermediate_value, text(s.intermediate_value_type)),
        part("attr", trial_attrs, u.trial_user_attribute_id, u.key, none, u.value_json),
        part("system", trial_system_attrs, a.trial_system_attribute_id, a.key, none, a.value_json),
    )


def add_detail(trial: FrozenTrial, row: sa.Row[Any]) -> None:
    """Add a row of `select_details` to its trial."""
    if row.kind == "step":
        trial.intermediate_values[row.at] = NON_FINITE.get(row.text, row.number)
    elif row.kind == "param":
        distribution = parse_distribution(row.text)
        trial.params[row.name] = distribution.to_external_repr(row.number)
        trial.distributions[row.name] = distribution
    elif row.kind == "value":
        trial.values = [*(trial.values or []), NON_FINITE.get(row.text, row.number)]
    elif row.kind == "attr":
        trial.user_attrs[row.name] = json.loads(row.text)
    else:
        trial.system_attrs[row.name] = json.loads(row.text)
