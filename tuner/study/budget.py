"""A budget in hours, as one worker takes of it: by the clock, and of the GPUs.

GPU-hours are granted in slices before they are spent, so that all workers together never take more than there
is; what a slice leaves goes back. The hours by the clock run while anybody works, by the database's clock.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from tuner.study import claims
from tuner.study.control import update_study
from tuner.study.database import retried
from tuner.study.tables import claim_table, clock, study_table, worker_table

BEAT_SECONDS = 1.0  # how often a worker counts
SLICE_SECONDS = 20.0  # of the GPU-hours that a worker is granted at a time
LONGEST_TICK = 5.0  # between two beats of anybody, after which the study's clock counts as having stood still


class BudgetMeter:
    """What one worker was granted and has used. `share`: how many GPUs it counts as."""

    def __init__(self, engine: Engine, study_id: int, worker: str, share: float) -> None:
        self.engine, self.study_id, self.worker, self.share = engine, study_id, worker, share
        self.granted = self.used = 0.0  # GPU-seconds
        self.is_limited = False  # whether the study has a budget of GPU-hours
        self.is_spent = False  # the study's, of either kind
        self.counted_at: float | None = None  # while a trial is in hand
        self.lock = threading.Lock()

    def read_limits(self) -> None:
        """Whether there is anything to keep to."""
        limits = read_budget(self.engine, self.study_id)
        self.is_limited = limits.gpu_hours is not None and self.share > 0

    @property
    def left(self) -> float:
        return self.granted - self.used

    def count(self, busy: bool) -> None:
        """Count the time since the last call, if a trial was in hand; `busy`: whether one is from now on."""
        with self.lock:
            now = time.monotonic()
            if self.counted_at is not None:
                self.used += (now - self.counted_at) * self.share
            self.counted_at = now if busy else None

    def before_trial(self) -> None:
        if self.is_limited and self.left < claims.MIN_GPU_SECONDS:
            self.take_slice()

    def beat(self, db: Connection, study: sa.Row[Any]) -> None:
        """With every beat, in its transaction: the study's clock; and whether GPU-hours are limited."""
        self.is_limited = study.gpu_hours is not None and self.share > 0
        if study.gpu_hours is not None and not self.share:  # counted by the first worker of its GPU
            self.is_spent |= study.gpu_seconds >= 3600 * study.gpu_hours - claims.MIN_GPU_SECONDS
        if study.hours is not None:
            self.is_spent |= advance_clock(db, study)

    def after_beat(self) -> None:
        """In time for the next beat: a further slice, or the end."""
        if self.is_limited and self.counted_at is not None and self.left < 2 * BEAT_SECONDS:
            self.take_slice()
            self.is_spent |= self.left <= BEAT_SECONDS * self.share

    @retried
    def take_slice(self) -> None:
        """Take a slice of the GPU-hours that are left; what was used beyond the grants is covered first."""
        same = study_table.c.study_id == self.study_id
        mine = sa.update(worker_table).where(worker_table.c.worker == self.worker)
        with self.engine.begin() as db:
            db.execute(mine.values(used=self.used))  # locks go from worker to study, here as everywhere
            claims.lock_study(db, self.study_id)
            row = db.execute(sa.select(study_table.c.gpu_hours, study_table.c.gpu_seconds).where(same)).first()
            if row is None or row.gpu_hours is None:
                return
            wanted = SLICE_SECONDS * self.share + max(0.0, -self.left)
            size = max(0.0, min(wanted, 3600 * row.gpu_hours - row.gpu_seconds))
            db.execute(sa.update(study_table).where(same).values(gpu_seconds=study_table.c.gpu_seconds + size))
            granted = self.granted + size
            db.execute(mine.values(granted=granted))
        self.granted = granted


def advance_clock(db: Connection, study: sa.Row[Any]) -> bool:
    """Count the time since anybody's last beat, by the database's clock; whether the hours are spent now.

    Once a second for all workers together is enough. A paused study's clock stands still.
    """
    same = study_table.c.study_id == study.study_id
    now, before = sa.cast(clock(db), sa.Double), study_table.c.clock_at
    passed = sa.case(
        (before.is_(None), 0.0), (now - before > LONGEST_TICK, 0.0), (now < before, 0.0), else_=now - before
    )
    seconds = study_table.c.clock_seconds + (0.0 if study.paused else passed)
    is_time = before.is_(None) | (now - before > 0.9 * BEAT_SECONDS) | (now < before)
    db.execute(sa.update(study_table).where(same, is_time).values(clock_seconds=seconds, clock_at=now))
    spent = db.scalar(sa.select(study_table.c.clock_seconds).where(same)) or 0.0
    return bool(spent >= 3600 * study.hours)


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
class BudgetUse:
    """How much of its budget a study has taken."""

    num_trials: int
    hours: float
    gpu_hours: float


@dataclass(frozen=True)
class BudgetStatus:
    """A study and its budget. `holders`: workers that hold GPU-hours; of those that share a GPU, one."""

    budget: Budget
    spent: BudgetUse
    paused: bool
    holders: int


def read_budget(engine: Engine, study_id: int) -> Budget:
    query = sa.select(study_table.c.num_trials, study_table.c.hours, study_table.c.gpu_hours)
    with engine.connect() as db:
        row = db.execute(query.where(study_table.c.study_id == study_id)).first()
    return Budget(*row) if row else Budget()


@retried
def set_budget(engine: Engine, study_id: int, **limits: float | int | None) -> None:
    """Change the limits that are given; the others stay. What has begun goes on, also beyond a lower limit."""
    given = {name: limit for name, limit in limits.items() if limit is not None}
    if given:
        update_study(engine, study_id, **given)


def read_budget_use(engine: Engine, study_id: int) -> BudgetUse:
    """What was taken so far. Of the GPU-hours, what workers hold and have not used yet is not counted."""
    with engine.connect() as db:
        return read_budget_status(db, study_id).spent


def read_budget_status(db: Connection, study_id: int) -> BudgetStatus:
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
        return BudgetStatus(Budget(), BudgetUse(0, 0.0, 0.0), False, 0)
    budget = Budget(row.num_trials, row.hours, row.gpu_hours)
    return BudgetStatus(
        budget, BudgetUse(row.claimed, row.clock_seconds / 3600, row.used / 3600), bool(row.paused), row.holders
    )
