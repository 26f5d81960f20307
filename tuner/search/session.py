"""A worker's desk: it takes trials here, and what it says of them is written by its clerk.

The trial in hand lives in memory. Training never waits for the database: it asks `says` before every step,
which looks at memory only, and an epoch is recorded by being put down.

    with Session(joined, who) as session:
        while held := session.take():
            trial = session.trial(held)                              # suggest with it
            session.chosen(held)
            for epoch in ...:
                while steps: if said := session.says(held): ...      # "stopped", "pruned", or TrialLost
                session.epoch(held, row)
            session.end(held, "COMPLETE", value)

A database that is away is tried again for minutes; meanwhile training goes on, and all is written afterwards.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from typing import Any, Literal

import optuna
import sqlalchemy as sa
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.engine import Engine

from tuner.errors import FailureKind, StudyError, TrialLost
from tuner.fleet.config import WorkerSettings
from tuner.search.sync import SyncThread
from tuner.study import claims, control, database, trial_reader
from tuner.study.claims import ClaimedTrial, WorkerRemoved
from tuner.study.database import retried
from tuner.study.failures import failure_attrs
from tuner.study.pending import ActiveTrial, EndState
from tuner.study.study import JoinedStudy
from tuner.study.tables import study_table, worker_table

LEAVE_SECONDS = 8.0  # for the last page: who is told to end has often ten seconds to live
PAUSE_SECONDS = 0.1  # between two looks whether the study goes on
TrialSignal = Literal["", "stopped", "pruned"]
log = logging.getLogger("tuner")


class Session:
    """See above. `who` is the worker's row: worker, host, machine, pid, born, device, version.

    `stopped` says whether this worker alone was told to leave, by a signal for instance.
    """

    def __init__(
        self,
        joined: JoinedStudy,
        who: dict[str, Any],
        settings: WorkerSettings | None = None,
        gpu_share: float = 1.0,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        self.joined, self.who, self.stopped = joined, who, stopped
        self.name: str = who["worker"]
        self.engine: Engine = joined.engine
        self.sync = SyncThread(joined, self.name, settings or WorkerSettings(), gpu_share)
        self.storage = self.sync.storage
        self.ordinal = 0  # how many workers had joined before
        self.began_with = 0  # of the study's stops

    def __enter__(self) -> Session:
        self.ordinal = self.enter()
        retried(self.sync.hours.read_limits)()
        self.sync.standing = retried(control.read_control_state)(self.engine, self.joined.id)
        self.began_with = self.sync.standing.stops
        self.sync.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Write what is left, and put back what is in hand. A database that is away does it without us."""
        self.sync.close(LEAVE_SECONDS)
        before, database.patience = database.patience, database.IMPATIENT_SECONDS
        try:
            claims.release_worker(self.engine, self.name, died=False)
        except sa.exc.SQLAlchemyError as error:
            kind = type(error).__name__
            log.warning("the database is away: others will notice that this worker left (%s)", kind)
        finally:
            database.patience = before
            self.storage.held = None

    @retried
    def enter(self) -> int:
        """Write the worker's row; how many workers had joined the study before it."""
        same = study_table.c.study_id == self.joined.id
        with self.engine.begin() as db:
            db.execute(sa.update(study_table).where(same).values(num_workers=study_table.c.num_workers + 1))
            db.execute(sa.delete(worker_table).where(worker_table.c.worker == self.name))
            row = {"study_id": self.joined.id, **self.who, **self.sync.doing}
            db.execute(sa.insert(worker_table).values(**row))
            return int(db.scalar(sa.select(study_table.c.num_workers).where(same)) or 1) - 1

    def tell(self, **doing: Any) -> None:
        """Change what the next beat will say; also a sign that the work gets on."""
        self.sync.progress += 1
        self.sync.doing = {**self.sync.doing, **doing}

    # A trial from the hand of the study

    def take(self) -> ActiveTrial | None:
        """The next trial, or None: nothing is left, or the workers were told to stop. Waits while paused."""
        while not self.is_over():
            if self.sync.standing.paused:
                self.tell(state="paused")
                time.sleep(PAUSE_SECONDS)
                continue
            self.sync.hours.before_trial()
            taken = self.take_one()
            if isinstance(taken, ClaimedTrial):
                return self.hold(taken)
            if taken == "spent":
                return None
            self.sync.standing = control.ControlState(self.sync.standing.stops, True)
        return None

    def take_one(self) -> ClaimedTrial | Literal["spent", "paused"]:
        info = self.joined.info
        unwritten = tuple(held.id for held in list(self.sync.ended))
        try:
            return claims.claim_trial(self.engine, info.id, info.name, self.name, info.has_given_trials, unwritten)
        except claims.StudyDeleted:
            raise StudyError(f"study '{info.name}' was deleted meanwhile; nothing is left to do.") from None

    def hold(self, taken: ClaimedTrial) -> ActiveTrial:
        """Bring a trial into memory: a new one has nothing to be read."""
        frozen = new_frozen_trial(taken) if taken.is_new else self.storage.get_trial(taken.trial_id)
        frozen.state = TrialState.RUNNING
        held = ActiveTrial(frozen, taken.attempt, taken.deaths, taken.wanted)
        self.storage.held = held
        self.tell(state="preparing", number=taken.number, step=0, steps=0, value=None, params=None)
        self.sync.hours.count_time(busy=True)
        return held

    def trial(self, held: ActiveTrial) -> optuna.Trial:
        """The held trial as Optuna gives it to an objective; nothing of it waits for the database."""
        study = self.joined.study
        study._thread_local.cached_all_trials = None  # as Study.ask does: the sampler must see today's trials
        return optuna.Trial(study, held.id)

    # While it is trained

    def is_over(self) -> bool:
        """Whether this worker is to leave. Raises what ended the clerk."""
        if self.sync.unknown:
            raise WorkerRemoved
        if self.sync.failure:
            raise self.sync.failure
        return self.stopped() or self.sync.standing.stops > self.began_with or self.sync.hours.is_spent

    def says(self, held: ActiveTrial) -> TrialSignal:
        """Whether to go on with a trial: asked before every step. TrialLost when it is no more ours."""
        self.sync.progress += 1
        if held.lost:
            raise TrialLost(held.lost)
        if self.is_over() or self.sync.standing.paused:
            return "stopped"
        return "pruned" if held.prune or held.wanted == "stop" else ""

    def chosen(self, held: ActiveTrial) -> None:
        """The parameters are what they will be: from here on they are written."""
        held.is_choosing = False
        self.sync.ring()

    def epoch(self, held: ActiveTrial, row: dict[str, Any], judge: bool = True) -> None:
        """Record an epoch (a row of tuner_epoch) and have it judged. An epoch recorded before is replaced."""
        held.is_choosing = False
        epoch, value = int(row["epoch"]), row["value"]
        with held.lock:
            held.pending.epochs[epoch] = row
            if value is not None and epoch not in held.frozen.intermediate_values:
                held.frozen.intermediate_values[epoch] = value
                held.pending.values[epoch] = value
                if judge:
                    held.unjudged.append(epoch)
        self.sync.ring()

    # Out of the hand

    def end(
        self,
        held: ActiveTrial,
        state: EndState,
        value: float | None = None,
        done: Callable[[], None] = lambda: None,
    ) -> None:
        """Give a trial its end, written in the background, and then call `done`. Dropped, if it was lost.

        A pruned trial's value is its last one, as Optuna has it. The next trial is drawn knowing this end.
        """
        steps = held.frozen.intermediate_values
        if state == "PRUNED" and steps:
            value = steps[max(steps)]
        if state == "COMPLETE" and (value is None or math.isnan(value)):  # it would break every sampler
            state, value = "FAIL", None
            failed = failure_attrs(FailureKind.VALUE_NOT_A_NUMBER, "its value is not a number")
            for name, text in failed.items():
                self.storage.set_trial_user_attr(held.id, name, text)
        held.on_written = done
        held.is_choosing = False
        with held.lock:  # the clerk may write this page before we let go
            held.frozen.state = TrialState[state]
            held.frozen.values = None if value is None else [value]
            self.storage.unwritten[held.number] = held.frozen
            held.pending.end = state, value
            self.sync.ended.append(held)
        self.let_go()

    def put_back(self, held: ActiveTrial) -> None:
        """Have a trial gone on with later, by whoever is first. Waits until all of it is written."""
        try:
            self.sync.flushed(held)
            claims.put_back_trial(self.engine, held.id, self.name)
        except TrialLost as lost:
            log.info("trial %d: dropped, %s", held.number, lost)
        self.let_go()

    def drop(self, held: ActiveTrial) -> None:
        """Forget a trial that is somebody else's."""
        held.take_pending()
        self.let_go()

    def let_go(self) -> None:
        self.storage.held = None
        self.sync.hours.count_time(busy=False)
        self.tell(state="idle", number=None, step=0, steps=0, value=None, params=None)
        self.sync.ring()


def new_frozen_trial(taken: ClaimedTrial) -> FrozenTrial:
    """A trial that was created just now, as it stands in the database."""
    return trial_reader.make_trial(taken.trial_id, taken.number, TrialState.WAITING, claims.utc_now(), None)
