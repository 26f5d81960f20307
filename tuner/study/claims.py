"""Claims: which worker owns which trial. A worker claims a trial, and it or another process puts the trial back.

A trial belongs to the worker that its claim names. A claim without a worker is a trial that was put back: the next
worker continues it with the same number, parameters and checkpoint. The number of claims is the used part of the
budget of trials. It is read and raised under a lock on the study's row, so it is exact across workers and hosts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from tuner.errors import TrialLost
from tuner.study.database import retried
from tuner.study.decisions import START_ENQUEUED, Decision, write_decision
from tuner.study.epoch_grants import are_epochs_used_up, count_epochs, grant_epochs
from tuner.study.optuna_tables import studies, trials
from tuner.study.paused import resume_trial
from tuner.study.tables import claim_table, decision_table, epoch_table, study_table, worker_table
from tuner.study.trial_queries import CLAIMED, OPEN

MIN_GPU_SECONDS = 2.0  # with less than this left, no trial is started
TrialRequest = Literal["", "stop"]  # what a user asks of a running trial; stored in its claim
# why there is no trial: the budget is spent; all workers are paused; no new one may start, but paused ones may go
# on; the chosen one went on meanwhile
NoTrial = Literal["spent", "paused", "no new", "changed"]
MOST_DEATHS = 3  # workers that may die on a trial before it fails


class StudyDeleted(Exception):
    """The study was deleted."""


class WorkerRemoved(Exception):
    """The worker's row was removed because it seemed dead; the worker must exit and be replaced."""


@dataclass(frozen=True)
class ClaimedTrial:
    """A trial that this worker owns now."""

    trial_id: int
    number: int
    attempt: int  # starts at 1
    deaths: int  # of workers, since the last epoch of the trial
    wanted: TrialRequest
    is_new: bool  # the database holds its row and nothing else
    epochs: int | None = None  # that its worker may train before it is granted more; None without a limit


@retried
def ensure_study_row(engine: Engine, study_id: int, is_new: bool) -> None:
    """Create the study's row if it is missing, and delete what deleted studies left behind.

    A new study starts clean even if SQLite gives it the id of a deleted one.
    """
    with engine.begin() as db:
        for table in (study_table, claim_table, worker_table, decision_table):
            is_gone = table.c.study_id.not_in(sa.select(studies.c.study_id))
            db.execute(sa.delete(table).where(is_gone | (table.c.study_id == study_id) if is_new else is_gone))
        db.execute(sa.delete(epoch_table).where(epoch_table.c.trial_id.not_in(sa.select(trials.c.trial_id))))
        known = db.scalar(sa.select(study_table.c.study_id).where(study_table.c.study_id == study_id))
        if known is None:
            db.execute(sa.insert(study_table).values(study_id=study_id))


def lock_study(db: Connection, study_id: int) -> None:
    """Lock the study until the end of the transaction, on every kind of database.

    Optuna locks its own row of the study while it numbers a new trial, so that row is locked too.
    """
    same = study_table.c.study_id == study_id
    if db.dialect.name == "sqlite":  # the first write of a transaction locks the whole database
        db.execute(sa.update(study_table).where(same).values(num_workers=study_table.c.num_workers))
    else:
        both = sa.select(study_table.c.study_id).join(studies, studies.c.study_id == study_table.c.study_id)
        db.execute(both.where(same).with_for_update(key_share=True))


def count_claims(study_id: int) -> sa.ScalarSelect[int]:
    """Return the number of slots that are filled, without those of deleted trials."""
    filled = sa.select(sa.func.count()).select_from(CLAIMED).where(claim_table.c.study_id == study_id)
    return filled.scalar_subquery()


def select_put_back(study_id: int) -> sa.Select[tuple[int]]:
    """Select the first claim of a trial that was put back."""
    return (
        sa.select(claim_table.c.claim_id)
        .select_from(CLAIMED)
        .where(claim_table.c.study_id == study_id, claim_table.c.worker.is_(None), trials.c.state == "WAITING")
        .order_by(claim_table.c.claim_id)
        .limit(1)
    )


def select_enqueued(study_id: int) -> sa.Select[tuple[int]]:
    """Select the first enqueued trial without a claim."""
    return (
        sa.select(trials.c.trial_id)
        .where(trials.c.study_id == study_id, trials.c.state == "WAITING")
        .where(~sa.exists().where(claim_table.c.trial_id == trials.c.trial_id, claim_table.c.study_id == study_id))
        .order_by(trials.c.number)
        .limit(1)
    )


