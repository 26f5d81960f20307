"""The workers that one command started: supervised, restarted when they die, stopped with care.

The fleet itself never trains and never loads torch. Its workers sit on seats, of this host or of a cluster.
It also watches the workers of all other fleets, and puts back what those that are gone held.
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

from tuner.fleet.config import GIVEN_UP, GPU_FAILED, Orders
from tuner.fleet.gpus import Quarantine
from tuner.fleet.local import PLACE_LOST, Seat
from tuner.study import budget, claims, control
from tuner.study.heartbeat import HeartbeatMonitor, machine_id
from tuner.study.info import StudyInfo
from tuner.study.tables import trials, worker_table
from tuner.study.trial_queries import FINISHED

TICK_SECONDS = 0.1
LOOK_SECONDS = 1.0  # between two looks at the workers of all hosts
BEGIN_SECONDS = 120.0  # at least, for a worker to enter its name: it may have much to import
REST_SECONDS = 4.0  # before a seat whose worker found nothing is filled again; twice as long each time in vain
MOST_RESTS = 5  # doublings
LEAVE_SECONDS = 15.0  # beyond the lease: for a worker that was given up, or whose GPU was closed, to end by itself
MOST_RESTARTS = 5  # of one seat without a finished trial between
DIED_OF_ITSELF = {0, 1, 2, GIVEN_UP, GPU_FAILED}  # the trial it had, if any, is not to blame


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


class Hurry(BaseException):
    """The second Ctrl-C."""


@dataclass
class Post:
    """A seat, and what the fleet knows of the worker on it."""

    seat: Seat
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

    orders: Orders
    engine: Engine
    info: StudyInfo
    seats: Sequence[Seat]
    look: Callable[[], None]  # called every second: the live view
    grow: Callable[[dict[str, int]], Sequence[Seat]] | None = None  # more seats, from the memory taken on each GPU
    say: Callable[[str], None] = say
    interrupts: int = 0
    error: str = ""
    told_to_stop: bool = False
    hurried: bool = False  # it ends already, and must not be interrupted any more
    finished: int = 0
    stops: int | None = None  # how often the study had been stopped when we began
    paused: bool = False  # as was told last
    free: float = math.inf  # trials that wait for a worker, as last counted
    quarantine: Quarantine = field(default_factory=Quarantine)

    def __post_init__(self) -> None:
        self.posts = [Post(seat) for seat in self.seats]
        self.watch = HeartbeatMonitor(self.engine, self.info.id, self.orders.lease, self.orders.hang)

    def run(self) -> int:
        """0 when the budget is spent or it was stopped, 1 for a bug in a worker, 2 for a told error."""
        before = {number: signal.signal(number, self.interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            return self.supervise()
        except Hurry:
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
            for post in self.posts:
                post.started = time.monotonic()

    def interrupt(self, number: int, frame: FrameType | None) -> None:
        """Ctrl-C: the first is obeyed at the next look, the second at once, also while a database hangs."""
        self.interrupts += 1
        if self.interrupts == 1 and number == signal.SIGINT and not self.hurried:
            with suppress(RuntimeError):  # it came in the middle of another line
                self.say("saving; Ctrl-C again stops at once")
        if self.interrupts > 1 and not self.hurried:
            self.hurried = True
            raise Hurry

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
            ends = [self.tend(post) for post in self.posts]
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
            self.posts += [Post(seat) for seat in self.grow(self.peaks())]

    def nobody_works(self) -> bool:
        """Whether no worker runs, and one at least found nothing to do or was not wanted, or would find nothing.

        Those that still wait for a place in a full cluster do not hold up the end.
        """
        if not all(post.done or post.seat.waiting for post in self.posts):
            return False
        return not self.free or any(post.done for post in self.posts)

    def is_over(self, code: int) -> bool:
        """Whether to end when nobody works; else what others put back meanwhile is taken up."""
        with self.database_may_fail():
            self.heed()
        if code or self.told_to_stop:
            return True
        if self.work_left():
            for post in self.posts:
                post.done = self.is_closed(post)
            return all(post.done for post in self.posts)
        return not self.waits_for_a_sign()

    def tend(self, post: Post) -> int:
        """Start a post's worker, or see how it ended. The exit code to end the fleet with, or 0."""
        if not post.worker:
            if self.told_to_stop or self.is_closed(post):
                post.done = True
            elif not post.done:
                self.start(post)
            return 0
        code = post.seat.poll()
        if code is None:
            self.hurry(post)
            return 0
        return self.ended(post, code)

    def start(self, post: Post) -> None:
        post.worker, post.has_row, post.number, post.leaves = uuid.uuid4().hex[:12], False, None, None
        post.started, post.in_vain = time.monotonic(), post.in_vain + 1
        post.seat.start(replace(self.orders, worker=post.worker))

    def see_them_begin(self) -> None:
        """Kill those that hang before they entered their name: in an import, or in front of a GPU.

        A place in a cluster may be long in coming: that time does not count.
        """
        limit = max(self.orders.hang, BEGIN_SECONDS)
        for post in self.posts:
            if post.seat.waiting:
                post.started = time.monotonic()
            if post.worker and not post.has_row and time.monotonic() - post.started > limit:
                self.say(f"{post.seat.name} did not begin within {limit:.0f} s: killed; see {post.seat.log}")
                post.seat.kill()
                post.started = math.inf

    def hurry(self, post: Post) -> None:
        """A worker that was given up, or whose GPU is closed, leaves by itself; one that hangs is killed."""
        if self.is_closed(post) and post.leaves is None:
            post.seat.terminate()
            post.leaves = time.monotonic()
        if post.leaves is not None and time.monotonic() - post.leaves > self.orders.lease + LEAVE_SECONDS:
            self.say(f"{post.seat.name} does not leave: killed")
            post.seat.kill()
            post.leaves = math.inf

    def ended(self, post: Post, code: int) -> int:
        """A worker has ended: put back what it held, and see what becomes of its post."""
        gpu, said, worker = post.seat.gpu, post.seat.last_words(), post.worker
        with self.database_may_fail():
            self.read_rows()
        post.worker = ""
        with self.database_may_fail():
            claims.release_worker(self.engine, worker, died=code not in DIED_OF_ITSELF)
        if code in (0, 1, 2):
            self.quarantine.lived(gpu)
            post.done, post.ended = True, time.monotonic()
            post.seat.leave()
            if code:
                self.error = self.error or said or f"{post.seat.name} could not work; see {post.seat.log}"
            return code
        if code in (GIVEN_UP, PLACE_LOST) or self.is_closed(post):
            return 0
        if code == GPU_FAILED and gpu:
            return self.close(gpu, said or "its worker said that it has failed")
        if gpu and self.quarantine.died(gpu, post.number):
            return self.close(gpu)
        return self.died(post, code)

    def died(self, post: Post, code: int) -> int:
        """Killed from outside: the trial was put back, the post gets a new worker."""
        finished = self.finished
        with self.database_may_fail():
            finished = self.count_finished()
        post.restarts = 0 if finished > self.finished else post.restarts + 1
        self.finished = finished
        if post.restarts > MOST_RESTARTS:
            post.done = True
            times = f"died {post.restarts} times in a row (exit code {code})"
            self.error = f"{post.seat.name} {times}; see {post.seat.log}"
            return 1
        return 0

    def close(self, gpu: str, why: str = "") -> int:
        """Send no more workers to that GPU; the exit code 2 when none is left."""
        self.quarantine.close(gpu, why)
        left = [post.seat for post in self.posts if not self.is_closed(post)]
        line = self.quarantine.line(gpu, len(left))
        if left:
            self.say(line)
            return 0
        self.error = self.error or line
        return 2

    def is_closed(self, post: Post) -> bool:
        return post.seat.gpu in self.quarantine.closed

    def ask_to_stop(self) -> None:
        """SIGTERM once: save, put the trial back, leave."""
        if self.told_to_stop:
            return
        self.told_to_stop = True
        for post in self.posts:
            if post.worker:
                post.seat.terminate()

    def part(self) -> None:
        """After an error of our own: the workers are healthy, so they may save, for a while."""
        self.hurried = True
        ends = time.monotonic() + LEAVE_SECONDS
        with suppress(Exception):  # it may be the same one again
            self.ask_to_stop()
            while any(post.worker and post.seat.poll() is None for post in self.posts):
                if time.monotonic() > ends or self.interrupts > 1:
                    return
                time.sleep(TICK_SECONDS)

    def kill(self) -> None:
        """At once, whatever they do; their trials are put back here, and no trial is to blame."""
        held = [post for post in self.posts if post.worker]
        for post in held:
            post.seat.kill()
            if post.seat.poll() is not None:
                post.seat.last_words()
        with self.database_may_fail():
            for post in held:
                claims.release_worker(self.engine, post.worker, died=False)
                post.worker = ""

    def read_rows(self) -> None:
        """What our own workers do, by their rows. One whose row was removed was given up: it must leave."""
        ours = {post.worker: post for post in self.posts if post.worker}
        columns = worker_table.c.worker, worker_table.c.number, worker_table.c.peak_memory
        with self.engine.connect() as db:
            rows = db.execute(sa.select(*columns).where(worker_table.c.worker.in_(ours))).all()
        for worker, number, peak in rows:
            post = ours.pop(worker)
            if post.number is not None and number != post.number:
                self.quarantine.lived(post.seat.gpu)
            post.has_row, post.number = True, number
            post.in_vain = 0 if number is not None else post.in_vain
            post.peak_memory = max(post.peak_memory, peak or 0)
        for post in ours.values():
            if post.has_row and post.leaves is None:
                post.leaves = time.monotonic()

    def peaks(self) -> dict[str, int]:
        """The most memory that one worker on each GPU has taken so far."""
        most: dict[str, int] = {}
        for post in self.posts:
            most[post.seat.gpu] = max(most.get(post.seat.gpu, 0), post.peak_memory)
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
        if not any(post.done or post.seat.waiting for post in self.posts):
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
        room = self.free - sum(bool(post.worker) and post.number is None for post in self.posts)
        for post in self.posts:
            rest = REST_SECONDS * 2 ** min(max(0, post.in_vain - 1), MOST_RESTS)
            if room > 0 and post.done and not self.is_closed(post) and now - post.ended > rest:
                post.done, room = False, room - 1

    def count_finished(self) -> int:
        ended = (trials.c.study_id == self.info.id) & trials.c.state.in_(FINISHED)
        with self.engine.connect() as db:
            return db.scalar(sa.select(sa.func.count()).where(ended)) or 0
