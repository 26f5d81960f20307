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
from tuner.study.trial_queries import FINISHED
from tuner.wording import write_command

TICK_SECONDS = 0.1
CHECK_SECONDS = 1.0  # between two checks of the workers of all hosts
REGISTER_SECONDS = 120.0  # minimum time for a worker to register: imports may be slow
REST_SECONDS = 4.0  # before an idle slot is filled again; doubled each time its worker finds no trial
MAX_DOUBLINGS = 5  # maximum number of doublings
LEAVE_SECONDS = 15.0  # beyond the heartbeat timeout, for a removed worker or one on a closed GPU to exit
MAX_RESTARTS = 5  # of one slot without a finished trial in between
EXITS_WITHOUT_DEATH = {0, 1, 2, EXIT_GIVEN_UP, EXIT_GPU_FAILED}  # exits that are not the fault of the trial


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
    leaving_since: float | None = None  # when it was asked to exit, by the same clock
    ended: float = 0.0  # when the last worker here exited normally
    num_vain: int = 0  # consecutive workers that found no trial


@dataclass
class Fleet:
    """The workers of one command. `run` returns the exit code when no work is left."""

    config: WorkerConfig
    engine: Engine
    info: StudyInfo
    slots: Sequence[WorkerSlot]
    look: Callable[[], None]  # called every second: the live view
    grow: Callable[[dict[str, int]], Sequence[WorkerSlot]] | None = None  # peak memory by GPU -> slots to add
    say: Callable[[str], None] = say
    is_due: Callable[[], bool] = lambda: False  # whether a paused trial is to go on although no new one may start
    interrupts: int = 0
    error: str = ""
    is_stopping: bool = False
    is_closing: bool = False  # shutting down: must not be interrupted again
    finished: int = 0
    stops: int | None = None  # stop count of the study when the fleet started
    paused: bool = False  # as last reported
    num_available: float = math.inf  # trials available to further workers, as last counted
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
            self.save_workers()
            raise
        finally:
            self.is_closing = True
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
        if self.interrupts == 1 and number == signal.SIGINT and not self.is_closing:
            with suppress(RuntimeError):  # the signal arrived during another print
                self.say("saving; Ctrl-C again stops at once")
        if self.interrupts > 1 and not self.is_closing:
            self.is_closing = True
            raise ForcedExit

    def supervise(self) -> int:
        """Run until every slot is done, and return the exit code; a finished study needs no worker."""
        looked, code = 0.0, 0
        with self.database_may_fail():
            self.stops = control.read_control_state(self.engine, self.info.id).stops
            self.watch.check()
            is_finished = claims.is_finished(self.engine, self.info.id) and not self.is_due()
            if is_finished and not self.awaits_heartbeat():
                return 0
        while True:
            if self.interrupts or code:
                self.terminate_workers()
            ends = [self.update_slot(state) for state in self.states]
            code = code or max(ends, default=0)
            if time.monotonic() - looked >= CHECK_SECONDS:
                self.check_round()
                looked = time.monotonic()
            if self.is_idle() and self.is_over(code):
                return code
            time.sleep(TICK_SECONDS)

    def check_round(self) -> None:
        """Check the database and the GPU memory, and fill or add slots where there is work."""
        with self.database_may_fail():
            self.watch.check()
            self.read_rows()
            self.check_control()
            self.look()
            self.num_available = self.count_available()
            self.reopen_slots()
        self.kill_unregistered()
        if self.grow and not self.is_stopping:
            self.states += [SlotState(slot) for slot in self.grow(self.peak_memory())]

    def is_idle(self) -> bool:
        """Return whether no worker runs, and no trial is available or at least one slot is done.

        Workers that still wait for a place in a full cluster do not delay the end.
        """
        if not all(state.done or state.slot.waiting for state in self.states):
            return False
        return not self.num_available or any(state.done for state in self.states)

    def is_over(self, code: int) -> bool:
        """Return whether to end now that no worker runs; otherwise reopen slots for trials put back elsewhere."""
        with self.database_may_fail():
            self.check_control()
        if code or self.is_stopping:
            return True
        if self.has_waiting_trial():
            for state in self.states:
                state.done = self.is_closed(state)
            return all(state.done for state in self.states)
        return not self.awaits_heartbeat()

    def update_slot(self, state: SlotState) -> int:
        """Start a slot's worker, or handle its end. Return the exit code to end the fleet with, or 0."""
        if not state.worker:
            if self.is_stopping or self.is_closed(state):
                state.done = True
            elif not state.done:
                self.start(state)
            return 0
        code = state.slot.poll()
        if code is None:
            self.enforce_exit(state)
            return 0
        return self.handle_exit(state, code)

    def start(self, state: SlotState) -> None:
        state.worker, state.has_row, state.number, state.leaving_since = uuid.uuid4().hex[:12], False, None, None
        state.started, state.num_vain = time.monotonic(), state.num_vain + 1
        state.slot.start(replace(self.config, worker=state.worker))

    def kill_unregistered(self) -> None:
        """Kill workers that hang before they register; waiting for a place in a cluster does not count."""
        limit = max(self.config.settings.hang_timeout, REGISTER_SECONDS)
        for state in self.states:
            if state.slot.waiting:
                state.started = time.monotonic()
            if state.worker and not state.has_row and time.monotonic() - state.started > limit:
                self.say(f"{state.slot.name} did not begin within {limit:.0f} s: killed; see {state.slot.log}")
                state.slot.kill()
                state.started = math.inf

    def enforce_exit(self, state: SlotState) -> None:
        """Terminate a worker on a closed GPU, and kill a worker that does not exit in time."""
        if self.is_closed(state) and state.leaving_since is None:
            state.slot.terminate()
            state.leaving_since = time.monotonic()
        patience = self.config.settings.heartbeat_timeout + LEAVE_SECONDS
        if state.leaving_since is not None and time.monotonic() - state.leaving_since > patience:
            self.say(f"{state.slot.name} does not leave: killed")
            state.slot.kill()
            state.leaving_since = math.inf

    def handle_exit(self, state: SlotState, code: int) -> int:
        """Put back the trial of an ended worker and update its slot; return the fleet's exit code, or 0."""
        gpu, reported, worker = state.slot.gpu, state.slot.last_words(), state.worker
        with self.database_may_fail():
            self.read_rows()
        state.worker = ""
        with self.database_may_fail():
            claims.release_worker(self.engine, worker, died=code not in EXITS_WITHOUT_DEATH)
        if code in (0, 1, 2):
            self.quarantine.record_success(gpu)
            state.done, state.ended = True, time.monotonic()
            state.slot.leave()
            if code:
                self.error = self.error or reported or f"{state.slot.name} could not work; see {state.slot.log}"
            return code
        if code in (EXIT_GIVEN_UP, EXIT_SLOT_LOST) or self.is_closed(state):
            return 0
        if code == EXIT_GPU_FAILED and gpu:
            return self.close_gpu(gpu, reported or "its worker reported a failure")
        if gpu and self.quarantine.record_death(gpu, state.number):
            return self.close_gpu(gpu)
        return self.handle_death(state, code)

    def handle_death(self, state: SlotState, code: int) -> int:
        """Count the death of a worker, which is restarted; return 1 after too many in a row, else 0."""
        finished = self.finished
        with self.database_may_fail():
            finished = self.count_trials(*FINISHED)
        state.restarts = 0 if finished > self.finished else state.restarts + 1
        self.finished = finished
        if state.restarts > MAX_RESTARTS:
            state.done = True
            times = f"died {state.restarts} times in a row (exit code {code})"
            self.error = f"{state.slot.name} {times}; see {state.slot.log}"
            return 1
        return 0

    def close_gpu(self, gpu: str, why: str = "") -> int:
        """Close a GPU to workers; return 2 when no slot is left, else 0."""
        self.quarantine.close(gpu, why)
        left = [state.slot for state in self.states if not self.is_closed(state)]
        line = self.quarantine.closing_message(gpu, len(left))
        if left:
            self.say(line)
            return 0
        self.error = self.error or line
        return 2

    def is_closed(self, state: SlotState) -> bool:
        return state.slot.gpu in self.quarantine.closed

    def terminate_workers(self) -> None:
        """Send SIGTERM to all workers, once: they save, put their trials back and exit."""
        if self.is_stopping:
            return
        self.is_stopping = True
        for state in self.states:
            if state.worker:
                state.slot.terminate()

    def save_workers(self) -> None:
        """Let the workers save, for a limited time, after an error in the fleet itself."""
        self.is_closing = True
        ends = time.monotonic() + LEAVE_SECONDS
        with suppress(Exception):  # the same error may occur again
            self.terminate_workers()
            while any(state.worker and state.slot.poll() is None for state in self.states):
                if time.monotonic() > ends or self.interrupts > 1:
                    return
                time.sleep(TICK_SECONDS)

    def kill(self) -> None:
        """Kill all workers and put back their trials, without counting a death against the trials."""
        running = [state for state in self.states if state.worker]
        for state in running:
            state.slot.kill()
            if state.slot.poll() is not None:
                state.slot.last_words()
        with self.database_may_fail():
            for state in running:
                claims.release_worker(self.engine, state.worker, died=False)
                state.worker = ""

    def read_rows(self) -> None:
        """Read the rows of this fleet's workers. A worker whose row was removed has to exit."""
        ours = {state.worker: state for state in self.states if state.worker}
        for row in self.watch.read_rows():
            if state := ours.pop(row.worker, None):
                if state.number is not None and row.number != state.number:
                    self.quarantine.record_success(state.slot.gpu)
                state.has_row, state.number = True, row.number
                state.num_vain = 0 if row.number is not None else state.num_vain
                state.peak_memory = max(state.peak_memory, row.peak_memory or 0)
        for state in ours.values():
            if state.has_row and state.leaving_since is None:
                state.leaving_since = time.monotonic()

    def peak_memory(self) -> dict[str, int]:
        """Return the peak memory of a worker on each GPU so far, in bytes."""
        peaks: dict[str, int] = {}
        for state in self.states:
            peaks[state.slot.gpu] = max(peaks.get(state.slot.gpu, 0), state.peak_memory)
        return peaks

    def check_control(self) -> None:
        """Stop if the study was stopped on any host; report when it is paused or resumed."""
        state = control.read_control_state(self.engine, self.info.id)
        if self.stops is None:
            self.stops = state.stops
        if self.is_stopping:
            return
        if state.stops > self.stops:
            self.say("stopped by tuner stop")
            self.terminate_workers()
        elif state.paused != self.paused:
            self.paused = state.paused
            resume = write_command("resume", study=self.info.name)
            self.say(f"the study is paused; go on with: {resume}" if self.paused else "the study goes on")

    def awaits_heartbeat(self) -> bool:
        """Return whether a worker of another machine holds a trial but was not seen alive yet: it may be dead."""
        with self.database_may_fail():
            rows = self.watch.read_rows()
            elsewhere = {row.worker for row in rows if row.machine != machine_id() and row.number is not None}
            return not elsewhere <= self.watch.alive
        return False

    def has_waiting_trial(self) -> bool:
        """Return whether a trial waits to be resumed and there is budget to finish it, or a paused one is due."""
        with self.database_may_fail():
            if self.is_due():
                return True
            finished = claims.is_finished(self.engine, self.info.id)
            return claims.has_waiting_trial(self.engine, self.info.id) and not finished
        return False

    def count_available(self) -> float:
        """Return how many trials further workers could take; counted only while a slot is idle."""
        if not any(state.done or state.slot.waiting for state in self.states):
            return math.inf
        if claims.is_finished(self.engine, self.info.id):
            return int(self.is_due())
        waiting = self.count_trials("WAITING")
        if self.info.has_given_trials:
            return waiting
        now = budget.read_budget(self.engine, self.info.id)
        limit = now.budget.num_trials
        new = math.inf if limit is None else limit - now.spent.num_trials
        return waiting + max(0, new)

    def reopen_slots(self) -> None:
        """Reopen idle slots when trials are available: the budget was raised, or a trial put back elsewhere.

        Open at most one slot per available trial, and wait longer for slots that repeatedly find none.
        """
        if self.is_stopping or self.paused:
            return
        now = time.monotonic()
        room = self.num_available - sum(bool(state.worker) and state.number is None for state in self.states)
        for state in self.states:
            rest = REST_SECONDS * 2 ** min(max(0, state.num_vain - 1), MAX_DOUBLINGS)
            if room > 0 and state.done and not self.is_closed(state) and now - state.ended > rest:
                state.done, room = False, room - 1

    def count_trials(self, *states: str) -> int:
        wanted = (trials.c.study_id == self.info.id) & trials.c.state.in_(states)
        with self.engine.connect() as db:
            return db.scalar(sa.select(sa.func.count()).where(wanted)) or 0
