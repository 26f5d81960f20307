"""The budget of a study: limits, what is used of them, and how one worker uses hours and GPU-hours.

A worker is granted GPU-hours in slices before it uses them, so that all workers together never exceed the budget;
the unused part of a slice is returned. Hours pass by the database's clock while any worker runs, also before they
are limited.
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
from tuner.study.optuna_tables import trials
from tuner.study.tables import claim_table, clock, epoch_table, study_table, worker_table

HEARTBEAT_SECONDS = 1.0  # between two heartbeats of a worker
SLICE_SECONDS = 20.0  # GPU-seconds granted at a time
MAX_TICK_SECONDS = 5.0  # between two heartbeats of any worker; a longer time does not count as used


class BudgetMeter:
    """The GPU-seconds granted to and used by one worker, which counts as `share` GPUs."""

    def __init__(self, engine: Engine, study_id: int, worker: str, share: float) -> None:
        self.engine, self.study_id, self.worker, self.share = engine, study_id, worker, share
        self.granted = self.used = 0.0  # GPU-seconds
        self.is_limited = False  # whether the study limits GPU-hours
        self.is_timed = False  # whether it limits hours or GPU-hours
        self.is_spent = False  # whether the study's hours or GPU-hours are used up
        self.counted_at: float | None = None  # while a trial is trained
        self.lock = threading.Lock()

    def read_limits(self) -> None:
        limits = read_budget(self.engine, self.study_id).budget
        self.note_limits(limits.hours, limits.gpu_hours)

    def note_limits(self, hours: float | None, gpu_hours: float | None) -> None:
        self.is_limited = gpu_hours is not None and self.share > 0
        self.is_timed = hours is not None or self.is_limited

    @property
    def left(self) -> float:
        return self.granted - self.used

    def count_time(self, busy: bool) -> None:
        """Count the time since the last call if a trial was trained; `busy` tells whether one is from now on."""
        with self.lock:
            now = time.monotonic()
            if self.counted_at is not None:
                self.used += (now - self.counted_at) * self.share
            self.counted_at = now if busy else None

    def before_trial(self) -> None:
        """Make sure that a slice is granted."""
        if self.is_limited and self.left < claims.MIN_GPU_SECONDS:
            self.take_slice()

    def on_heartbeat(self, db: Connection, study: sa.Row[Any]) -> None:
        """Advance the study's clock and update the limits, in the transaction of a heartbeat."""
        self.note_limits(study.hours, study.gpu_hours)
        if study.gpu_hours is not None and not self.share:  # the first worker on its GPU counts for it
            self.is_spent |= study.gpu_seconds >= 3600 * study.gpu_hours - claims.MIN_GPU_SECONDS
        advance_clock(db, study)
        if study.hours is not None:
            self.is_spent |= read_clock(db, study.study_id) >= 3600 * study.hours

    def after_heartbeat(self) -> None:
        """Take the next slice in time, or note that the budget is used up."""
        if self.is_limited and self.counted_at is not None and self.left < 2 * HEARTBEAT_SECONDS:
            self.take_slice()
            self.is_spent |= self.left <= HEARTBEAT_SECONDS * self.share

    @retried
    def take_slice(self) -> None:
        """Take a slice of the remaining GPU-hours; use beyond earlier slices is covered first."""
        same = study_table.c.study_id == self.study_id
        mine = sa.update(worker_table).where(worker_table.c.worker == self.worker)
        with self.engine.begin() as db:
            db.execute(mine.values(used=self.used))  # locks are taken in the order worker, study
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


def advance_clock(db: Connection, study: sa.Row[Any]) -> None:
    """Count the time since the last heartbeat of any worker, also while the hours are not limited yet.

    The clock advances at most once a second for all workers together, and not while the study is paused.
    """
    same = study_table.c.study_id == study.study_id
    now, before = sa.cast(clock(db), sa.Double), study_table.c.clock_at
    passed = sa.case(
        (before.is_(None), 0.0), (now - before > MAX_TICK_SECONDS, 0.0), (now < before, 0.0), else_=now - before
    )
    seconds = study_table.c.clock_seconds + (0.0 if study.paused else passed)
    is_time = before.is_(None) | (now - before > 0.9 * HEARTBEAT_SECONDS) | (now < before)
    db.execute(sa.update(study_table).where(same, is_time).values(clock_seconds=seconds, clock_at=now))


def read_clock(db: Connection, study_id: int) -> float:
    """Return the seconds in which any worker ran."""
    same = study_table.c.study_id == study_id
    return float(db.scalar(sa.select(study_table.c.clock_seconds).where(same)) or 0.0)


