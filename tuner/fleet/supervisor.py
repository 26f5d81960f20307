"""The fleet: starts, supervises and restarts the workers of one command, on this host or in a cluster.

It never loads torch. It also watches the workers of other fleets and puts back the trials of lost ones.
"""

from __future__ import annotations

import math
import signal
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from types import FrameType

import sqlalchemy as sa
from sqlalchemy.engine import Engine
from sqlalchemy.exc import SQLAlchemyError

from tuner.fleet.config import EXIT_GIVEN_UP, EXIT_GPU_FAILED, WorkerConfig
from tuner.fleet.gpus import GpuQuarantine
from tuner.fleet.local import EXIT_SLOT_LOST, WorkerSlot
from tuner.study import budget, claims, control
from tuner.study.heartbeat import HeartbeatMonitor, machine_id
from tuner.study.info import StudyInfo
from tuner.study.optuna_tables import trials
from tuner.study.tables import worker_table
from tuner.study.trial_queries import FINISHED

TICK_SECONDS = 0.1
LOOK_SECONDS = 1.0  # between two looks at the workers of all hosts
BEGIN_SECONDS = 120.0  # at least, for a worker to enter its name: it may have much to import
REST_SECONDS = 4.0  # before a seat whose worker found nothing is filled again; twice as long each time in vain
MOST_RESTS = 5  # doublings
LEAVE_SECONDS = 15.0  # beyond the heartbeat timeout, for a worker that was given up or whose GPU is closed to exit
MOST_RESTARTS = 5  # of one seat without a finished trial between
DIED_OF_ITSELF = {0, 1, 2, EXIT_GIVEN_UP, EXIT_GPU_FAILED}  # the trial it had, if any, is not to blame


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


class ForcedExit(BaseException):
    """The second Ctrl-C."""


@dataclass
class SlotState:
    """A seat, and what the fleet knows of the worker on it."""

    slot: WorkerSlot
    worker: str = ""  # the name it was given; '' while nobody sits here
    restarts: int = 0
    done: bool = False
    number: int | None = None  # of its trial, as its row said last
    peak_memory: int = 0  # bytes, of the worker that took most
    has_row: bool = False  # it has entered its name in the study
    started: float = 0.0  # when its place began to work, by time.monotonic()
    leaves: float | None = None  # since when it should be leaving, by the same clock
    ended: float = 0.0  # when the last worker here left of itself
    in_vain: int = 0  # workers in a row that left without a trial


