"""Trials read into memory with two plain statements: what a sampler needs before each draw, whatever the distance.

Optuna reads the same with seven statements and an object a row: ten round trips, and seconds for thousands of
trials.
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

from tuner.study.optuna_tables import (
    studies,
    trial_attrs,
    trial_params,
    trial_steps,
    trial_system_attrs,
    trial_values,
    trials,
)

MOST_IDS = 500  # named one by one in a statement; beyond, the whole study is read
ODD = {"INF_POS": math.inf, "INF_NEG": -math.inf, "NAN": math.nan}
distribution_of: Callable[[str], BaseDistribution] = lru_cache(maxsize=1024)(json_to_distribution)


def read_trials(engine: Engine, study_id: int, ids: Iterable[int] = (), beyond: int = -1) -> list[FrozenTrial]:
    """The trials of these ids, and all whose id is greater than `beyond`, in the order of their ids.

    KeyError when there is no such study. The trials come first and what stands on them second, so that of a
    trial that is finished here nothing is missing: what is finished was written before.
    """
    wanted = trials.c.trial_id > beyond
    if named := [trial_id for trial_id in ids if trial_id <= beyond]:
        wanted |= trials.c.trial_id.in_(named)
    mine = (trials.c.study_id == study_id) & wanted
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as db:
        rows = db.execute(sa.select(trials).where(mine).order_by(trials.c.trial_id)).all()
        if not rows:
            refuse_absent(db, study_id)
            return []
        found = {
            row.trial_id: make_trial(
                row.trial_id,
                row.number,
                TrialState[row.state],
                local(row.datetime_start),
                local(row.datetime_complete),
            )
            for row in rows
        }
        these = list(found) if len(found) <= MOST_IDS else sa.select(trials.c.trial_id).where(mine)
        for row in sorted(db.execute(details(these)).all(), key=lambda row: row.at):
            if trial := found.get(row.trial_id):  # of one that began meanwhile, not its row but these are there
                put(trial, row)
    return list(found.values())


def refuse_absent(db: Connection, study_id: int) -> None:
    if db.scalar(sa.select(studies.c.study_id).where(studies.c.study_id == study_id)) is None:
        raise KeyError(f"there is no study of the id {study_id} any more")


def make_trial(
    trial_id: int, number: int, state: TrialState, started: datetime | None, ended: datetime | None
) -> FrozenTrial:
    """Return a trial without parameters, values and attributes. Times are local, as Optuna returns them."""
    return FrozenTrial(
        number=number,
        state=state,
        value=None,
        datetime_start=started,
        datetime_complete=ended,
        params={},
        distributions={},
        user_attrs={},
        system_attrs={},
        intermediate_values={},
        trial_id=trial_id,
    )


def local(written: datetime | None) -> datetime | None:
    """A time as Optuna gives it: by this host's clock on the wall. It is written in UTC."""
    return written and written.replace(tzinfo=UTC).astimezone().replace(tzinfo=None)


def details(these: Any) -> sa.CompoundSelect[Any]:
    """All that stands on these trials, as rows of one shape: what kind, where in its order, key, number, text."""
    none: Any = sa.null()

    def part(kind: str, table: sa.Table, *columns: Any) -> sa.Select[Any]:
        names = ("at", "name", "number", "text")
        shown = [column.label(name) for column, name in zip(columns, names, strict=True)]
        return sa.select(table.c.trial_id, sa.literal_column(f"'{kind}'").label("kind"), *shown).where(
            table.c.trial_id.in_(these)
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


def put(trial: FrozenTrial, row: sa.Row[Any]) -> None:
    """One row of the details, where Optuna has it."""
    if row.kind == "step":
        trial.intermediate_values[row.at] = ODD.get(row.text, row.number)
    elif row.kind == "param":
        kind = distribution_of(row.text)
        trial.params[row.name] = kind.to_external_repr(row.number)
        trial.distributions[row.name] = kind
    elif row.kind == "value":
        trial.values = [*(trial.values or []), ODD.get(row.text, row.number)]
    elif row.kind == "attr":
        trial.user_attrs[row.name] = json.loads(row.text)
    else:
        trial.system_attrs[row.name] = json.loads(row.text)
