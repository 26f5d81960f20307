"""Read a study without Optuna: a handful of small queries that stay fast however many trials there are.

Optuna's tables are only read here. `status`, `best` and the live view stand on this module.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from tuner.errors import StudyError, near
from tuner.goal import Goal
from tuner.study.info import StudyInfo
from tuner.study.tables import (
    claim_table,
    epoch_table,
    studies,
    study_attrs,
    study_table,
    trial_attrs,
    trial_params,
    trial_values,
    trials,
    worker_table,
)

FINISHED = ("COMPLETE", "PRUNED", "FAIL")
GOES_ON_FROM = "goes_on_from"  # the attribute of a trial that names the earlier one


@dataclass(frozen=True)
class Trial:
    """One trial with its parameters and what was noted on it."""

    id: int
    number: int
    state: str
    value: float | None
    params: dict[str, Any]
    notes: dict[str, Any]


@dataclass(frozen=True)
class Worker:
    """A living worker's row."""

    worker: str
    host: str
    pid: int
    born: float
    device: str
    beats: int
    state: str
    number: int | None
    step: int
    steps: int
    value: float | None
    params: dict[str, Any] | None
    machine: str = ""
    peak_memory: int = 0  # bytes


@dataclass(frozen=True)
class Overview:
    """A study at a glance."""

    study: StudyInfo
    num_trials: int | None
    states: dict[str, int]
    put_back: int
    best: Trial | None
    workers: tuple[Worker, ...]

    @property
    def finished(self) -> int:
        return sum(self.states.get(state, 0) for state in FINISHED)


def all_studies(engine: Engine) -> list[StudyInfo]:
    """Every study that tuner made, the one with the newest trial first."""
    newest = sa.select(sa.func.max(trials.c.trial_id)).where(trials.c.study_id == studies.c.study_id)
    query = (
        sa.select(studies.c.study_id, studies.c.study_name, study_attrs.c.value_json)
        .join(study_attrs, study_attrs.c.study_id == studies.c.study_id)
        .where(study_attrs.c.key == "tuner")
        .order_by(sa.func.coalesce(newest.scalar_subquery(), 0).desc(), studies.c.study_id.desc())
    )
    if not sa.inspect(engine).has_table("studies"):
        return []
    with engine.connect() as db:
        return [StudyInfo.from_json(id, name, json.loads(text)) for id, name, text in db.execute(query)]


def find_study(engine: Engine, name: str | None) -> StudyInfo:
    """The study of that name, or the one that was worked on last."""
    known = all_studies(engine)
    if not known:
        raise StudyError("no study yet. Begin one with: tuner run --space unet_k")
    if name is None:
        return known[0]
    for info in known:
        if info.name == name:
            return info
    names = [info.name for info in known]
    raise StudyError(f"no study '{name}'.{near(name, names)} Known: {', '.join(names)}.")


def overview(engine: Engine, info: StudyInfo) -> Overview:
    """What a person wants to see of a study now."""
    with engine.connect() as db:
        counted = db.execute(
            sa.select(trials.c.state, sa.func.count()).where(trials.c.study_id == info.id).group_by(trials.c.state)
        )
        states = {str(state): int(number) for state, number in counted}
        back = sa.select(sa.func.count()).where(
            claim_table.c.study_id == info.id,
            claim_table.c.worker.is_(None),
            claim_table.c.trial_id.is_not(None),
        )
        return Overview(
            study=info,
            num_trials=db.scalar(sa.select(study_table.c.num_trials).where(study_table.c.study_id == info.id)),
            states=states,
            put_back=db.scalar(back) or 0,
            workers=read_workers(db, info),
            best=best_trial(db, info),
        )


def read_workers(db: Connection, info: StudyInfo) -> tuple[Worker, ...]:
    rows = db.execute(
        sa.select(*[worker_table.c[name] for name in Worker.__dataclass_fields__])
        .where(worker_table.c.study_id == info.id)
        .order_by(worker_table.c.host, worker_table.c.born)
    )
    return tuple(Worker(*row) for row in rows)


def workers_of(engine: Engine, info: StudyInfo) -> tuple[Worker, ...]:
    with engine.connect() as db:
        return read_workers(db, info)


def best_trial(db: Connection, info: StudyInfo) -> Trial | None:
    """The finished trial with the best value; the earlier one of two equals."""
    found = db.scalar(ranked(info.id, info.goal, trials.c.trial_id))
    return None if found is None else next(iter(read_trials(db, [found])))


def best_value(engine: Engine, study_id: int, goal: Goal) -> float | None:
    """The value of the best finished trial, if there is one."""
    with engine.connect() as db:
        return db.scalar(ranked(study_id, goal, trial_values.c.value))


def ranked(study_id: int, goal: Goal, column: sa.Column[Any]) -> sa.Select[Any]:
    """A column of the best finished trial."""
    order = trial_values.c.value.desc() if goal.direction == "maximize" else trial_values.c.value.asc()
    return (
        sa.select(column)
        .join(trial_values, trial_values.c.trial_id == trials.c.trial_id)
        .where(trials.c.study_id == study_id, trials.c.state == "COMPLETE", trial_values.c.value_type == "FINITE")
        .order_by(order, trials.c.number)
        .limit(1)
    )