@dataclass
class Fleet:
    """Call `run`; it returns when there is nothing left to do, with the exit code."""

    config: WorkerConfig
    engine: Engine
    info: StudyInfo
    slots: Sequence[WorkerSlot]
    look: Callable[[], None]  # called every second: the live view
    grow: Callable[[dict[str, int]], Sequence[WorkerSlot]] | None = (
        None  # more seats, from the memory taken on each GPU
    )
    say: Callable[[str], None] = say
    interrupts: int = 0
    error: str = ""
    told_to_stop: bool = False
    hurried: bool = False  # it ends already, and must not be interrupted any more
    finished: int = 0
    stops: int | None = None  # how often the study had been stopped when we began
    paused: bool = False  # as was told last
    free: float = math.inf  # trials that wait for a worker, as last counted
    quarantine: GpuQuarantine = field(default_factory=GpuQuarantine)

    def __post_init__(self) -> None:
        self.states = [SlotState(slot) for slot in self.slots]
        timeouts = self.config.heartbeat_timeout, self.config.hang_timeout
        self.watch = HeartbeatMonitor(self.engine, self.info.id, *timeouts)

    def run(self) -> int:
        """0 when the budget is spent or it was stopped, 1 for a bug in a worker, 2 for a told error."""
        before = {number: signal.signal(number, self.interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            return self.supervise()
        except ForcedExit:
            return 130
        except BaseException:
            self.part()
            raise
        finally:
            self.hurried = True
            self.kill()
            with self.database_may_fail():
                self.look()
            for number, handler in before.items():  # once interrupted, there is nothing more to interrupt
                signal.signal(number, signal.SIG_IGN if self.interrupts else handler)

    @contextmanager
    def database_may_fail(self) -> Iterator[None]:
        """A database that is away or full must not take the fleet down: its workers tell what is wrong.

        Silence is measured anew afterwards: while nobody could write, nobody could beat, nor enter a name.
        """
        try:
            yield
        except SQLAlchemyError:
            self.watch.restart()
            for state in self.states:
                state.started = time.monotonic()

    def interrupt(self, number: int, frame: FrameType | None) -> None:
        """Ctrl-C: the first is obeyed at the next look, the second at once, also while a database hangs."""
        self.interrupts += 1
        if self.interrupts == 1 and number == signal.SIGINT and not self.hurried:
            with suppress(RuntimeError):  # it came in the middle of another line
                self.say("saving; Ctrl-C again stops at once")
        if self.interrupts > 1 and not self.hurried:
            self.hurried = True
            raise ForcedExit

    def supervise(self) -> int:
        """Look at everything until every post is done; a study that is done needs no worker to say so."""
        looked, code = 0.0, 0
        with self.database_may_fail():
            self.stops = control.read_control_state(self.engine, self.info.id).stops
            self.watch.check()
            if claims.is_finished(self.engine, self.info.id) and not self.waits_for_a_sign():
                return 0
        while True:
            if self.interrupts or code:
                self.ask_to_stop()
            ends = [self.tend(state) for state in self.states]
            code = code or max(ends, default=0)
            if time.monotonic() - looked >= LOOK_SECONDS:
                self.look_round()
                looked = time.monotonic()
            if self.nobody_works() and self.is_over(code):
                return code
            time.sleep(TICK_SECONDS)

    def look_round(self) -> None:
        """What goes on beside our own workers' processes: in the database, on the memory of the GPUs."""
        with self.database_may_fail():
            self.watch.check()
            self.read_rows()
            self.heed()
            self.look()
            self.free = self.count_free()
            self.fill_again()
        self.see_them_begin()
        if self.grow and not self.told_to_stop:
            self.states += [SlotState(slot) for slot in self.grow(self.peaks())]

    def nobody_works(self) -> bool:
        """Whether no worker runs, and one at least found nothing to do or was not wanted, or would find nothing.

        Those that still wait for a place in a full cluster do not hold up the end.
        """
        if not all(state.done or state.slot.waiting for state in self.states):
            return False
        return not self.free or any(state.done for state in self.states)

    def is_over(self, code: int) -> bool:
        """Whether to end when nobody works; else what others put back meanwhile is taken up."""
        with self.database_may_fail():
            self.heed()
        if code or self.told_to_stop:
            return True
        if self.work_left():
            for state in self.states:
                state.done = self.is_closed(state)
            return all(state.done for state in self.states)
        return not self.waits_for_a_sign()

    def tend(self, state: SlotState) -> int:
        """Start a post's worker, or see how it ended. The exit code to end the fleet with, or 0."""
        if not state.worker:
            if self.told_to_stop or self.is_closed(state):
                state.done = True
            elif not state.done:
                self.start(state)
            return 0
        code = state.slot.poll()
        if code is None:
            self.hurry(state)
            return 0
        return self.ended(state, code)

    def start(self, state: SlotState) -> None:
        state.worker, state.has_row, state.number, state.leaves = uuid.uuid4().hex[:12], False, None, None
        state.started, state.in_vain = time.monotonic(), state.in_vain + 1
        state.slot.start(replace(self.config, worker=state.worker))

    def see_them_begin(self) -> None:
        """Kill workers that hang before they registered; waiting for a place in a cluster does not count."""
        limit = max(self.config.hang_timeout, BEGIN_SECONDS)
        for state in self.states:
            if state.slot.waiting:
                state.started = time.monotonic()
            if state.worker and not state.has_row and time.monotonic() - state.started > limit:
                self.say(f"{state.slot.name} did not begin within {limit:.0f} s: killed; see {state.slot.log}")
                state.slot.kill()
                state.started = math.inf

    def hurry(self, state: SlotState) -> None:
        """A worker that was given up, or whose GPU is closed, leaves by itself; one that hangs is killed."""
        if self.is_closed(state) and state.leaves is None:
            state.slot.terminate()
            state.leaves = time.monotonic()
        patience = self.config.heartbeat_timeout + LEAVE_SECONDS
        if state.leaves is not None and time.monotonic() - state.leaves > patience:
            self.say(f"{state.slot.name} does not leave: killed")
            state.slot.kill()
            state.leaves = math.inf

    def ended(self, state: SlotState, code: int) -> int:
        """A worker has ended: put back what it held, and see what becomes of its post."""
        gpu, said, worker = state.slot.gpu, state.slot.last_words(), state.worker
        with self.database_may_fail():
            self.read_rows()
        state.worker = ""
        with self.database_may_fail():
            claims.release_worker(self.engine, worker, died=code not in DIED_OF_ITSELF)
        if code in (0, 1, 2):
            self.quarantine.lived(gpu)
            state.done, state.ended = True, time.monotonic()
            state.slot.leave()
            if code:
                self.error = self.error or said or f"{state.slot.name} could not work; see {state.slot.log}"
            return code
        if code in (EXIT_GIVEN_UP, EXIT_SLOT_LOST) or self.is_closed(state):
            return 0
        if code == EXIT_GPU_FAILED and gpu:
            return self.close(gpu, said or "its worker said that it has failed")
        if gpu and self.quarantine.died(gpu, state.number):
            return self.close(gpu)
        return self.died(state, code)

    def died(self, state: SlotState, code: int) -> int:
        """Killed from outside: the trial was put back, the post gets a new worker."""
        finished = self.finished
        with self.database_may_fail():
            finished = self.count_finished()
        state.restarts = 0 if finished > self.finished else state.restarts + 1
        self.finished = finished
        if state.restarts > MOST_RESTARTS:
            state.done = True
            times = f"died {state.restarts} times in a row (exit code {code})"
            self.error = f"{state.slot.name} {times}; see {state.slot.log}"
            return 1
        return 0

    def close(self, gpu: str, why: str = "") -> int:
        """Send no more workers to that GPU; the exit code 2 when none is left."""
        self.quarantine.close(gpu, why)
        left = [state.slot for state in self.states if not self.is_closed(state)]
        line = self.quarantine.line(gpu, len(left))
        if left:
            self.say(line)
            return 0
        self.error = self.error or line
        return 2

    def is_closed(self, state: SlotState) -> bool:
        return state.slot.gpu in self.quarantine.closed

    def ask_to_stop(self) -> None:
        """SIGTERM once: save, put the trial back, leave."""
        if self.told_to_stop:
            return
        self.told_to_stop = True
        for state in self.states:
            if state.worker:
                state.slot.terminate()

    def part(self) -> None:
        """After an error of our own: the workers are healthy, so they may save, for a while."""
        self.hurried = True
        ends = time.monotonic() + LEAVE_SECONDS
        with suppress(Exception):  # it may be the same one again
            self.ask_to_stop()
            while any(state.worker and state.slot.poll() is None for state in self.states):
                if time.monotonic() > ends or self.interrupts > 1:
                    return
                time.sleep(TICK_SECONDS)

    def kill(self) -> None:
        """At once, whatever they do; their trials are put back here, and no trial is to blame."""
        held = [state for state in self.states if state.worker]
        for state in held:
            state.slot.kill()
            if state.slot.poll() is not None:
                state.slot.last_words()
        with self.database_may_fail():
            for state in held:
                claims.release_worker(self.engine, state.worker, died=False)
                state.worker = ""

    def read_rows(self) -> None:
        """What our own workers do, by their rows. One whose row was removed was given up: it must leave."""
        ours = {state.worker: state for state in self.states if state.worker}
        columns = worker_table.c.worker, worker_table.c.number, worker_table.c.peak_memory
        with self.engine.connect() as db:
            rows = db.execute(sa.select(*columns).where(worker_table.c.worker.in_(ours))).all()
        for worker, number, peak in rows:
            state = ours.pop(worker)
            if state.number is not None and number != state.number:
                self.quarantine.lived(state.slot.gpu)
            state.has_row, state.number = True, number
            state.in_vain = 0 if number is not None else state.in_vain
            state.peak_memory = max(state.peak_memory, peak or 0)
        for state in ours.values():
            if state.has_row and state.leaves is None:
                state.leaves = time.monotonic()

    def peaks(self) -> dict[str, int]:
        """The most memory that one worker on each GPU has taken so far."""
        most: dict[str, int] = {}
        for state in self.states:
            most[state.slot.gpu] = max(most.get(state.slot.gpu, 0), state.peak_memory)
        return most

    def heed(self) -> None:
        """Leave when the study was told to stop, by anybody, on any host; tell when it is paused and goes on."""
        standing = control.read_control_state(self.engine, self.info.id)
        if self.stops is None:
            self.stops = standing.stops
        if standing.stops > self.stops and not self.told_to_stop:
            self.say("stopped by tuner stop")
            self.ask_to_stop()
        if standing.paused != self.paused and not self.told_to_stop:
            self.paused = standing.paused
            self.say("the study is paused; go on with: tuner resume" if self.paused else "the study goes on")

    def waits_for_a_sign(self) -> bool:
        """Whether a worker of another machine holds a trial and was not yet seen alive: it may be a dead one's."""
        with self.database_may_fail():
            elsewhere = [
                row for row in self.watch.read_rows() if row.machine != machine_id() and row.number is not None
            ]
            return not self.watch.alive.issuperset(row.worker for row in elsewhere)
        return False

    def work_left(self) -> bool:
        """Whether a trial waits that was put back by someone else, and there is budget to finish it."""
        with self.database_may_fail():
            return claims.has_waiting_trial(self.engine, self.info.id) and not claims.is_finished(
                self.engine, self.info.id
            )
        return False

    def count_free(self) -> float:
        """How many trials further workers might begin or take up; counted only where some seat is idle."""
        if not any(state.done or state.slot.waiting for state in self.states):
            return math.inf
        if claims.is_finished(self.engine, self.info.id):
            return 0
        waiting = (trials.c.study_id == self.info.id) & (trials.c.state == "WAITING")
        with self.engine.connect() as db:
            back = db.scalar(sa.select(sa.func.count()).where(waiting)) or 0
        if self.info.has_given_trials:
            return back
        limit = budget.read_budget(self.engine, self.info.id).num_trials
        fresh = math.inf if limit is None else limit - budget.read_budget_use(self.engine, self.info.id).num_trials
        return back + max(0, fresh)

    def fill_again(self) -> None:
        """Seats that found nothing to do get workers again: the budget was raised, or a trial put back elsewhere.

        No more of them than there are trials to take, and ever more seldom those that keep finding nothing.
        """
        if self.told_to_stop or self.paused:
            return
        now = time.monotonic()
        room = self.free - sum(bool(state.worker) and state.number is None for state in self.states)
        for state in self.states:
            rest = REST_SECONDS * 2 ** min(max(0, state.in_vain - 1), MOST_RESTS)
            if room > 0 and state.done and not self.is_closed(state) and now - state.ended > rest:
                state.done, room = False, room - 1

    def count_finished(self) -> int:
        ended = (trials.c.study_id == self.info.id) & trials.c.state.in_(FINISHED)
        with self.engine.connect() as db:
            return db.scalar(sa.select(sa.func.count()).where(ended)) or 0
