"""The fleet: starts, supervises and restarts the workers of one command, on this host or in a cluster.

It never imports torch. It also monitors the workers of other fleets and puts back the trials of dead ones.
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
LOOK_SECONDS = 1.0  # between two checks of the workers of all hosts
BEGIN_SECONDS = 120.0  # minimum time for a worker to register: imports may be slow
REST_SECONDS = 4.0  # before an idle slot is filled again; doubled each time its worker finds no trial
MOST_RESTS = 5  # maximum number of doublings
LEAVE_SECONDS = 15.0  # beyond the heartbeat timeout, for a removed worker or one on a closed GPU to exit
MOST_RESTARTS = 5  # of one slot without a finished trial in between
DIED_OF_ITSELF = {0, 1, 2, EXIT_GIVEN_UP, EXIT_GPU_FAILED}  # exits that are not the fault of the trial


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


class ForcedExit(BaseException):
    """The second Ctrl-C."""


@dataclass
class SlotState:
    """A slot, and what the fleet knows about its worker."""

    slot: WorkerSlot
    worker: str = ""  # its generated name; '' while no worker runs here
    restarts: int = 0
    done: bool = False
    number: int | None = None  # of its trial, as last read from its row
    peak_memory: int = 0  # bytes, the maximum of all workers in this slot
    has_row: bool = False  # whether it has registered in the study
    started: float = 0.0  # when its place began to work, by time.monotonic()
    leaves: float | None = None  # when it was asked to exit, by the same clock
    ended: float = 0.0  # when the last worker here exited normally
    in_vain: int = 0  # workers in a row that left without a trial


@dataclass
class Fleet:
    """The workers of one command. `run` returns the exit code when no work is left."""

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
    hurried: bool = False  # shutting down: must not be interrupted again
    finished: int = 0
    stops: int | None = None  # stop count of the study when the fleet started
    paused: bool = False  # as last reported
    free: float = math.inf  # trials available to further workers, as last counted
    quarantine: GpuQuarantine = field(default_factory=GpuQuarantine)

    def __post_init__(self) -> None:
        self.states = [SlotState(slot) for slot in self.slots]
        timeouts = self.config.settings.heartbeat_timeout, self.config.settings.hang_timeout
        self.watch = HeartbeatMonitor(self.engine, self.info.id, *timeouts)

    def run(self) -> int:
        """Return 0 when the budget is spent or on a stop, 1 for a bug in a worker, 2 for a reported error."""
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
            for number, handler in before.items():  # after an interrupt, ignore further ones
                signal.signal(number, signal.SIG_IGN if self.interrupts else handler)

    @contextmanager
    def database_may_fail(self) -> Iterator[None]:
        """Ignore database errors, so that an outage does not end the fleet: the workers report the problem.

        Restart all timeouts afterwards: no worker could write a heartbeat or register meanwhile.
        """
        try:
            yield
        except SQLAlchemyError:
            self.watch.restart()
            for state in self.states:
                state.started = time.monotonic()

    def interrupt(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal: the first stops at the next check, the second at once, even if a query blocks."""
        self.interrupts += 1
        if self.interrupts == 1 and number == signal.SIGINT and not self.hurried:
            with suppress(RuntimeError):  # the signal arrived during another print
                self.say("saving; Ctrl-C again stops at once")
        if self.interrupts > 1 and not self.hurried:
            self.hurried = True
            raise ForcedExit

    def supervise(self) -> int:
        """Run until every slot is done, and return the exit code; a finished study needs no worker."""
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
        """Check the database and the GPU memory, and fill or add slots where there is work."""
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
        """Return whether no worker runs, and no trial is available or at least one slot is done.

        Workers that still wait for a place in a full cluster do not delay the end.
        """
        if not all(state.done or state.slot.waiting for state in self.states):
            return False
        return not self.free or any(state.done for state in self.states)

    def is_over(self, code: int) -> bool:
        """Return whether to end now that no worker runs; otherwise reopen slots for trials put back elsewhere."""
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
        """Start a slot's worker, or handle its end. Return the exit code to end the fleet with, or 0."""
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
        """Kill workers that hang before they register; waiting for a place in a cluster does not count."""
        limit = max(self.config.settings.hang_timeout, BEGIN_SECONDS)
        for state in self.states:
            if state.slot.waiting:
                state.started = time.monotonic()
            if state.worker and not state.has_row and time.monotonic() - state.started > limit:
                self.say(f"{state.slot.name} did not begin within {limit:.0f} s: killed; see {state.slot.log}")
                state.slot.kill()
                state.started = math.inf

    def hurry(self, state: SlotState) -> None:
        """Terminate a worker on a closed GPU, and kill a worker that does not exit in time."""
        if self.is_closed(state) and state.leaves is None:
            state.slot.terminate()
            state.leaves = time.monotonic()
        patience = self.config.settings.heartbeat_timeout + LEAVE_SECONDS
        if state.leaves is not None and time.monotonic() - state.leaves > patience:
            self.say(f"{state.slot.name} does not leave: killed")
            state.slot.kill()
            state.leaves = math.inf

    def ended(self, state: SlotState, code: int) -> int:
        """Put back the trial of an ended worker and update its slot; return the fleet's exit code, or 0."""
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
        """Count the death of a worker, which is restarted; return 1 after too many in a row, else 0."""
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
        """Close a GPU to workers; return 2 when no slot is left, else 0."""
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
        """Send SIGTERM to all workers, once: they save, put their trials back and exit."""
        if self.told_to_stop:
            return
        self.told_to_stop = True
        for state in self.states:
            if state.worker:
                state.slot.terminate()

    def part(self) -> None:
        """Let the workers save, for a limited time, after an error in the fleet itself."""
        self.hurried = True
        ends = time.monotonic() + LEAVE_SECONDS
        with suppress(Exception):  # the same error may occur again
            self.ask_to_stop()
            while any(state.worker and state.slot.poll() is None for state in self.states):
                if time.monotonic() > ends or self.interrupts > 1:
                    return
                time.sleep(TICK_SECONDS)

    def kill(self) -> None:
        """Kill all workers and put back their trials, without counting a death against the trials."""
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
        """Read the rows of this fleet's workers. A worker whose row was removed has to exit."""
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
        """Return the peak memory of a worker on each GPU so far, in bytes."""
        most: dict[str, int] = {}
        for state in self.states:
            most[state.slot.gpu] = max(most.get(state.slot.gpu, 0), state.peak_memory)
        return most

    def heed(self) -> None:
        """Stop if the study was stopped on any host; report when it is paused or resumed."""
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
        """Return whether a worker of another machine holds a trial but was not seen alive yet: it may be dead."""
        with self.database_may_fail():
            elsewhere = [
                row for row in self.watch.read_rows() if row.machine != machine_id() and row.number is not None
            ]
            return not self.watch.alive.issuperset(row.worker for row in elsewhere)
        return False

    def work_left(self) -> bool:
        """Return whether a trial waits to be resumed and there is budget to finish it."""
        with self.database_may_fail():
            return claims.has_waiting_trial(self.engine, self.info.id) and not claims.is_finished(
                self.engine, self.info.id
            )
        return False

    def count_free(self) -> float:
        """Return how many trials further workers could take; counted only while a slot is idle."""
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
        """Reopen idle slots when trials are available: the budget was raised, or a trial put back elsewhere.

        Open at most one slot per available trial, and wait longer for slots that repeatedly find none.
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
