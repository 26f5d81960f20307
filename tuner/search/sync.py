"""The clerk of a worker's desk: one background thread for all that has to do with the database.

Turn after turn it beats, reads what was asked of the workers, writes pages, has the pruner judge, and watches
the other workers. A database that is away is tried again for minutes; meanwhile pages gather.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import sys
import threading
import time
from collections import deque
from copy import copy
from typing import Any

import sqlalchemy as sa
from optuna.trial import FrozenTrial

from tuner.errors import RANDOM, FilesError, TrialLost, pause_seconds
from tuner.fleet.config import EXIT_GIVEN_UP, WorkerSettings
from tuner.study import claims, control, database
from tuner.study import pending as pending_module
from tuner.study.budget import HEARTBEAT_SECONDS, BudgetMeter
from tuner.study.claims import WorkerRemoved
from tuner.study.database import behind, passes, retried
from tuner.study.heartbeat import HeartbeatMonitor
from tuner.study.pending import ActiveTrial, TrialOwner
from tuner.study.study import JoinedStudy
from tuner.study.tables import claim_table, study_table, worker_table

SLEPT_SECONDS = 10.0  # between two turns: nobody can be blamed for standing still meanwhile
log = logging.getLogger("tuner")


class SyncThread:
    """What both sides look at: the worker writes `doing`, `progress` and pages; the clerk the rest."""

    def __init__(self, joined: JoinedStudy, worker: str, settings: WorkerSettings, gpu_share: float) -> None:
        self.joined, self.worker, self.settings, self.engine = joined, worker, settings, joined.engine
        self.storage = joined.storage
        self.doing: dict[str, Any] = {"state": "starting", "number": None, "step": 0, "steps": 0, "value": None}
        self.progress = 0
        self.ended: deque[ActiveTrial] = deque()  # whose last page is not written yet
        self.standing = control.ControlState(0, False)
        self.unknown = False  # this worker's row was removed
        self.failure: BaseException | None = None  # what ended the clerk
        self.hours = BudgetMeter(self.engine, joined.id, worker, gpu_share)
        self.watch = HeartbeatMonitor(self.engine, joined.id, settings.heartbeat_timeout, settings.hang_timeout)
        self.guarded = -1  # the progress that was seen at `guarded_at`
        self.guarded_at = self.guard_ran = time.monotonic()
        self.bell, self.closing = threading.Event(), threading.Event()
        self.thread = threading.Thread(target=self.serve, name="clerk", daemon=True)

    def ring(self) -> None:
        """There is something to write."""
        self.bell.set()

    def close(self, seconds: float) -> None:
        """Write what is left, for so long at most."""
        self.closing.set()
        self.bell.set()
        self.thread.join(seconds)

    @property
    def held(self) -> ActiveTrial | None:
        return self.storage.held

    def serve(self) -> None:
        """Turn after turn, until the desk closes and all is written."""
        every = self.settings.heartbeat_timeout / 4  # between two looks at the other workers
        next_beat, next_look, away_since, tries = 0.0, time.monotonic() + every, 0.0, 0
        while not self.closing.is_set() or self.pending():
            now = time.monotonic()
            try:
                if now >= next_beat:
                    self.beat()
                    next_beat = now + HEARTBEAT_SECONDS
                self.write_pages()
                if now >= next_look and not self.closing.is_set():
                    next_look = now + every * RANDOM.uniform(0.8, 1.2)
                    self.watch.check()
                away_since, tries = 0.0, 0
            except WorkerRemoved:
                self.unknown = True
                if not self.closing.wait(min(self.settings.heartbeat_timeout, self.settings.hang_timeout)):
                    self.give_up("this worker was given up for dead, and does not react")
                return
            except Exception as error:
                away_since = away_since or now
                if not passes(error) or now - away_since > database.patience:
                    self.failure = behind(error)
                    return
                tries += 1
                self.closing.wait(pause_seconds(tries))
                if self.closing.is_set():
                    if now - away_since > database.IMPATIENT_SECONDS:
                        return  # what is not written stands in the checkpoint
                    time.sleep(pause_seconds(1))
                    self.ring()
            self.guard(now)
            self.bell.wait(max(0.0, next_beat - time.monotonic()))
            self.bell.clear()

    # Pages

    def author(self, held: ActiveTrial) -> TrialOwner:
        return TrialOwner(self.joined.id, held.id, self.worker)

    def pending(self) -> list[ActiveTrial]:
        """Those of whom something is not written yet."""
        known = dict.fromkeys((*self.ended, self.held))
        return [held for held in known if held is not None and held.pending and not held.is_choosing]

    def write_pages(self) -> None:
        """Write what was said; then let the pruner judge what it has not seen."""
        for written in self.pending():
            with written.write_lock:
                self.write_page(written)
        held = self.held  # the main thread may let go of it at any time
        if held is not None and not held.lost:
            self.judge(held)

    def write_page(self, held: ActiveTrial) -> None:
        page = held.take_pending()
        try:
            if page:
                pending_module.write_pending(self.engine, self.author(held), page)
        except TrialLost as lost:
            held.lost = str(lost)
            if page.end:
                log.info("trial %d: dropped, %s", held.number, lost)
        except BaseException:
            held.restore_pending(page)
            raise
        else:
            if page.end:
                self.tidy(held)
        if page.end:
            self.ended.remove(held)
            self.storage.unwritten.pop(held.number, None)

    def tidy(self, held: ActiveTrial) -> None:
        """What is to be done after a trial's end; a file that cannot be removed ends nobody's work."""
        try:
            held.on_written()
        except (OSError, FilesError) as error:
            log.warning("trial %d: %s", held.number, error)

    def flushed(self, held: ActiveTrial) -> None:
        """Write all that was said of a trial, now, in the caller's thread; TrialLost when it is no more ours."""
        with held.write_lock:
            page = held.take_pending()
            if held.lost:
                raise TrialLost(held.lost)
            if page:
                retried(pending_module.write_pending)(self.engine, self.author(held), page)

    def judge(self, held: ActiveTrial) -> None:
        """Ask the pruner about each epoch, as it stood then. Its answer is noted: a restart must still know."""
        study = self.joined.study
        while held.unjudged and not held.prune and self.held is held:
            step = held.unjudged[0]
            with held.lock:
                then = trial_at_step(held.frozen, step)
            if study.pruner.prune(study, then):
                held.prune = True
                with held.lock:
                    held.frozen.user_attrs["pruned_at"] = step
                    held.pending.attrs["pruned_at"] = str(step)
            held.unjudged.pop(0)
        if held.pending:
            self.ring()

    # Beats

    def beat(self) -> None:
        """Write this worker's row, and read what was asked of it. WorkerUnknown when the row is gone."""
        self.hours.count_time(self.is_busy)
        with self.engine.begin() as db:
            row = {
                "beats": worker_table.c.beats + 1,
                "progress": self.progress,
                **pending_module.without_non_finite(self.doing),
            }
            row |= {"granted": self.hours.granted, "used": self.hours.used}
            mine = sa.update(worker_table).where(worker_table.c.worker == self.worker)
            if not db.execute(mine.values(**row)).rowcount:
                raise WorkerRemoved
            study = db.execute(sa.select(study_table).where(study_table.c.study_id == self.joined.id)).first()
            if study is None:
                raise WorkerRemoved  # the next to take a trial will say that the study was deleted
            self.standing = control.ControlState(study.stops, bool(study.paused))
            if held := self.held:
                wanted = sa.select(claim_table.c.wanted).where(claim_table.c.trial_id == held.id)
                held.wanted = db.scalar(wanted) or ""
            self.hours.on_heartbeat(db, study)
        self.hours.after_heartbeat()

    @property
    def is_busy(self) -> bool:
        return self.doing["number"] is not None

    def guard(self, now: float) -> None:
        """End this process when its trial was lost or hangs, and the main thread does not see it.

        Nothing else helps against code that never comes back; a new worker takes the seat.
        """
        if self.progress != self.guarded or not self.is_busy:
            self.guarded, self.guarded_at, self.guard_ran = self.progress, now, now
            return
        if now - self.guard_ran > SLEPT_SECONDS:
            self.guarded_at = now  # this machine slept, or the database held us up: measure anew
        self.guard_ran = now
        still = now - self.guarded_at
        held = self.held
        is_lost = held is not None and held.lost
        limit = self.settings.hang_timeout
        if still >= (min(self.settings.heartbeat_timeout, limit) if is_lost else limit):
            self.give_up(f"no step for {still:.0f} s")

    def give_up(self, why: str) -> None:
        """End this process at once, and say where it hangs."""
        log.error("%s; another worker takes its place. Where it hangs:", why)
        faulthandler.dump_traceback(sys.stderr, all_threads=True)
        database.be_patient(database.IMPATIENT_SECONDS)
        try:
            claims.release_worker(self.engine, self.worker, died=True)
        finally:
            os._exit(EXIT_GIVEN_UP)


def trial_at_step(trial: FrozenTrial, step: int) -> FrozenTrial:
    """A trial as it stood after an epoch; what the pruner writes on it is written on the trial itself."""
    then = copy(trial)
    then.intermediate_values = {at: value for at, value in trial.intermediate_values.items() if at <= step}
    return then
