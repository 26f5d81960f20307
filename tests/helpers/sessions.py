"""Studies on a real database, with workers that train nothing: the tests claim and write for them."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa
from optuna.samplers import RandomSampler
from optuna.trial import FrozenTrial

from helpers.command_line import wait_for
from tuner.fleet.config import WorkerSettings
from tuner.goal import Goal
from tuner.search.scheduler import NoHalving
from tuner.search.session import Session
from tuner.study import claims, pending
from tuner.study.claims import ClaimedTrial
from tuner.study.heartbeat import machine_id, process_start
from tuner.study.info import StudyInfo
from tuner.study.pending import ActiveTrial, PendingWrites, TrialOwner
from tuner.study.study import JoinedStudy, join_study
from tuner.study.tables import claim_table, study_table, worker_table

INFO = StudyInfo("s", "s", Goal("iou", "maximize"), "shapes")


def row(epoch: int, value: float | None = 0.5, **changes: object) -> dict[str, Any]:
    """Return a row of tuner_epoch."""
    plain = {"seconds": 1.0, "images_per_second": 9.0, "peak_memory": 3 * 2**40, "lr": 0.1, "metrics": {"a": 1.5}}
    return {"epoch": epoch, "value": value, **plain, **changes}


def who(name: str, **changes: object) -> dict[str, Any]:
    """Return a worker's row: of this process, unless changed."""
    here = {"host": "here", "machine": machine_id(), "pid": os.getpid(), "born": process_start(os.getpid())}
    return {"worker": name, **here, "device": "cpu", "version": "0", **changes}


@dataclass(frozen=True)
class Bench:
    """An open study and access to its tables."""

    url: str
    joined: JoinedStudy

    @property
    def engine(self) -> sa.Engine:
        return self.joined.engine

    @property
    def id(self) -> int:
        return self.joined.id

    def session(
        self, name: str, settings: WorkerSettings | None = None, gpu_share: float = 1.0, **changes: object
    ) -> Session:
        """Return a worker's session, not started; all sessions share the study of this process."""
        session = Session(self.joined, who(name, **changes), settings, gpu_share)
        if not self.joined.info.pauses:
            session.sync.scheduler = NoHalving()
        return session

    def enter(self, *names: str, **changes: object) -> tuple[str, ...]:
        """Register workers, and return their names."""
        for name in names:
            self.session(name, **changes).register()
        return names

    def try_to_take(self, worker: str, has_given_trials: bool = False) -> ClaimedTrial | str:
        """Claim one more trial for a worker."""
        query = "SELECT trial_id FROM tuner_claim WHERE worker = :worker AND study_id = :study_id"
        with self.engine.connect() as db:
            mine = tuple(db.scalars(sa.text(query), {"worker": worker, "study_id": self.id}))
        return claims.claim_trial(
            self.engine, self.id, self.joined.study.study_name, worker, has_given_trials, mine
        )

    def take(self, worker: str, has_given_trials: bool = False) -> ClaimedTrial:
        taken = self.try_to_take(worker, has_given_trials)
        assert isinstance(taken, ClaimedTrial), taken
        return taken

    def write(self, taken: ClaimedTrial, worker: str, page: PendingWrites) -> None:
        pending.write_pending(self.engine, TrialOwner(self.id, taken.trial_id, worker), page)

    def set(self, **values: object) -> None:
        """Change the study's row, as a command would."""
        with self.engine.begin() as db:
            db.execute(sa.update(study_table).where(study_table.c.study_id == self.id).values(**values))

    def execute(self, *statements: str) -> None:
        with self.engine.begin() as db:
            for statement in statements:
                db.execute(sa.text(statement))

    def delete(self, number: int) -> None:
        """Delete a trial and all that Optuna keeps of it."""
        (found,) = self.rows(f"SELECT trial_id FROM trials WHERE number = {number} AND study_id = {self.id}")
        parts = ("params", "values", "intermediate_values", "user_attributes", "system_attributes")
        tables = (*(f"trial_{part}" for part in parts), "trials")
        self.execute(*(f"DELETE FROM {table} WHERE trial_id = {found.trial_id}" for table in tables))

    def rows(self, query: str | sa.Select[Any]) -> list[Any]:
        with self.engine.connect() as db:
            return list(db.execute(sa.text(query) if isinstance(query, str) else query).all())

    def study(self) -> Any:
        (found,) = self.rows(sa.select(study_table).where(study_table.c.study_id == self.id))
        return found

    def claim(self, number: int) -> Any:
        """Return the claim of a trial: slot, worker, deaths, attempt, wanted and the state of the trial."""
        query = "SELECT c.*, t.state, t.number FROM tuner_claim c JOIN trials t ON t.trial_id = c.trial_id"
        (found,) = [row for row in self.rows(query) if row.number == number]
        return found

    def num_claims(self) -> int:
        return len(self.rows(sa.select(claim_table).where(claim_table.c.study_id == self.id)))

    def workers(self) -> list[str]:
        return sorted(row.worker for row in self.rows(sa.select(worker_table)))

    def states(self) -> dict[int, str]:
        return {row.number: row.state for row in self.rows("SELECT number, state FROM trials ORDER BY number")}

    def trials(self) -> list[FrozenTrial]:
        """Return the trials as Optuna's own storage reads them."""
        from optuna.storages import RDBStorage

        from tuner.study.database import parse_url

        storage = RDBStorage(parse_url(self.url).render_as_string(hide_password=False))
        try:
            return storage.get_all_trials(self.id)
        finally:
            storage.remove_session()
            storage.engine.dispose()


