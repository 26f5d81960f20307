"""A worker's session with its study: it claims trials here, and a background thread writes their results.

The current trial is kept in memory. Training never waits for the database: `check_signal`, called before every
step, reads memory only, and an epoch is recorded by adding it to the pending writes.

    with Session(joined, identity) as session:
        while active := session.take_trial():
            trial = session.optuna_trial(active)                     # suggest with it
            session.confirm_params(active)
            for epoch in ...:
                while steps: if signal := session.check_signal(active): ...  # how to end it, or TrialLost
                session.record_epoch(active, row)
            session.end_trial(active, "COMPLETE", value)

While the database is away, training goes on and writes are retried for minutes.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal

import optuna
import sqlalchemy as sa
from optuna.trial import TrialState
from sqlalchemy.engine import Engine

from tuner.errors import FailureKind, StudyError, TrialLost
from tuner.fleet.config import WorkerSettings
from tuner.search.scheduler import choose_next
from tuner.search.sync import SyncThread
from tuner.study import claims, control, database
from tuner.study.claims import ClaimedTrial, NoTrial, WorkerRemoved
from tuner.study.database import retried
from tuner.study.decisions import Decision
from tuner.study.failures import failure_attrs
from tuner.study.optuna_compat import forget_cached_trials
from tuner.study.pending import ActiveTrial, EndState
from tuner.study.study import JoinedStudy
from tuner.study.tables import study_table, worker_table
from tuner.study.trial_reader import make_trial

LEAVE_SECONDS = 8.0  # for the last writes: schedulers often send SIGKILL ten seconds after SIGTERM
PAUSE_SECONDS = 0.1  # between two checks whether a paused study goes on
NO_STEPS: dict[str, Any] = {"step": 0, "steps": 0, "batch": 0, "batches": 0, "value": None, "params": None}
EPOCH_SECONDS = 0.005  # between two checks whether more epochs were granted
TrialSignal = Literal["", "stopped", "pruned", "paused"]
log = logging.getLogger("tuner")


class StopRequested(Exception):
    """The training of a trial does not begin: its worker was asked to stop, or too little time is left."""


class Session:
    """See the module. `identity` holds the columns of the worker's row that do not change.

    `is_stopped` returns whether this worker alone was asked to leave, for example by a signal.
    """

    def __init__(
        self,
        joined: JoinedStudy,
        identity: dict[str, Any],
        settings: WorkerSettings | None = None,
        gpu_share: float = 1.0,
        is_stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        self.joined, self.identity, self.is_stopped = joined, identity, is_stopped
        self.name: str = identity["worker"]
        self.engine: Engine = joined.engine
        self.sync = SyncThread(joined, self.name, settings or WorkerSettings(), gpu_share)
        self.storage = self.sync.storage
        self.ordinal = 0  # number of workers that joined before
        self.initial_stops = 0  # stop count of the study when this worker joined

    def __enter__(self) -> Session:
        self.ordinal = self.register()
        retried(self.sync.budget.read_limits)()
        self.sync.control = retried(control.read_control_state)(self.engine, self.joined.id)
        self.initial_stops = self.sync.control.stops
        self.sync.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Write what is pending and put back the current trial; other workers do so if the database is away."""
        self.sync.close(LEAVE_SECONDS)
        before, database.patience = database.patience, database.IMPATIENT_SECONDS
        try:
            claims.release_worker(self.engine, self.name, died=False)
        except sa.exc.SQLAlchemyError as error:
            kind = type(error).__name__
            log.warning("the database is away: others will notice that this worker left (%s)", kind)
        finally:
            database.patience = before
            self.storage.active = None

    @retried
    def register(self) -> int:
        """Write the worker's row; return how many workers had joined the study before."""
        same = study_table.c.study_id == self.joined.id
        with self.engine.begin() as db:
            db.execute(sa.update(study_table).where(same).values(num_workers=study_table.c.num_workers + 1))
            db.execute(sa.delete(worker_table).where(worker_table.c.worker == self.name))
            row = {"study_id": self.joined.id, **self.identity, **self.sync.status}
            db.execute(sa.insert(worker_table).values(**row))
            return int(db.scalar(sa.select(study_table.c.num_workers).where(same)) or 1) - 1

    def update_status(self, **status: Any) -> None:
        """Change what the next heartbeat reports; also counts as progress of the training."""
        self.sync.progress += 1
        self.sync.status = {**self.sync.status, **status}

    def take_trial(self) -> ActiveTrial | None:
        """Return the next trial, or None if none is left or the workers are to stop. Wait while paused."""
        while not self.should_leave():
            if self.sync.control.paused:
                self.update_status(state="paused")
                time.sleep(PAUSE_SECONDS)
                continue
            self.sync.budget.before_trial()
            claimed = self.claim()
            if isinstance(claimed, ClaimedTrial):
                return self.activate(claimed)
            if claimed == "spent":
                return None
            if claimed == "paused":
                self.sync.control = control.ControlState(self.sync.control.stops, True)
        return None

    def claim(self) -> ClaimedTrial | NoTrial:
        """Claim the trial that the scheduler chooses; if no new one may start, a paused one that it resumes."""
        if not self.joined.info.pauses:
            return self.claim_chosen(None)
        claimed = self.claim_chosen(self.choose(can_start=True))
        if claimed != "no new":
            return claimed
        choice = self.choose(can_start=False)
        return "spent" if choice is None else self.claim_chosen(choice)

    def choose(self, can_start: bool) -> Decision | None:
        """Return what the scheduler chooses by what is known now."""
        return choose_next(self.sync.scheduler, self.sync.curves.read(), can_start)

    def claim_chosen(self, choice: Decision | None) -> ClaimedTrial | NoTrial:
        info, unwritten = self.joined.info, tuple(self.storage.unwritten)
        given = info.has_given_trials
        try:
            return claims.claim_trial(self.engine, info.id, info.name, self.name, given, unwritten, choice)
        except claims.StudyDeleted:
            raise StudyError(f"study '{info.name}' was deleted meanwhile; nothing is left to do.") from None

    def activate(self, claimed: ClaimedTrial) -> ActiveTrial:
        """Load a trial into memory; a new one need not be read."""
        if claimed.is_new:
            frozen = make_trial(claimed.trial_id, claimed.number, "RUNNING", claims.utc_now())
        else:
            frozen = self.storage.get_trial(claimed.trial_id)
            frozen.state = TrialState.RUNNING
        active = ActiveTrial(frozen, claimed.attempt, claimed.deaths, claimed.wanted, claimed.epochs)
        self.sync.counts_epochs |= claimed.epochs is not None
        self.storage.active = active
        self.update_status(**NO_STEPS, state="preparing", number=claimed.number)
        self.sync.budget.count_time(busy=True)
        return active

    def optuna_trial(self, active: ActiveTrial) -> optuna.Trial:
        """Return a trial as Optuna gives it to an objective; using it does not wait for the database."""
        study = self.joined.study
        forget_cached_trials(study)
        return optuna.Trial(study, active.id)

    def should_leave(self) -> bool:
        """Return whether this worker is to leave; raise the error that ended the sync thread."""
        if self.sync.is_removed:
            raise WorkerRemoved
        if self.sync.failure:
            raise self.sync.failure
        return self.is_stopped() or self.sync.control.stops > self.initial_stops or self.sync.budget.is_spent

    def check_signal(self, active: ActiveTrial) -> TrialSignal:
        """Return why to end or interrupt a trial, or ""; raise TrialLost if this worker no longer owns it."""
        self.sync.progress += 1
        if active.lost:
            raise TrialLost(active.lost)
        if self.should_leave() or self.sync.control.paused:
            return "stopped"
        if active.verdict == "stop" or active.wanted == "stop":
            return "pruned"
        if active.verdict == "pause":
            return "paused"
        return "" if active.epochs_left != 0 else self.wait_for_epochs(active)

    def wait_for_epochs(self, active: ActiveTrial) -> TrialSignal:
        """Wait until the epochs that were trained are written and judged, and more are granted or none is left."""
        while active.unwritten_epochs or active.unjudged:
            if self.should_leave() or active.lost or active.verdict:
                return self.check_signal(active)
            self.sync.progress += 1
            time.sleep(EPOCH_SECONDS)
        return "stopped" if active.epochs_left == 0 and not active.verdict else self.check_signal(active)

    def confirm_params(self, active: ActiveTrial) -> None:
        """Start writing a trial: its parameters will not be drawn again."""
        active.is_choosing = False
        self.sync.wake()

    def record_epoch(
        self, active: ActiveTrial, row: dict[str, Any], judge: bool = True, is_new: bool = True
    ) -> None:
        """Record an epoch (a row of tuner_epoch), replacing an earlier record of it.

        `judge`: ask the scheduler. `is_new`: whether this worker trained it, not one before.
        """
        active.is_choosing = False
        epoch, value = int(row["epoch"]), row["value"]
        if self.joined.info.counts_seconds:
            active.count_seconds(epoch, row["seconds"])
        with active.lock:
            if is_new:
                active.unwritten_epochs += 1
                active.pending.trained += 1
            active.pending.epochs[epoch] = row
            if value is not None and epoch not in active.frozen.intermediate_values:
                active.frozen.intermediate_values[epoch] = value
                active.pending.values[epoch] = value
                if judge:
                    active.unjudged.append(epoch)
        self.sync.wake()

    def record_partial(self, active: ActiveTrial, value: float, judge: bool = True) -> None:
        """Record the goal's metric within the first epoch, as that of epoch 0, unless that was done before.

        `judge`: ask the scheduler, unless it has decided on it.
        """
        active.is_choosing = False
        if 0 not in active.frozen.intermediate_values:
            active.set_intermediate_value(0, value)
        if judge:
            self.judge_epoch(active, 0)
        self.sync.wake()

    def judge_epoch(self, active: ActiveTrial, epoch: int) -> None:
        """Ask the scheduler about a recorded epoch, unless it has decided on that."""
        if epoch > active.judged and epoch in active.frozen.intermediate_values:
            active.unjudged.append(epoch)
            self.sync.wake()

    def end_trial(
        self,
        active: ActiveTrial,
        state: EndState,
        value: float | None = None,
        on_written: Callable[[], None] = lambda: None,
        further: Sequence[float] = (),
    ) -> None:
        """End a trial; the end is written in the background, and then `on_written` is called if it was not lost.

        The value of a pruned trial is its last one, as in Optuna; with several goals it has none, also as in
        Optuna. The next trial is drawn knowing this end.
        """
        if state == "PRUNED":
            value = self.last_value(active)
        if state == "COMPLETE" and (value is None or any(map(math.isnan, (value, *further)))):
            state, value, further = "FAIL", None, ()  # it would break every sampler
            failed = failure_attrs(FailureKind.VALUE_NOT_A_NUMBER, "its value is not a number")
            for name, text in failed.items():
                self.storage.set_trial_user_attr(active.id, name, text)
        active.on_written = on_written
        active.is_choosing = False
        with active.lock:  # the sync thread may write the end before the trial is released
            active.frozen.state = TrialState[state]
            active.frozen.values = None if value is None else [value, *further]
            active.pending.end, active.pending.further = (state, value), tuple(further)
            self.storage.unwritten[active.id] = active
        self.release_trial()

    def last_value(self, active: ActiveTrial) -> float | None:
        """Return the last value of a trial that ends early; None without one, or with several goals."""
        steps = active.frozen.intermediate_values
        return steps[max(steps)] if steps and not self.joined.info.further else None

    def pause_trial(self, active: ActiveTrial, epoch: int, kept_bytes: int = 0) -> None:
        """End a trial as pruned for now, resting after an epoch with files of so many bytes.

        It is written before this returns.
        """
        with active.lock:
            if active.judgement:
                active.pending.add_judgement(active.judgement)
            active.pending.end = "PRUNED", self.last_value(active)
            active.pending.paused_at, active.pending.kept_bytes = epoch, kept_bytes
        self.flush_trial(active)
        self.release_trial()

    def flush_trial(self, active: ActiveTrial) -> bool:
        """Write everything pending; return False if another worker owns the trial."""
        try:
            self.sync.flush(active)
        except TrialLost as lost:
            log.info("trial %d: dropped, %s", active.number, lost)
            return False
        return True

    def put_back_trial(self, active: ActiveTrial) -> None:
        """Write everything pending, then let any worker continue the trial."""
        if self.flush_trial(active):
            claims.put_back_trial(self.engine, active.id, self.name)
        self.release_trial()

    def drop_trial(self, active: ActiveTrial) -> None:
        """Discard a trial that another worker owns now."""
        active.take_pending()
        self.release_trial()

    def release_trial(self) -> None:
        self.storage.active = None
        self.sync.budget.count_time(busy=False)
        self.update_status(**NO_STEPS, state="idle", number=None)
        self.sync.wake()
