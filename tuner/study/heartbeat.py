"""Write the heartbeat of a worker; monitor those of all, and put back the trials of dead and hung ones.

Every worker and every fleet monitors all workers, with its own monotonic clock, as clocks of other hosts may be
wrong. A worker's row counts heartbeats (it is alive) and progress (its training advances).
"""

from __future__ import annotations

import hashlib
import logging
import os
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from tuner.errors import StudyError
from tuner.study import claims
from tuner.study.database import storage_to_type
from tuner.study.optuna_tables import studies, trials
from tuner.study.tables import claim_table, study_table, worker_table
from tuner.study.trial_queries import CLAIMED, OPEN
from tuner.wording import write_command

MAX_HEARTBEAT_GAP = 3.0  # within which a running worker sends a heartbeat
log = logging.getLogger("tuner")


def write_heartbeat(db: Connection, study_id: int, worker: str, state: Mapping[str, Any]) -> sa.Row[Any]:
    """Write a worker's row with one more beat; return the study's row. WorkerRemoved if one of them is gone."""
    mine = sa.update(worker_table).where(worker_table.c.worker == worker)
    if not db.execute(mine.values(**state, beats=worker_table.c.beats + 1)).rowcount:
        raise claims.WorkerRemoved
    study = db.execute(sa.select(study_table).where(study_table.c.study_id == study_id)).first()
    if study is None:
        raise claims.WorkerRemoved  # the next claim of a trial will report that the study was deleted
    return study


@dataclass(frozen=True)
class WorkerCounters:
    """A worker's counters, and when they last changed by our clock."""

    beats: int
    progress: int
    beat_at: float
    progress_at: float


@dataclass
class HeartbeatMonitor:
    """Finds lost workers; call `check` regularly. A trial put back this way counts one death of a worker."""

    engine: Engine
    study_id: int
    heartbeat_timeout: float  # seconds without a heartbeat after which a worker counts as dead
    hang_timeout: float  # seconds without progress on its trial after which a worker counts as hung
    seen: dict[str, WorkerCounters] = field(default_factory=dict)
    alive: set[str] = field(default_factory=set)  # workers of other machines with a heartbeat since the start
    checked_at: float | None = None

    def check(self) -> list[str]:
        """Check all workers once; return the names of those that were removed."""
        began = time.monotonic()
        if self.checked_at is not None and began - self.checked_at > self.heartbeat_timeout / 2:
            self.restart()  # this process slept or the database was away, which may have stopped the others too
        lost = [row.worker for row in self.read_rows() if self.is_lost(row, began)] + self.workers_without_row()
        for worker in lost:
            self.seen.pop(worker, None)
            if claims.release_worker(self.engine, worker, died=True):
                log.warning("worker %s is dead or hangs: its trial was put back", worker)
        claims.delete_orphaned_claims(self.engine, self.study_id)
        self.checked_at = time.monotonic()
        if self.checked_at - began > self.heartbeat_timeout / 2:
            self.restart()
        return lost

    def restart(self) -> None:
        """Start measuring again."""
        self.seen.clear()

    def read_rows(self) -> Sequence[sa.Row[Any]]:
        return read_rows(self.engine, worker_table.c.study_id == self.study_id)

    def is_lost(self, row: sa.Row[Any], now: float) -> bool:
        before = self.seen.get(row.worker) or WorkerCounters(row.beats, row.progress, now, now)
        beat_at, progress_at = before.beat_at, before.progress_at
        if row.beats != before.beats:
            self.alive.add(row.worker)
            beat_at = now
        if row.progress != before.progress or row.number is None:
            progress_at = now
        self.seen[row.worker] = WorkerCounters(row.beats, row.progress, beat_at, progress_at)
        return now - beat_at > self.heartbeat_timeout or now - progress_at > self.hang_timeout or is_gone(row)

    def workers_without_row(self) -> list[str]:
        """Return owners of open trials without a row: they were removed at the moment when they claimed one."""
        query = (
            sa.select(claim_table.c.worker)
            .distinct()
            .select_from(CLAIMED)
            .where(claim_table.c.study_id == self.study_id, claim_table.c.worker.is_not(None))
            .where(claim_table.c.worker.not_in(sa.select(worker_table.c.worker)))
            .where(trials.c.state.in_(OPEN))
        )
        with self.engine.connect() as db:
            return [str(worker) for worker in db.scalars(query)]


def own_version() -> str:
    """Return the versions of tuner and Optuna; other versions of Optuna store times differently."""
    return f"tuner {version('tuner')}, Optuna {version('optuna')}"


def check_versions(engine: Engine, study_id: int) -> None:
    """Raise StudyError if workers of another version are running: they may write what this version cannot read.

    Rows of dead workers do not count, so heartbeats are compared at two moments.
    """
    is_other = (worker_table.c.study_id == study_id) & (worker_table.c.version != own_version())
    for row in running_workers(engine, is_other)[:1]:
        raise StudyError(
            f"{row.host} works on this study with {row.version}; here is {own_version()}. "
            f"Install the same versions everywhere, or stop the others first: {stop_command(engine, study_id)}"
        )


def running_workers(engine: Engine, wanted: sa.ColumnElement[bool]) -> list[sa.Row[Any]]:
    """Return the rows of those workers that are alive: their heartbeats are compared at two moments."""
    before = {row.worker: row.beats for row in read_rows(engine, wanted) if not is_gone(row)}
    if not before:
        return []
    time.sleep(MAX_HEARTBEAT_GAP)
    return [row for row in read_rows(engine, wanted) if row.beats != before.get(row.worker, row.beats)]


def is_gone(row: sa.Row[Any]) -> bool:
    """Return whether the process of a worker's row was one of this machine and has ended."""
    return is_process_gone(row.machine, row.pid, row.born)


def stop_command(engine: Engine, study_id: int) -> str:
    """Return the command that stops the workers of a study."""
    with engine.connect() as db:
        name = db.scalar(sa.select(studies.c.study_name).where(studies.c.study_id == study_id))
    return write_command("stop", study=name, storage=storage_to_type(engine.url))


def read_rows(engine: Engine, wanted: sa.ColumnElement[bool]) -> Sequence[sa.Row[Any]]:
    """Return the rows of these workers, dead or running."""
    with engine.connect() as db:
        return db.execute(sa.select(worker_table).where(wanted)).all()


@cache
def machine_id() -> str:
    """Return an id of this machine or container; processes with the same id can see each other's process ids."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        parts = (boot, str(Path("/proc/self/ns/pid").readlink()))
    except OSError:
        parts = (socket.gethostname(), f"{psutil.boot_time():.0f}")
    return hashlib.sha256(":".join(parts).encode()).hexdigest()[:16]


def process_start(pid: int) -> float:
    """Return when a process started, in ticks since the boot, which a change of the date does not affect.

    Raises psutil.NoSuchProcess for a zombie too.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError as error:
        if Path("/proc/self/stat").exists():
            raise psutil.NoSuchProcess(pid) from error
        return psutil.Process(pid).create_time()
    except ProcessLookupError as error:
        raise psutil.NoSuchProcess(pid) from error
    if fields[0] in "ZX":  # a zombie; containers often do not reap them
        raise psutil.NoSuchProcess(pid)
    return float(fields[19])


def is_process_gone(where: str, pid: int, began: float) -> bool:
    """Return whether a process of this machine has ended. A later process with the same pid is another one."""
    if where != machine_id():
        return False
    try:
        return pid != os.getpid() and abs(process_start(pid) - began) > 1
    except psutil.NoSuchProcess:
        return True