@contextmanager
def opened_bench(url: str, name: str = "s", info: StudyInfo = INFO, **changes: object) -> Iterator[Bench]:
    """Create or join a study, with a random sampler; its sessions prune nothing, but may pause."""
    joined = join_study(url, replace(info, name=name, **changes))  # type: ignore[arg-type]
    joined.study.sampler = RandomSampler(seed=1)
    try:
        yield Bench(url, joined)
    finally:
        joined.engine.dispose()


def take_all(url: str, worker: str) -> list[tuple[int, int]]:
    """Claim trials until the budget is used up; return (number, attempt) of each."""
    found = []
    with opened_bench(url) as bench:
        bench.enter(worker)
        while isinstance(taken := bench.try_to_take(worker), ClaimedTrial):
            found.append((taken.number, taken.attempt))
    return found


def at_once(number: int, what: Callable[[int], Any]) -> list[Any]:
    """Call `what` in many threads that start together."""
    together = threading.Barrier(number)

    def go(at: int) -> Any:
        together.wait()
        return what(at)

    with ThreadPoolExecutor(number) as pool:
        return list(pool.map(go, range(number)))


def taken(session: Session) -> ActiveTrial:
    held = session.take_trial()
    assert held is not None
    return held


def chosen(session: Session, **changes: object) -> ActiveTrial:
    """Take a trial, choose its parameters, and return it."""
    held = taken(session)
    session.optuna_trial(held).suggest_float("lr", 0.0, 1.0)
    session.confirm_params(held)
    return held


def written(held: ActiveTrial) -> ActiveTrial:
    """Wait until everything pending of a trial is written, and return it."""
    wait_for(
        lambda: not held.pending and held.write_lock.acquire(blocking=False) and held.write_lock.release() is None
    )
    return held


def epochs_of(bench: Bench, number: int) -> list[int]:
    query = "SELECT e.epoch FROM tuner_epoch e JOIN trials t ON t.trial_id = e.trial_id WHERE t.number = "
    return [each.epoch for each in bench.rows(f"{query} {number} ORDER BY e.epoch")]


def chosen_or_none(session: Session) -> ActiveTrial | None:
    held = session.take_trial()
    if held:
        session.optuna_trial(held).suggest_float("lr", 0.0, 1.0)
        session.confirm_params(held)
    return held