def read_trials(db: Connection, ids: list[int]) -> Iterable[Trial]:
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
        value = as_chosen(row.param_value, json.loads(row.distribution_json))
        chosen.setdefault(row.trial_id, {})[row.param_name] = value
    notes: dict[int, dict[str, Any]] = {}
    for row in db.execute(sa.select(trial_attrs).where(trial_attrs.c.trial_id.in_(ids))):
        notes.setdefault(row.trial_id, {})[row.key] = json.loads(row.value_json)
    for trial_id, number, state, value in rows:
        yield Trial(trial_id, number, state, value, chosen.get(trial_id, {}), notes.get(trial_id, {}))


def trials_of(engine: Engine, info: StudyInfo) -> list[Trial]:
    """Every trial of a study, in the order of their numbers."""
    with engine.connect() as db:
        ids = list(db.scalars(sa.select(trials.c.trial_id).where(trials.c.study_id == info.id)))
        return list(read_trials(db, ids))


def as_chosen(value: float, distribution: dict[str, Any]) -> Any:
    """Optuna stores a choice as its place in the list, and whole numbers as floats."""
    if "choices" in distribution["attributes"]:
        return distribution["attributes"]["choices"][int(value)]
    return int(value) if distribution["name"].startswith("Int") else value


def finished_ids(db: Connection, study_id: int) -> set[int]:
    query = sa.select(trials.c.trial_id).where(trials.c.study_id == study_id, trials.c.state.in_(FINISHED))
    return set(db.scalars(query))


def values_of(engine: Engine, study_id: int) -> list[float]:
    """The values of all completed trials."""
    query = (
        sa.select(trial_values.c.value)
        .join(trials, trial_values.c.trial_id == trials.c.trial_id)
        .where(trials.c.study_id == study_id, trials.c.state == "COMPLETE", trial_values.c.value_type == "FINITE")
    )
    with engine.connect() as db:
        return [float(value) for value in db.scalars(query)]


def history(engine: Engine, trial_id: int) -> list[dict[str, Any]]:
    """Every recorded epoch of a trial, in order, as flat rows."""
    query = sa.select(epoch_table).where(epoch_table.c.trial_id == trial_id).order_by(epoch_table.c.epoch)
    with engine.connect() as db:
        rows = [dict(row) for row in db.execute(query).mappings()]
    return [flat(row) for row in rows]


def flat(row: dict[str, Any]) -> dict[str, Any]:
    """An epoch with its metrics beside everything else."""
    return {name: value for name, value in row.items() if name not in ("metrics", "trial_id")} | row["metrics"]


def recorded(engine: Engine, trial_id: int) -> set[int]:
    """The epochs of a trial that are recorded."""
    with engine.connect() as db:
        return set(db.scalars(sa.select(epoch_table.c.epoch).where(epoch_table.c.trial_id == trial_id)))


def new_epochs(db: Connection, study_id: int, seen: dict[int, int]) -> list[tuple[int, int, int, float]]:
    """(trial id, number, epoch, value) of epochs beyond those seen, of trials that run now."""
    query = (
        sa.select(epoch_table.c.trial_id, trials.c.number, epoch_table.c.epoch, epoch_table.c.value)
        .join(trials, trials.c.trial_id == epoch_table.c.trial_id)
        .join(claim_table, claim_table.c.trial_id == epoch_table.c.trial_id)
        .where(trials.c.study_id == study_id, trials.c.state == "RUNNING", claim_table.c.worker.is_not(None))
        .where(epoch_table.c.value.is_not(None))  # between two validations there is nothing to tell
        .order_by(epoch_table.c.epoch)
    )
    return [tuple(row) for row in db.execute(query) if row[2] > seen.get(row[0], 0)]


def curves_of(db: Connection, study_id: int, numbers: Iterable[int]) -> dict[int, list[tuple[int, float]]]:
    """(epoch, value) of every epoch of these trials that was validated, in order, by the trials' numbers."""
    query = (
        sa.select(trials.c.number, epoch_table.c.epoch, epoch_table.c.value)
        .join(trials, trials.c.trial_id == epoch_table.c.trial_id)
        .where(trials.c.study_id == study_id, trials.c.number.in_(list(numbers)), epoch_table.c.value.is_not(None))
        .order_by(epoch_table.c.epoch)
    )
    found: dict[int, list[tuple[int, float]]] = {}
    for number, epoch, value in db.execute(query):
        found.setdefault(number, []).append((epoch, value))
    return found


def is_there(engine: Engine, info: StudyInfo) -> bool:
    """Whether a study was not deleted since; SQLite gives the id of a deleted one to the next."""
    with engine.connect() as db:
        return db.scalar(sa.select(studies.c.study_name).where(studies.c.study_id == info.id)) == info.name


def open_epochs(db: Connection, study_id: int) -> list[tuple[int, int, float]]:
    """(trial id, epoch, value) of what is recorded of trials that have not ended, in order."""
    query = (
        sa.select(epoch_table.c.trial_id, epoch_table.c.epoch, epoch_table.c.value)
        .join(trials, trials.c.trial_id == epoch_table.c.trial_id)
        .where(trials.c.study_id == study_id, trials.c.state.not_in(FINISHED), epoch_table.c.value.is_not(None))
        .order_by(epoch_table.c.epoch)
    )
    return [(trial_id, epoch, value) for trial_id, epoch, value in db.execute(query)]
