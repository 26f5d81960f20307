"""The workers of this host: started, pinned, restarted when they die, stopped with care.

The fleet itself never trains and never loads torch. It also puts back the trials of workers that are
gone, here at once, elsewhere after their beat has been silent for a while.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import IO

import psutil
from sqlalchemy.engine import Engine
from sqlalchemy.exc import SQLAlchemyError

from tuner import overview, records
from tuner.errors import writing
from tuner.orders import Orders
from tuner.overview import StudyInfo, Worker
from tuner.runs import Home

TICK_SECONDS = 0.1
LOOK_SECONDS = 1.0  # between two looks at the workers of all hosts
SILENT_SECONDS = 30.0  # without a beat, a worker of another host counts as gone
# How long torch's threads spin before they sleep. Spinning without end, two processes on the same two cores
# made each other 6 times slower; sleeping at once costs a lone process a third of its speed; this costs neither.
SPINS = "20000"
MOST_RESTARTS = 5  # of one seat without a finished trial between


@dataclass
class Seat:
    """The place of one worker: a GPU or a share of the cores, and the process that sits there."""

    number: int
    gpu: str | None
    cores: list[int]
    process: subprocess.Popen[str] | None = None
    log: IO[str] | None = None
    restarts: int = 0
    done: bool = False


@dataclass
class Fleet:
    """Call `run`; it returns when there is nothing left to do, with the exit code."""

    orders: Orders
    home: Home
    engine: Engine
    info: StudyInfo
    seats: list[Seat]
    deadline: float | None  # by time.monotonic()
    look: Callable[[], None]  # called every second: the live view
    interrupts: int = 0
    error: str = ""
    told_to_stop: bool = False
    beats: dict[str, tuple[int, float]] = field(default_factory=dict)
    alive: set[str] = field(default_factory=set)  # workers of other hosts whose beat was seen to move
    finished: int = 0

    def run(self) -> int:
        """0 when the budget is spent or it was stopped, 1 for a bug in a worker, 2 for a told error."""
        before = {number: signal.signal(number, self.interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            return self.watch()
        finally:
            self.kill()
            with self.database_may_fail():
                self.look()
            for number, handler in before.items():  # once interrupted, there is nothing more to interrupt
                signal.signal(number, signal.SIG_IGN if self.interrupts else handler)

    @contextmanager
    def database_may_fail(self) -> Iterator[None]:
        """A database that is away or full must not take the fleet down: its workers tell what is wrong.

        Silence is measured anew afterwards: while nobody could write, nobody could beat.
        """
        try:
            yield
        except SQLAlchemyError:
            self.beats.clear()

    def interrupt(self, number: int, frame: FrameType | None) -> None:
        self.interrupts += 1

    def watch(self) -> int:
        """Look at everything until every seat is done; a study that is done needs no worker to say so."""
        looked, code = 0.0, 0
        with self.database_may_fail():
            self.reap(time.monotonic())
            if records.is_done(self.engine, self.info.id) and not self.waits_for_a_sign():
                return 0
        while True:
            now = time.monotonic()
            if self.interrupts > 1:
                return 130
            if self.interrupts or code or (self.deadline is not None and now > self.deadline):
                self.ask_to_stop()
            code = code or max((self.tend(seat) for seat in self.seats), default=0)
            if now - looked >= LOOK_SECONDS:
                with self.database_may_fail():
                    self.reap(now)
                    self.look()
                looked = now
            if all(seat.done for seat in self.seats):
                if code or self.told_to_stop:
                    return code
                if not self.work_left():
                    if not self.waits_for_a_sign():
                        return code
                    time.sleep(TICK_SECONDS)
                    continue
                for seat in self.seats:
                    seat.done = False
            time.sleep(TICK_SECONDS)

    def tend(self, seat: Seat) -> int:
        """Start a seat's worker, or see how it ended. The exit code to end the fleet with, or 0."""
        if seat.process is None:
            if self.told_to_stop:
                seat.done = True
            elif not seat.done:
                self.start(seat)
            return 0
        code = seat.process.poll()
        if code is None:
            return 0
        said = self.last_words(seat)
        with self.database_may_fail():
            self.put_back(seat.process.pid, died=code not in (0, 1, 2))
        seat.process = None
        if code in (0, 1, 2):
            seat.done = True
            if code:
                self.error = self.error or said or f"worker {seat.number} could not work; see {self.log_of(seat)}"
            return code
        return self.died(seat, code)

    def died(self, seat: Seat, code: int) -> int:
        """Killed from outside: the trial was put back, the seat gets a new worker."""
        finished = self.finished
        with self.database_may_fail():
            finished = self.count_finished()
        seat.restarts = 0 if finished > self.finished else seat.restarts + 1
        self.finished = finished
        if seat.restarts > MOST_RESTARTS:
            seat.done = True
            times = f"died {seat.restarts} times in a row (exit code {code})"
            self.error = f"worker {seat.number} {times}; see {self.log_of(seat)}"
            return 1
        return 0

    def start(self, seat: Seat) -> None:
        """A worker in a session of its own, so that Ctrl-C reaches the fleet alone."""
        env = {"GOMP_SPINCOUNT": SPINS, **os.environ}
        if seat.gpu is not None:
            env["CUDA_VISIBLE_DEVICES"] = seat.gpu
        if seat.cores:
            env["OMP_NUM_THREADS"] = str(len(seat.cores))
        path = self.log_of(seat)
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            seat.log = path.open("a", encoding="utf-8")
        seat.process = subprocess.Popen(
            [sys.executable, "-m", "tuner.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=seat.log,
            text=True,
            env=env,
            start_new_session=True,
        )
        assert seat.process.stdin
        with suppress(BrokenPipeError):  # it has ended already: the next look sees how
            seat.process.stdin.write(replace(self.orders, cores=seat.cores).to_line())
            seat.process.stdin.flush()

    def log_of(self, seat: Seat) -> Path:
        return self.home.log(self.info.name, f"worker-{seat.number}")

    def last_words(self, seat: Seat) -> str:
        """What a worker said at its end."""
        assert seat.process and seat.process.stdout and seat.process.stdin
        lines = [line for line in seat.process.stdout.read().splitlines() if line.startswith("{")]
        seat.process.stdout.close()
        with suppress(BrokenPipeError):
            seat.process.stdin.close()
        if seat.log:
            seat.log.close()
        said = json.loads(lines[-1]) if lines else {}
        if "bug" in said:
            told = f"a worker met a bug: {said['bug']}. The trial was marked as failed"
            return f"{told}; the traceback is in {self.log_of(seat)}"
        return str(said.get("error", ""))

    def ask_to_stop(self) -> None:
        """SIGTERM once: save, put the trial back, leave."""
        if self.told_to_stop:
            return
        self.told_to_stop = True
        for seat in self.seats:
            if seat.process is not None:
                seat.process.terminate()

    def kill(self) -> None:
        """At once, whatever they do; their trials are put back here."""
        for seat in self.seats:
            if seat.process is not None:
                seat.process.kill()
                seat.process.wait()
                self.last_words(seat)
                with self.database_may_fail():
                    self.put_back(seat.process.pid, died=self.interrupts == 0)
                seat.process = None

    def put_back(self, pid: int, died: bool = True) -> None:
        """Put back what the worker with that process id held on this host."""
        for worker in self.workers():
            if worker.pid == pid and worker.host == socket.gethostname():
                records.release(self.engine, worker.worker, died)

    def reap(self, now: float) -> None:
        """Put back the trials of workers that are gone, of this and of other hosts."""
        for worker in self.workers():
            if is_gone(worker) or self.is_silent(worker, now):
                records.release(self.engine, worker.worker, died=True)
                self.beats.pop(worker.worker, None)
        for name in records.owners_without_row(self.engine, self.info.id):
            records.release(self.engine, name, died=True)
        records.mend(self.engine, self.info.id)

    def is_silent(self, worker: Worker, now: float) -> bool:
        """Whether its beat stood still, by our own clock: other hosts' clocks may be wrong."""
        if worker.host == socket.gethostname():
            return False
        beats, since = self.beats.get(worker.worker, (-1, now))
        if worker.beats != beats:
            if worker.worker in self.beats:
                self.alive.add(worker.worker)
            self.beats[worker.worker] = worker.beats, now
            return False
        return now - since > SILENT_SECONDS

    def waits_for_a_sign(self) -> bool:
        """Whether a worker of another host holds a trial and was not yet seen alive: it may be a dead one's."""
        here = socket.gethostname()
        with self.database_may_fail():
            held = [w.worker for w in self.workers() if w.host != here and w.number is not None]
            return not self.alive.issuperset(held)
        return False

    def workers(self) -> tuple[Worker, ...]:
        return overview.overview(self.engine, self.info).workers

    def work_left(self) -> bool:
        """Whether a trial waits that was put back by someone else."""
        with self.database_may_fail(), self.engine.connect() as db:
            return db.scalar(records.put_back(self.info.id).limit(1)) is not None
        return False

    def count_finished(self) -> int:
        return overview.overview(self.engine, self.info).finished


def is_gone(worker: Worker) -> bool:
    """Whether a process of this host has ended; a later process of the same number is another one."""
    if worker.host != socket.gethostname():
        return False
    try:
        process = psutil.Process(worker.pid)
        is_dead = process.status() == psutil.STATUS_ZOMBIE  # in a container, often nobody buries the dead
        return is_dead or abs(process.create_time() - worker.born) > 1
    except psutil.NoSuchProcess:
        return True


def seats(num_workers: int | None) -> list[Seat]:
    """One seat a GPU, or one for all cores; several share the GPUs in turn, or split the cores."""
    gpus = find_gpus()
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    number = num_workers or max(1, len(gpus))
    if gpus:
        return [Seat(i, gpus[i % len(gpus)], []) for i in range(number)]
    if number == 1 or not cores:
        return [Seat(i, None, []) for i in range(number)]
    shares = [cores[i * len(cores) // number : (i + 1) * len(cores) // number] for i in range(number)]
    return [Seat(i, None, share or [cores[i % len(cores)]]) for i, share in enumerate(shares)]


def find_gpus() -> list[str]:
    """The GPUs this process may use, asked of the driver's own tool: loading torch would take seconds."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [gpu for gpu in visible.split(",") if gpu.strip() not in ("", "-1")]
    try:
        told = subprocess.run(
            ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"],
            capture_output=True, text=True, timeout=20, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in told.stdout.splitlines() if line.strip()]
