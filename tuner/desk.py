"""A worker's desk: it takes trials here, and what it says of them is written by a clerk.

The trial in hand lives in memory. One background thread, the clerk, writes pages of it, beats, reads what was
asked of the workers, has the pruner judge, keeps the budget of hours and watches the other workers. Training
never waits for the database: it asks `says` before every step, which looks at memory only.

    with Desk(joined, who, ...) as desk:
        while held := desk.take():
            for epoch in ...:
                while steps: if said := desk.says(held): ...     # "stopped", "pruned", or TrialLost
                desk.epoch(held, row)
            desk.end(held, "COMPLETE", value)

A database that is away is tried again for minutes; meanwhile training goes on, and all is written afterwards.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import random
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from copy import copy
from dataclasses import dataclass
from typing import Any, Literal

import optuna
import sqlalchemy as sa
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.engine import Connection, Engine

from tuner import claims, control, database, pages
from tuner.claims import Taken, WorkerUnknown
from tuner.database import behind, passes, retried
from tuner.errors import StudyError, TrialLost
from tuner.orders import GIVEN_UP, HANG_SECONDS, LEASE_SECONDS
from tuner.pages import Author, State
from tuner.storage import Held, HoldingStorage
from tuner.study import Joined
from tuner.tables import claim_table, clock, study_table, worker_table
from tuner.watch import Watch

BEAT_SECONDS = 1.0
SLICE_SECONDS = 20.0  # of the GPU-hours that a worker is granted at a time
LONGEST_TICK = 5.0  # between two beats of anybody, after which the study's clock counts as having stood still
LEAVE_SECONDS = 8.0  # for the last page: who is told to end has often ten seconds to live
Said = Literal["", "stopped", "pruned"]
log = logging.getLogger("tuner")


@dataclass(frozen=True)
class Terms:
    """How long silence is suffered, and how much of the GPU-hours this worker counts as."""

    lease: float = LEASE_SECONDS
    hang: float = HANG_SECONDS
    gpu_share: float = 1.0


class Desk:
    """See above. `who` is the worker's row: worker, host, machine, pid, born, device, version."""

    def __init__(
        self,
        joined: Joined,
        who: dict[str, Any],
        terms: Terms | None = None,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        self.joined, self.who, self.stopped = joined, who, stopped
        self.terms: Terms = terms or Terms()
        self.name: str = who["worker"]
        self.engine: Engine = joined.engine
        storage = joined.study._storage
        assert isinstance(storage, HoldingStorage)
        self.storage: HoldingStorage = storage
        self.doing: dict[str, Any] = {"state": "starting", "number": None, "step": 0, "steps": 0, "value": None}
        self.progress = 0
        self.held: Held | None = None
        self.ended: deque[Held] = deque()  # whose last page is not written yet
        self.ordinal = 0  # how many workers had joined before
        self.standing = control.Standing(0, False)
        self.began_with = 0  # of standing.stops
        self.out_of_time = False
        self.unknown = False  # this worker's row was removed
        self.failure: BaseException | None = None  # what ended the clerk
        self.granted = self.used = 0.0  # GPU-seconds
        self.limits_gpus = False
        self.beat_at = self.guarded_at = time.monotonic()
        self.guarded = -1  # the progress that was seen at `guarded_at`
        self.watch = Watch(self.engine, joined.id, self.terms.lease, self.terms.hang)
        self.bell, self.closing = threading.Event(), threading.Event()
        self.clerk = threading.Thread(target=self.serve, name="clerk", daemon=True)

    # What a worker calls

    def __enter__(self) -> Desk:
        self.ordinal = self.enter()
        self.limits_gpus = control.budget(self.engine, self.joined.id).gpu_hours is not None
        self.standing = control.standing(self.engine, self.joined.id)
        self.began_with = self.standing.stops
        self.clerk.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Write what is left, and put back what is in hand. A database that is away does it without us."""
        self.closing.set()
        self.bell.set()
        self.clerk.join(LEAVE_SECONDS)
        before, database.patience = database.patience, min(database.patience, 1.5)
        try:
            claims.release(self.engine, self.name, died=False)
        except sa.exc.SQLAlchemyError as error:
            log.warning(
                "the database is away: others will notice that this worker left (%s)", type(error).__name__
            )
        finally:
            database.patience = before
            self.storage.held = None

    def tell(self, **doing: Any) -> None:
        """Change what the next beat will say; also a sign that the work gets on."""
        self.progress += 1
        self.doing = {**self.doing, **doing}

    def take(self) -> Held | None:
        """The next trial, or None: nothing is left, or the workers were told to stop. Waits while paused."""
        while not self.is_over():
            if self.standing.paused:
                self.tell(state="paused")
                time.sleep(0.1)
                continue
            if self.limits_gpus and self.granted - self.used < claims.CRUMBS:
                self.grant()
            taken = self.take_one()
            if taken == "paused":
                self.standing = control.Standing(self.standing.stops, True)
            elif isinstance(taken, Taken):
                return self.hold(taken)
            else:
                return None
        return None

    def take_one(self) -> Taken | Literal["spent", "paused"]:
        name = self.joined.study.study_name
        try:
            return claims.take(self.engine, self.joined.id, name, self.name, bool(self.joined.plan.listed))
        except claims.StudyGone:
            raise StudyError(f"study '{name}' was deleted meanwhile; nothing is left to do.") from None

    def is_over(self) -> bool:
        """Whether this worker is to leave. Raises what ended the clerk."""
        if self.unknown:
            raise WorkerUnknown
        if self.failure:
            raise self.failure
        return self.stopped() or self.standing.stops > self.began_with or self.out_of_time

    def says(self, held: Held) -> Said:
        """Whether to go on with a trial: asked before every step. TrialLost when it is no more ours."""
        self.progress += 1
        if held.lost:
            raise TrialLost(held.lost)
        if self.is_over() or self.standing.paused:
            return "stopped"
        return "pruned" if held.prune or held.wanted == "stop" else ""

    def trial(self, held: Held) -> optuna.Trial:
        """The held trial as Optuna gives it to an objective; nothing of it waits for the database."""
        study = self.joined.study
        study._thread_local.cached_all_trials = None  # as Study.ask does: the sampler must see today's trials
        return optuna.Trial(study, held.id)

    def chosen(self, held: Held) -> None:
        """The parameters are what they will be: from here on they are written."""
        held.choosing = False
        self.bell.set()

    def epoch(self, held: Held, row: dict[str, Any], judge: bool = True) -> None:
        """Record an epoch (a row of tuner_epoch) and have it judged. An epoch recorded before is replaced."""
        held.choosing = False
        epoch, value = int(row["epoch"]), row["value"]
        with held.lock:
            held.page.epochs[epoch] = row
            if value is not None and epoch not in held.frozen.intermediate_values:
                held.frozen.intermediate_values[epoch] = value
                held.page.values[epoch] = value
                if judge:
                    held.unjudged.append(epoch)
        self.bell.set()

    def end(
        self, held: Held, state: State, value: float | None = None, done: Callable[[], None] = lambda: None
    ) -> None:
        """Give a trial its end, written in the background, and then call `done`. Dropped, if it was lost.

        A pruned trial's value is its last one, as Optuna has it.
        """
        steps = held.frozen.intermediate_values
        if state == "PRUNED" and steps:
            value = steps[max(steps)]
        held.done = done
        held.choosing = False
        with held.lock:  # the clerk may write this page before we let go
            held.page.end = state, value
            self.ended.append(held)
        self.let_go()

    def put_back(self, held: Held) -> None:
        """Have a trial gone on with later, by whoever is first. Waits until all of it is written."""
        try:
            self.flushed(held)
            claims.hand_back(self.engine, held.id, self.name)
        except TrialLost as lost:
            log.info("trial %d: dropped, %s", held.number, lost)
        self.let_go()

    def drop(self, held: Held) -> None:
        """Forget a trial that is somebody else's."""
        held.take_page()
        self.let_go()

    def let_go(self) -> None:
        self.held = self.storage.held = None
        self.tell(state="idle", number=None, step=0, steps=0, value=None, params=None)
        self.bell.set()

    def flushed(self, held: Held) -> None:
        """Wait until all that was said of a trial is written; TrialLost when it is no more ours."""
        with held.pen:
            page = held.take_page()
            if held.lost:
                raise TrialLost(held.lost)
            if page:
                retried(pages.write)(self.engine, self.author(held), page)

    # How a trial comes into the hand

    @retried
    def enter(self) -> int:
        """Write the worker's row; how many workers had joined the study before it."""
        same = study_table.c.study_id == self.joined.id
        with self.engine.begin() as db:
            db.execute(sa.update(study_table).where(same).values(num_workers=study_table.c.num_workers + 1))
            db.execute(sa.delete(worker_table).where(worker_table.c.worker == self.name))
            db.execute(sa.insert(worker_table).values(study_id=self.joined.id, **self.who, **self.doing))
            return int(db.scalar(sa.select(study_table.c.num_workers).where(same)) or 1) - 1

    def hold(self, taken: Taken) -> Held:
        """Bring a trial into memory: a new one has nothing to be read."""
        frozen = fresh(taken) if taken.is_new else self.joined.study._storage.get_trial(taken.trial_id)
        frozen.state = TrialState.RUNNING
        held = Held(frozen, taken.attempt, taken.deaths, taken.wanted)
        self.held = self.storage.held = held
        self.tell(state="preparing", number=taken.number, step=0, steps=0, value=None, params=None)
        return held

    def author(self, held: Held) -> Author:
        return Author(self.joined.id, held.id, self.name)

    # The clerk

    def serve(self) -> None:
        """Turn after turn, until the desk closes and all is written."""
        next_beat, next_look, away_since, tries = 0.0, time.monotonic() + self.terms.lease / 4, 0.0, 0
        while not self.closing.is_set() or self.pending():
            now = time.monotonic()
            try:
                if now >= next_beat:
                    self.beat(now)
                    next_beat = now + BEAT_SECONDS
                self.write_pages()
                if now >= next_look and not self.closing.is_set():
                    next_look = now + self.terms.lease / 4 * random.uniform(0.8, 1.2)
                    self.watch.look()
                away_since, tries = 0.0, 0
            except WorkerUnknown:
                self.unknown = True
                if not self.closing.wait(min(self.terms.lease, self.terms.hang)):
                    self.give_up("this worker was given up for dead, and does not react")
                return
            except Exception as error:
                away_since = away_since or now
                if not passes(error) or now - away_since > database.patience:
                    self.failure = behind(error)
                    return
                tries += 1
                self.closing.wait(database.pause(tries))
                if self.closing.is_set():
                    return  # what is not written stands in the checkpoint
            self.guard(now)
            self.bell.wait(max(0.0, next_beat - time.monotonic()))
            self.bell.clear()

    def pending(self) -> Iterable[Held]:
        """Those of whom something is not written yet."""
        known = dict.fromkeys((*self.ended, self.held))
        return [held for held in known if held is not None and held.page and not held.choosing]

    def write_pages(self) -> None:
        """Write what was said; then let the pruner judge what it has not seen."""
        for written in self.pending():
            with written.pen:
                self.write_page(written)
        held = self.held  # the main thread may let go of it at any time
        if held is not None and not held.lost:
            self.judge(held)

    def write_page(self, held: Held) -> None:
        page = held.take_page()
        try:
            if page:
                pages.write(self.engine, self.author(held), page)
        except TrialLost as lost:
            held.lost = str(lost)
            if page.end:
                log.info("trial %d: dropped, %s", held.number, lost)
        except BaseException:
            held.put_page_back(page)
            raise
        else:
            if page.end:
                held.done()
        if page.end:
            self.ended.remove(held)

    def judge(self, held: Held) -> None:
        """Ask the pruner about each epoch, as it stood then. Its answer is noted: a restart must still know."""
        study = self.joined.study
        while held.unjudged and not held.prune and self.held is held:
            step = held.unjudged[0]
            with held.lock:
                then = as_of(held.frozen, step)
            if study.pruner.prune(study, then):
                held.prune = True
                with held.lock:
                    held.frozen.user_attrs["pruned_at"] = step
                    held.page.attrs["pruned_at"] = str(step)
            held.unjudged.pop(0)
        if held.page:
            self.bell.set()

    @property
    def is_busy(self) -> bool:
        return self.doing["number"] is not None

    def beat(self, now: float) -> None:
        """Write this worker's row, and read what was asked of it. WorkerUnknown when the row is gone."""
        self.spend(now)
        with self.engine.begin() as db:
            row = {"beats": worker_table.c.beats + 1, "progress": self.progress, **self.doing}
            row |= {"granted": self.granted, "used": self.used}
            mine = sa.update(worker_table).where(worker_table.c.worker == self.name)
            if not db.execute(mine.values(**row)).rowcount:
                raise WorkerUnknown
            study = db.execute(sa.select(study_table).where(study_table.c.study_id == self.joined.id)).first()
            if study is None:
                raise WorkerUnknown  # the next to take a trial will say that the study was deleted
            self.standing = control.Standing(study.stops, bool(study.paused))
            if held := self.held:
                wanted = sa.select(claim_table.c.wanted).where(claim_table.c.trial_id == held.id)
                held.wanted = db.scalar(wanted) or ""
            if study.hours is not None:
                self.out_of_time |= tick(db, study)
        self.limits_gpus = study.gpu_hours is not None and self.terms.gpu_share > 0
        if self.limits_gpus and self.is_busy and self.granted - self.used < 2 * BEAT_SECONDS:
            self.grant()
            self.out_of_time |= self.granted - self.used <= BEAT_SECONDS * self.terms.gpu_share

    def spend(self, now: float) -> None:
        """Count the seconds since the last beat, while a trial is in hand."""
        if self.is_busy:
            self.used += (now - self.beat_at) * self.terms.gpu_share
        self.beat_at = now

    @retried
    def grant(self) -> None:
        """Take a slice of the GPU-hours that are left, before they are spent: so nothing overshoots."""
        same = study_table.c.study_id == self.joined.id
        with self.engine.begin() as db:
            claims.lock(db, self.joined.id)
            row = db.execute(sa.select(study_table.c.gpu_hours, study_table.c.gpu_seconds).where(same)).first()
            if row is None or row.gpu_hours is None:
                return
            wanted = SLICE_SECONDS * self.terms.gpu_share + max(0.0, self.used - self.granted)
            size = max(0.0, min(wanted, 3600 * row.gpu_hours - row.gpu_seconds))
            db.execute(sa.update(study_table).where(same).values(gpu_seconds=study_table.c.gpu_seconds + size))
            granted = self.granted + size
            mine = sa.update(worker_table).where(worker_table.c.worker == self.name)
            db.execute(mine.values(granted=granted, used=self.used))
        self.granted = granted

    def guard(self, now: float) -> None:
        """End this process when its trial was lost or hangs, and the main thread does not see it.

        Nothing else helps against code that never comes back; a new worker takes the seat.
        """
        if self.progress != self.guarded or not self.is_busy:
            self.guarded, self.guarded_at = self.progress, now
            return
        still = now - self.guarded_at
        held = self.held
        is_lost = held is not None and held.lost
        if still >= (min(self.terms.lease, self.terms.hang) if is_lost else self.terms.hang):
            self.give_up(f"no step for {still:.0f} s")

    def give_up(self, why: str) -> None:
        """End this process at once, and say where it hangs."""
        log.error("%s; another worker takes its place. Where it hangs:", why)
        faulthandler.dump_traceback(sys.stderr, all_threads=True)
        try:
            claims.release(self.engine, self.name, died=True)
        finally:
            os._exit(GIVEN_UP)


def fresh(taken: Taken) -> FrozenTrial:
    """A trial that was created just now, as it stands in the database."""
    trial = optuna.trial.create_trial(state=TrialState.WAITING)
    trial.number, trial._trial_id = taken.number, taken.trial_id
    trial.datetime_start = claims.utc()
    return trial


def as_of(trial: FrozenTrial, step: int) -> FrozenTrial:
    """A trial as it stood after an epoch; what the pruner writes on it is written on the trial itself."""
    then = copy(trial)
    then.intermediate_values = {at: value for at, value in trial.intermediate_values.items() if at <= step}
    return then


def tick(db: Connection, study: sa.Row[Any]) -> bool:
    """Count the time since anybody's last beat, by the database's clock; whether the hours are spent now."""
    same = study_table.c.study_id == study.study_id
    claims.lock(db, study.study_id)
    then = db.execute(
        sa.select(study_table.c.clock_seconds, study_table.c.clock_at, clock(db).label("now")).where(same)
    ).one()
    passed = 0.0 if then.clock_at is None else float(then.now) - then.clock_at
    seconds = then.clock_seconds + (passed if 0 < passed < LONGEST_TICK else 0.0)
    db.execute(sa.update(study_table).where(same).values(clock_seconds=seconds, clock_at=float(then.now)))
    return bool(seconds >= 3600 * study.hours)
