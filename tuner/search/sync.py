"""The background thread of a worker's session, which does all work with the database.

In each round it sends a heartbeat, reads what users ask of the workers, writes pending results, asks the scheduler
and checks the other workers. While the database is away, it retries for minutes and results accumulate in memory.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import sys
import threading
import time
from typing import Any

import sqlalchemy as sa

from tuner.errors import RANDOM, FilesError, TrialLost, pause_seconds
from tuner.fleet.config import EXIT_GIVEN_UP, WorkerSettings
from tuner.paths import replace_non_finite
from tuner.search.curves import CurveReader
from tuner.search.pruning import judge_epoch
from tuner.search.scheduler import Scheduler
from tuner.search.scheduling import make_scheduler
from tuner.study import claims, control, database, pending
from tuner.study.budget import HEARTBEAT_SECONDS, BudgetMeter
from tuner.study.claims import WorkerRemoved
from tuner.study.database import is_transient, retried, unwrap
from tuner.study.heartbeat import HeartbeatMonitor, write_heartbeat
from tuner.study.pending import ActiveTrial, PendingWrites, TrialOwner
from tuner.study.study import JoinedStudy
from tuner.study.tables import claim_table

SUSPENDED_SECONDS = 10.0  # a longer gap between two rounds: the machine slept, or the database blocked this thread
log = logging.getLogger("tuner")


class SyncThread:
    """The thread and its shared state: the session sets `status`, `progress` and pending writes, it the rest."""

    def __init__(self, joined: JoinedStudy, worker: str, settings: WorkerSettings, gpu_share: float) -> None:
        self.joined, self.worker, self.settings, self.engine = joined, worker, settings, joined.engine
        self.storage = joined.storage
        self.scheduler: Scheduler = make_scheduler(joined.info)
        self.curves = CurveReader(joined)
        self.status: dict[str, Any] = {"state": "starting", "number": None, "step": 0, "steps": 0, "value": None}
        self.progress = 0
        self.control = control.ControlState(0, False)
        self.is_removed = False  # this worker's row was removed
        self.failure: BaseException | None = None  # what ended this thread
        self.counts_epochs = False  # whether the study limits epochs
        self.budget = BudgetMeter(self.engine, joined.id, worker, gpu_share)
        self.monitor = HeartbeatMonitor(self.engine, joined.id, settings.heartbeat_timeout, settings.hang_timeout)
        self.last_progress = -1  # `progress` as of `progress_at`
        self.progress_at = self.checked_at = time.monotonic()  # of `check_hang`
        self.wakeup, self.closing = threading.Event(), threading.Event()
        self.thread = threading.Thread(target=self.run, name="sync", daemon=True)

    def wake(self) -> None:
        """Start the next round at once: there is something to write."""
        self.wakeup.set()

    def close(self, seconds: float) -> None:
        """Write what is pending, and wait up to `seconds` for it."""
        self.closing.set()
        self.wake()
        self.thread.join(seconds)

    @property
    def active(self) -> ActiveTrial | None:
        return self.storage.active

    def run(self) -> None:
        """Repeat rounds until the session closes and everything is written."""
        every = self.settings.heartbeat_timeout / 4  # between two checks of the other workers
        next_heartbeat, next_check, away_since, tries = 0.0, time.monotonic() + every, 0.0, 0
        while not self.closing.is_set() or self.unwritten_trials():
            now = time.monotonic()
            try:
                if now >= next_heartbeat:
                    self.send_heartbeat()
                    next_heartbeat = now + HEARTBEAT_SECONDS
                self.write_all()
                if now >= next_check and not self.closing.is_set():
                    next_check = now + every * RANDOM.uniform(0.8, 1.2)
                    self.monitor.check()
                away_since, tries = 0.0, 0
            except WorkerRemoved:
                self.is_removed = True
                if not self.closing.wait(min(self.settings.heartbeat_timeout, self.settings.hang_timeout)):
                    self.exit_process("other workers counted this one as dead, and it does not react")
                return
            except Exception as error:
                away_since = away_since or now
                if not is_transient(error) or now - away_since > database.patience:
                    self.failure = unwrap(error)
                    return
                tries += 1
                self.closing.wait(pause_seconds(tries))
                if self.closing.is_set():
                    if now - away_since > database.IMPATIENT_SECONDS:
                        return  # what is not written is in the checkpoint
                    time.sleep(pause_seconds(1))
                    self.wake()
            self.check_hang(now)
            self.wakeup.wait(max(0.0, next_heartbeat - time.monotonic()))
            self.wakeup.clear()

    def unwritten_trials(self) -> list[ActiveTrial]:
        """Return the trials with pending writes."""
        known = dict.fromkeys((*self.storage.unwritten.values(), self.active))
        return [active for active in known if active is not None and active.pending and not active.is_choosing]

    def write_all(self) -> None:
        """Write everything pending, then ask the scheduler about new epochs."""
        for active in self.unwritten_trials():
            with active.write_lock:
                self.write_trial(active)
        current = self.active  # the main thread may release it at any time
        if current is not None and not current.lost:
            self.ask_scheduler(current)

    def write_trial(self, active: ActiveTrial) -> None:
        """Write what is pending of a trial; its end, once written or lost, is forgotten here."""
        writes = active.take_pending()
        try:
            self.write(active, writes)
        except TrialLost as lost:
            active.lost = str(lost)
            if writes.end:
                log.info("trial %d: dropped, %s", active.number, lost)
        except BaseException:
            active.restore_pending(writes)
            raise
        else:
            if writes.end:
                try:
                    active.on_written()
                except (OSError, FilesError) as error:  # a file that cannot be removed must not end the worker
                    log.warning("trial %d: %s", active.number, error)
        if writes.end:
            self.storage.unwritten.pop(active.id, None)

    def write(self, active: ActiveTrial, writes: PendingWrites) -> None:
        if not writes:
            return
        owner = TrialOwner(self.joined.id, active.id, self.worker)
        granted = pending.write_pending(self.engine, owner, writes, self.counts_epochs)
        if writes.trained:
            active.set_granted(writes.trained, granted)

    def flush(self, active: ActiveTrial) -> None:
        """Write everything pending of a trial in the calling thread; raise TrialLost if another worker owns it."""
        with active.write_lock:
            writes = active.take_pending()
            if active.lost:
                raise TrialLost(active.lost)
            retried(self.write)(active, writes)

    def ask_scheduler(self, active: ActiveTrial) -> None:
        """Ask the scheduler about each new epoch."""
        while active.unjudged and not active.verdict and self.active is active:
            judge_epoch(self.scheduler, self.curves, active)
        if active.pending:
            self.wake()

    def send_heartbeat(self) -> None:
        """Write this worker's row and read what users ask of it; raise WorkerRemoved if the row is gone."""
        self.budget.count_time(self.is_busy)
        with self.engine.begin() as db:
            state = {
                **replace_non_finite(self.status),
                "progress": self.progress,
                "granted": self.budget.granted,
                "used": self.budget.used,
            }
            study = write_heartbeat(db, self.joined.id, self.worker, state)
            self.control = control.ControlState(study.stops, bool(study.paused))
            self.counts_epochs = study.epochs is not None
            if active := self.active:
                wanted = sa.select(claim_table.c.wanted).where(claim_table.c.trial_id == active.id)
                active.wanted = db.scalar(wanted) or ""
            self.budget.on_heartbeat(db, study)
        self.budget.after_heartbeat()

    @property
    def is_busy(self) -> bool:
        return self.status["number"] is not None

    def check_hang(self, now: float) -> None:
        """End this process if its trial was lost or hangs and the main thread does not react.

        Nothing else helps against code that never returns; the fleet starts another worker.
        """
        if self.progress != self.last_progress or not self.is_busy:
            self.last_progress, self.progress_at, self.checked_at = self.progress, now, now
            return
        if now - self.checked_at > SUSPENDED_SECONDS:
            self.progress_at = now
        self.checked_at = now
        idle = now - self.progress_at
        active = self.active
        limit = self.settings.hang_timeout
        if active is not None and active.lost:
            limit = min(limit, self.settings.heartbeat_timeout)
        if idle >= limit:
            self.exit_process(f"no step for {idle:.0f} s")

    def exit_process(self, why: str) -> None:
        """End this process at once, and log where it hangs."""
        log.error("%s; another worker takes its place. Where it hangs:", why)
        faulthandler.dump_traceback(sys.stderr, all_threads=True)
        database.be_patient(database.IMPATIENT_SECONDS)
        try:
            claims.release_worker(self.engine, self.worker, died=True)
        finally:
            os._exit(EXIT_GIVEN_UP)