@dataclass(frozen=True)
class Budget:
    """The limits of a study; None means no limit."""

    num_trials: int | None = None
    hours: float | None = None
    gpu_hours: float | None = None
    epochs: int | None = None

    @property
    def is_limited(self) -> bool:
        return any(limit is not None for limit in vars(self).values())


@dataclass(frozen=True)
class BudgetUse:
    """How much of its budget a study has used; what is granted and not used yet does not count.

    Hours count whether they are limited or not, with trials in progress. Without a GPU, `gpu_hours` are those of
    the workers.
    """

    num_trials: int
    hours: float
    gpu_hours: float
    epochs: int = 0  # counted while they are limited


def has_gpu(device: str) -> bool:
    """Return whether the device of a worker or of a trial is a GPU; "" is unknown."""
    return bool(device) and not device.startswith("cpu")


def spent_to_json(spent: BudgetUse, device: str) -> dict[str, Any]:
    """Return what is spent as plain JSON; without a GPU, what a limit of GPU-hours counts as `worker_hours`."""
    plain = dict(vars(spent))
    return plain | {"gpu_hours": 0.0, "worker_hours": spent.gpu_hours} if is_without_gpu(device) else plain


def is_without_gpu(device: str) -> bool:
    """Return whether the device is known, and no GPU."""
    return bool(device) and not has_gpu(device)


@dataclass(frozen=True)
class BudgetStatus:
    """The budget of a study and its use. `holders` are the workers with granted GPU-hours, one for each GPU."""

    budget: Budget
    spent: BudgetUse
    paused: bool
    holders: int


@retried
def set_budget(engine: Engine, study_id: int, **limits: float | int | None) -> None:
    """Change the given limits. Running trials continue even beyond a lower limit, except one of epochs."""
    given = {name: limit for name, limit in limits.items() if limit is not None}
    if "epochs" in given:
        count_earlier_epochs(engine, study_id)
    if given:
        update_study(engine, study_id, **given)


def count_earlier_epochs(engine: Engine, study_id: int) -> None:
    """Count the epochs that were trained before the first limit on them."""
    same = study_table.c.study_id == study_id
    mine = sa.select(trials.c.trial_id).where(trials.c.study_id == study_id)
    with engine.begin() as db:
        claims.lock_study(db, study_id)
        number = db.scalar(sa.select(sa.func.count()).where(epoch_table.c.trial_id.in_(mine)))
        db.execute(
            sa.update(study_table).where(same, study_table.c.epochs.is_(None)).values(epochs_granted=number)
        )


def read_budget(engine: Engine, study_id: int) -> BudgetStatus:
    with engine.connect() as db:
        return select_budget(db, study_id)


def read_seconds_left(engine: Engine, study_id: int, share: float) -> float | None:
    """Return the seconds of the hours and GPU-hours that are left to a worker; None if neither is limited.

    It is the smaller one of both; a worker that counts as no GPU has all of the GPU-hours.
    """
    status = read_budget(engine, study_id)
    limits, spent, left = status.budget, status.spent, []
    if limits.hours is not None:
        left.append(3600 * (limits.hours - spent.hours))
    if limits.gpu_hours is not None and share:
        left.append(3600 * (limits.gpu_hours - spent.gpu_hours) / share)
    return max(0.0, min(left)) if left else None


def select_budget(db: Connection, study_id: int) -> BudgetStatus:
    """Read the budget and its use in one query."""
    work = worker_table.c.study_id == study_id
    claimed = sa.select(sa.func.count()).where(claim_table.c.study_id == study_id).scalar_subquery()
    held = sa.select(sa.func.coalesce(sa.func.sum(worker_table.c.granted - worker_table.c.used), 0.0)).where(work)
    waiting = sa.select(sa.func.coalesce(sa.func.sum(claim_table.c.epochs_granted), 0))
    waiting = waiting.where(claim_table.c.study_id == study_id)
    holders = sa.select(sa.func.count()).where(work, worker_table.c.granted > 0).scalar_subquery()
    query = sa.select(
        study_table,
        claimed.label("claimed"),
        (study_table.c.gpu_seconds - held.scalar_subquery()).label("used"),
        holders.label("holders"),
        (study_table.c.epochs_granted - waiting.scalar_subquery()).label("trained"),
    )
    row = db.execute(query.where(study_table.c.study_id == study_id)).first()
    if row is None:
        return BudgetStatus(Budget(), BudgetUse(0, 0.0, 0.0), False, 0)
    spent = BudgetUse(row.claimed, row.clock_seconds / 3600, row.used / 3600, int(row.trained))
    limits = Budget(row.num_trials, row.hours, row.gpu_hours, row.epochs)
    return BudgetStatus(limits, spent, bool(row.paused), row.holders)
