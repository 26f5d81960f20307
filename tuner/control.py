"""What a person asks of all workers of a study, wherever they are: stop, pause, go on, more, less."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from tuner.database import retried
from tuner.errors import StudyError
from tuner.tables import claim_table, study_table, trials, worker_table

OPEN = ("RUNNING", "WAITING")


@dataclass(frozen=True)
class Standing:
    """What was asked of a study's workers. A worker leaves when `stops` is more than it was at its beginning."""

    stops: int
    paused: bool


@dataclass(frozen=True)
class Budget:
    """How much a study may take in all; None is no limit."""

    num_trials: int | None = None
    hours: float | None = None
    gpu_hours: float | None = None

    @property
    def is_limited(self) -> bool:
        return any(limit is not None for limit in vars(self).values())


@dataclass(frozen=True)
class Spent:
    """How much of its budget a study has taken."""

    num_trials: int
    hours: float
    gpu_hours: float


@dataclass(frozen=True)
class Account:
    """A study and its budget. `holders`: workers that hold GPU-hours; of those that share a GPU, one."""

    budget: Budget
    spent: Spent
    paused: bool
    holders: int


def standing(engine: Engine, study_id: int) -> Standing:
    with engine.connect() as db:
        return read_standing(db, study_id)


def read_standing(db: Connection, study_id: int) -> Standing:
    query = sa.select(study_table.c.stops, study_table.c.paused).where(study_table.c.study_id == study_id)
    row = db.execute(query).first()
    return Standing(row.stops, bool(row.paused)) if row else Standing(0, False)


@retried
def stop_all(engine: Engine, study_id: int) -> int:
    """Tell every worker to save, put its trial back and leave; how many there are."""
    change(engine, study_id, stops=study_table.c.stops + 1, paused=0)
    return num_workers(engine, study_id)


@retried
def pause(engine: Engine, study_id: int, paused: bool) -> int:
    """Tell every worker to save, put its trial back and wait, or to go on; how many there are."""
    change(engine, study_id, paused=int(paused))
    return num_workers(engine, study_id)


def change(engine: Engine, study_id: int, **values: object) -> None:
    with engine.begin() as db:
        db.execute(sa.update(study_table).where(study_table.c.study_id == study_id).values(**values))


def num_workers(engine: Engine, study_id: int) -> int:
    query = sa.select(sa.func.count()).where(worker_table.c.study_id == study_id)
    with engine.connect() as db:
        return db.scalar(query) or 0


@retried
def stop_trial(engine: Engine, study_id: int, number: int) -> None:
    """Have a trial ended as it stands, by the worker that trains it or the next one that takes it up."""
    mine = (trials.c.study_id == study_id) & (trials.c.number == number)
    with engine.begin() as db:
        row = db.execute(sa.select(trials.c.trial_id, trials.c.state).where(mine)).first()
        if row is None:
            last = db.scalar(sa.select(sa.func.max(trials.c.number)).where(trials.c.study_id == study_id))
            known = "it has none yet" if last is None else f"it has 0 to {last}"
            raise StudyError(f"the study has no trial {number}: {known}.")
        if row.state not in OPEN:
            raise StudyError(f"trial {number} has ended already ({row.state.lower()}); there is nothing to stop.")
        claim = sa.update(claim_table).where(claim_table.c.trial_id == row.trial_id).values(wanted="stop")
        if not db.execute(claim).rowcount:
            raise StudyError(f"trial {number} has not begun yet; there is nothing to stop.")


def budget(engine: Engine, study_id: int) -> Budget:
    query = sa.select(study_table.c.num_trials, study_table.c.hours, study_table.c.gpu_hours)
    with engine.connect() as db:
        row = db.execute(query.where(study_table.c.study_id == study_id)).first()
    return Budget(*row) if row else Budget()


@retried
def set_budget(engine: Engine, study_id: int, **limits: float | int | None) -> None:
    """Change the limits that are given; the others stay. What has begun goes on, also beyond a lower limit."""
    given = {name: limit for name, limit in limits.items() if limit is not None}
    if given:
        change(engine, study_id, **given)


def spent(engine: Engine, study_id: int) -> Spent:
    """What was taken so far. Of the GPU-hours, what workers hold and have not used yet is not counted."""
    with engine.connect() as db:
        return account(db, study_id).spent


def account(db: Connection, study_id: int) -> Account:
    """All that limits a study and how far it is, in one query."""
    work = worker_table.c.study_id == study_id
    claimed = sa.select(sa.func.count()).where(claim_table.c.study_id == study_id).scalar_subquery()
    held = sa.select(sa.func.coalesce(sa.func.sum(worker_table.c.granted - worker_table.c.used), 0.0)).where(work)
    holders = sa.select(sa.func.count()).where(work, worker_table.c.granted > 0).scalar_subquery()
    query = sa.select(
        study_table,
        claimed.label("claimed"),
        (study_table.c.gpu_seconds - held.scalar_subquery()).label("used"),
        holders.label("holders"),
    )
    row = db.execute(query.where(study_table.c.study_id == study_id)).first()
    if row is None:
        return Account(Budget(), Spent(0, 0.0, 0.0), False, 0)
    budget = Budget(row.num_trials, row.hours, row.gpu_hours)
    return Account(
        budget, Spent(row.claimed, row.clock_seconds / 3600, row.used / 3600), bool(row.paused), row.holders
    )