@retried
def claim_trial(
    engine: Engine,
    study_id: int,
    name: str,
    worker: str,
    has_given_trials: bool,
    unwritten: Sequence[int] = (),
    choice: Decision | None = None,
) -> ClaimedTrial | NoTrial:
    """Claim a trial that was put back, an enqueued, the chosen or a new one within the budget, in one transaction.

    The study's row is locked first, so that no two workers see the same count. A trial that this worker already
    owns comes first: the connection was cut before the worker learned of it. `unwritten` are the ids of its trials
    whose end it has not written yet. With `has_given_trials`, no trial is created. The choice was made with what
    was known before: it is carried out if its trial is still paused.

    Raises:
        StudyDeleted: The study was deleted. The name is compared, because SQLite reuses ids.
        WorkerRemoved: This worker seemed dead and was removed.
    """
    with engine.begin() as db:
        lock_study(db, study_id)
        now = db.execute(select_claim_state(study_id, worker, unwritten)).first()
        if now is None or now.study_name != name:
            raise StudyDeleted
        if now.known is None:
            raise WorkerRemoved
        if now.mine is not None:
            mine = read_claim(db, now.mine)
            return mine if now.epochs is not None else replace(mine, epochs=None)
        nothing_new = are_trials_used_up(now) or (has_given_trials and now.unclaimed is None)
        resumed = choice is not None and choice.number is not None
        if is_time_used_up(now) or (nothing_new and now.put_back is None and not resumed):
            return "no new" if choice is not None and not is_time_used_up(now) else "spent"
        if now.paused:
            return "paused"
        taken = claim_next(db, study_id, worker, now, choice)
        return taken if taken == "changed" else replace(taken, epochs=grant_epochs(db, now, taken.trial_id))


def claim_next(
    db: Connection, study_id: int, worker: str, now: sa.Row[Any], choice: Decision | None
) -> ClaimedTrial | Literal["changed"]:
    """Claim the trial whose turn it is, and write the decision that it follows from."""
    if now.put_back is not None:
        return claim_put_back(db, now.put_back, worker)
    if choice is None:
        return claim_new(db, study_id, worker, now)
    if now.unclaimed is not None and not are_trials_used_up(now):
        choice = START_ENQUEUED
    if choice.number is None:
        started = claim_new(db, study_id, worker, now)
        write_decision(db, study_id, worker, started.trial_id, choice)
        return started
    claim_id = resume_trial(db, study_id, choice.number, worker)
    if claim_id is None:
        return "changed"
    taken = read_claim(db, claim_id)
    write_decision(db, study_id, worker, taken.trial_id, choice)
    return taken


def select_claim_state(study_id: int, worker: str, unwritten: Sequence[int] = ()) -> sa.Select[Any]:
    """Select in one statement what `claim_trial` and `is_finished` need to know."""

    def subquery(query: sa.Select[Any], name: str) -> sa.Label[Any]:
        return query.scalar_subquery().label(name)

    last_slot = sa.select(sa.func.max(claim_table.c.slot)).where(claim_table.c.study_id == study_id)
    last_number = sa.select(sa.func.max(trials.c.number)).where(trials.c.study_id == study_id)
    return sa.select(
        study_table,
        subquery(sa.select(studies.c.study_name).where(studies.c.study_id == study_id), "study_name"),
        subquery(sa.select(worker_table.c.pid).where(worker_table.c.worker == worker), "known"),
        count_claims(study_id).label("claimed"),
        subquery(select_own_claim(worker, unwritten), "mine"),
        subquery(select_put_back(study_id), "put_back"),
        subquery(select_enqueued(study_id), "unclaimed"),
        subquery(last_slot, "last_slot"),
        subquery(last_number, "last_number"),
    ).where(study_table.c.study_id == study_id)


def are_trials_used_up(now: sa.Row[Any]) -> bool:
    """Return whether no new trial may start; trials that were put back may continue."""
    return now.num_trials is not None and now.claimed >= now.num_trials


def is_time_used_up(now: sa.Row[Any]) -> bool:
    """Return whether the hours, GPU-hours or epochs are used up, so that no trial may start or continue."""
    by_clock = now.hours is not None and now.clock_seconds >= 3600 * now.hours
    by_gpu = now.gpu_hours is not None and now.gpu_seconds >= 3600 * now.gpu_hours - MIN_GPU_SECONDS
    return bool(by_clock or by_gpu or are_epochs_used_up(now))


def select_own_claim(worker: str, but: Sequence[int]) -> sa.Select[tuple[int]]:
    """Select a claim of a running trial of this worker, other than the trials in `but`."""
    query = sa.select(claim_table.c.claim_id).select_from(CLAIMED)
    query = query.where(claim_table.c.worker == worker, trials.c.state == "RUNNING")
    return query.where(trials.c.trial_id.not_in(but)).limit(1)


def read_claim(db: Connection, claim_id: int) -> ClaimedTrial:
    query = sa.select(claim_table, trials.c.number).select_from(CLAIMED)
    row = db.execute(query.where(claim_table.c.claim_id == claim_id)).one()
    return ClaimedTrial(row.trial_id, row.number, row.attempt, row.deaths, row.wanted, False, row.epochs_granted)


def claim_put_back(db: Connection, claim_id: int, worker: str) -> ClaimedTrial:
    mine = claim_table.c.claim_id == claim_id
    db.execute(sa.update(claim_table).where(mine).values(worker=worker, attempt=claim_table.c.attempt + 1))
    taken = read_claim(db, claim_id)
    set_running(db, taken.trial_id)
    return taken


def claim_new(db: Connection, study_id: int, worker: str, now: sa.Row[Any]) -> ClaimedTrial:
    """Claim an enqueued trial, or create one; either uses one more slot of the budget."""
    trial_id, number, is_new = now.unclaimed, None, now.unclaimed is None
    if is_new:
        number = 0 if now.last_number is None else now.last_number + 1
        row = {"study_id": study_id, "number": number, "state": "RUNNING", "datetime_start": utc_now()}
        trial_id = db.execute(sa.insert(trials).values(row)).inserted_primary_key[0]  # type: ignore[index]
    else:
        number = db.scalar(sa.select(trials.c.number).where(trials.c.trial_id == trial_id))
        set_running(db, trial_id)
    if db.dialect.name == "sqlite":  # it reuses the ids of deleted trials
        for table in (claim_table, epoch_table, decision_table):
            db.execute(sa.delete(table).where(table.c.trial_id == trial_id))
    slot = (now.last_slot or 0) + 1
    db.execute(
        sa.insert(claim_table).values(study_id=study_id, slot=slot, trial_id=trial_id, worker=worker, attempt=1)
    )
    return ClaimedTrial(trial_id, int(number or 0), 1, 0, "", is_new)


def set_running(db: Connection, trial_id: int) -> None:
    began = sa.func.coalesce(trials.c.datetime_start, utc_now())
    same = trials.c.trial_id == trial_id
    db.execute(sa.update(trials).where(same).values(state="RUNNING", datetime_start=began))


def utc_now() -> datetime:
    """Return the current time as Optuna stores it."""
    return datetime.now(UTC).replace(tzinfo=None)


def is_own_claim(trial_id: int, worker: str) -> sa.ColumnElement[bool]:
    """Match the claim of a running trial that this worker owns."""
    running = sa.exists().where(trials.c.trial_id == trial_id, trials.c.state == "RUNNING")
    return (claim_table.c.trial_id == trial_id) & (claim_table.c.worker == worker) & running


def check_owner(db: Connection, trial_id: int, worker: str, **change: object) -> None:
    """Raise TrialLost if the worker no longer owns the trial; else lock the claim and write `change` to it."""
    mine = sa.update(claim_table).where(is_own_claim(trial_id, worker)).values(worker=worker, **change)
    if db.execute(mine).rowcount:
        return
    owner = read_owner(db, trial_id)
    if owner is None:
        raise TrialLost("it was deleted from the database")
    if owner.worker != worker:
        raise TrialLost("it belongs to another worker now")
    raise TrialLost(f"another program set it to {owner.state}")


def read_owner(db: Connection, trial_id: int) -> sa.Row[Any, Any] | None:
    """Return (worker, state) of a claimed trial, or None if it was deleted."""
    query = sa.select(claim_table.c.worker, trials.c.state).select_from(CLAIMED)
    return db.execute(query.where(trials.c.trial_id == trial_id)).first()


@retried
def check_claim(engine: Engine, trial_id: int, worker: str) -> None:
    """Raise TrialLost if the worker no longer owns the trial."""
    with engine.begin() as db:
        check_owner(db, trial_id, worker)


@retried
def put_back_trial(engine: Engine, trial_id: int, worker: str) -> None:
    """Put a trial back with the epochs that it was granted; do nothing if the worker no longer owns it."""
    held = sa.select(claim_table.c.study_id, claim_table.c.epochs_granted).where(is_own_claim(trial_id, worker))
    with engine.begin() as db:
        row = db.execute(held).first()
        if row is None:
            return
        if row.epochs_granted:
            lock_study(db, row.study_id)
        mine = sa.update(claim_table).where(is_own_claim(trial_id, worker)).values(worker=None)
        if db.execute(mine).rowcount:
            count_epochs(db, row.study_id, trial_id, trained=0, is_ended=True)
            db.execute(sa.update(trials).where(trials.c.trial_id == trial_id).values(state="WAITING"))


@retried
def release_worker(engine: Engine, worker: str, died: bool) -> list[int]:
    """Remove a worker and put its trials back in one transaction; return the ids of those trials.

    Optuna's row is set to WAITING here and not through its storage, because the claim and the state must change
    together: no process may see a running trial with a free claim. The worker's row is locked first: of two hosts
    that release the same worker, the second one waits and then finds no trials. All transactions take their locks
    in one order: worker, study, claim, trial.
    """
    with engine.begin() as db:
        mine = worker_table.c.worker == worker
        if db.execute(sa.update(worker_table).where(mine).values(beats=worker_table.c.beats)).rowcount:
            return_gpu_seconds(db, worker)
            db.execute(sa.delete(worker_table).where(mine))
        held = [claim_table.c.worker == worker, claim_table.c.study_id == trials.c.study_id]
        open_trials = (
            sa.select(trials.c.trial_id)
            .select_from(CLAIMED)
            .where(*held, trials.c.state.in_(OPEN))
            .with_for_update(of=claim_table)
        )
        ids = list(db.scalars(open_trials))
        if ids:
            running = trials.c.trial_id.in_(ids) & (trials.c.state == "RUNNING")
            db.execute(sa.update(trials).where(running).values(state="WAITING"))
            held_claims = claim_table.c.trial_id.in_(ids) & (claim_table.c.worker == worker)
            back = {"worker": None, "deaths": claim_table.c.deaths + int(died), "epochs_granted": 0}
            db.execute(sa.update(claim_table).where(held_claims).values(back))
        return ids


def return_gpu_seconds(db: Connection, worker: str) -> None:
    """Return unused GPU-seconds of a worker to the budget; what it used beyond its share is subtracted."""
    left = sa.select(worker_table.c.study_id, worker_table.c.granted - worker_table.c.used).where(
        worker_table.c.worker == worker, worker_table.c.granted != worker_table.c.used
    )
    for study_id, seconds in db.execute(left).all():
        same = study_table.c.study_id == study_id
        db.execute(sa.update(study_table).where(same).values(gpu_seconds=study_table.c.gpu_seconds - seconds))


@retried
def delete_orphaned_claims(engine: Engine, study_id: int) -> None:
    """Delete the claims of deleted trials, whose ids may be reused."""
    gone = claim_table.c.trial_id.not_in(sa.select(trials.c.trial_id).where(trials.c.study_id == study_id))
    with engine.connect() as db:
        ids = list(db.scalars(sa.select(claim_table.c.claim_id).where(claim_table.c.study_id == study_id, gone)))
        if ids:
            db.execute(sa.delete(claim_table).where(claim_table.c.claim_id.in_(ids)))
            db.commit()


def is_finished(engine: Engine, study_id: int) -> bool:
    """Return whether no trial can be started or continued."""
    with engine.connect() as db:
        now = db.execute(select_claim_state(study_id, "")).first()
    return now is None or is_time_used_up(now) or (are_trials_used_up(now) and now.put_back is None)


def may_resume(engine: Engine, study_id: int) -> bool:
    """Return whether the hours, the GPU-hours and the epochs allow paused trials to go on."""
    with engine.connect() as db:
        now = db.execute(select_claim_state(study_id, "")).first()
    return now is not None and not is_time_used_up(now)


def has_waiting_trial(engine: Engine, study_id: int) -> bool:
    """Return whether a trial that was put back is waiting."""
    with engine.connect() as db:
        return db.scalar(select_put_back(study_id)) is not None


def read_slots(engine: Engine, study_id: int) -> dict[int, int]:
    """Return the slots of the budget by the ids of their trials: the order in which trials were started."""
    query = sa.select(claim_table.c.trial_id, claim_table.c.slot).where(claim_table.c.study_id == study_id)
    with engine.connect() as db:
        return {row.trial_id: row.slot for row in db.execute(query)}
