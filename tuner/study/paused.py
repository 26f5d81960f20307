"""Paused trials: pruned ones that keep their checkpoint and may go on.

To Optuna such a trial is PRUNED. Its claim says after which epoch it rests. `claims.claim_trial` resumes it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from tuner.study.database import retried
from tuner.study.decisions import Decision, write_decision
from tuner.study.optuna_tables import trial_values, trials
from tuner.study.tables import claim_table
from tuner.study.trial_queries import CLAIMED

IS_PAUSED = claim_table.c.paused_at.is_not(None)
MARK = "tuner_paused"  # a system attribute of trials in memory: {"epoch": where it rests, "attempt": its last one}


def resume_trial(db: Connection, study_id: int, number: int, worker: str) -> int | None:
    """Give the paused trial of that number to a worker; return the id of its claim, or None if it is not paused.

    Lock the study before.
    """
    query = select_paused(study_id, claim_table.c.claim_id, trials.c.trial_id)
    row = db.execute(query.where(trials.c.number == number)).first()
    if row is None:
        return None
    taken: dict[str, Any] = {"worker": worker, "paused_at": None, "attempt": claim_table.c.attempt + 1}
    mine = (claim_table.c.claim_id == row.claim_id) & IS_PAUSED
    if not db.execute(sa.update(claim_table).where(mine).values(taken)).rowcount:
        return None
    running = {"state": "RUNNING", "datetime_complete": None}
    db.execute(sa.update(trials).where(trials.c.trial_id == row.trial_id).values(running))
    db.execute(sa.delete(trial_values).where(trial_values.c.trial_id == row.trial_id))
    return int(row.claim_id)


@dataclass(frozen=True)
class PausedTrial:
    """A paused trial, and the bytes of the files that it needs to go on."""

    id: int
    number: int
    kept_bytes: int


def read_paused(engine: Engine, study_id: int) -> list[PausedTrial]:
    columns = (trials.c.trial_id, trials.c.number, claim_table.c.kept_bytes)
    with engine.connect() as db:
        return [PausedTrial(*row) for row in db.execute(select_paused(study_id, *columns))]


@retried
def end_paused_trials(engine: Engine, trial_ids: Iterable[int], worker: str, why: str) -> list[int]:
    """Leave these trials pruned, not to go on; return the ids of those that were paused until now."""
    with engine.begin() as db:
        return [trial_id for trial_id in sorted(trial_ids) if end_paused(db, trial_id, worker, why)]


def end_paused(db: Connection, trial_id: int, worker: str, why: str) -> bool:
    """Leave a trial pruned, not to go on, and write why; return whether it was paused until now."""
    same = (claim_table.c.trial_id == trial_id) & IS_PAUSED
    row = db.execute(sa.select(claim_table).where(same).with_for_update()).first()
    if row is None or not db.execute(sa.update(claim_table).where(same).values(paused_at=None)).rowcount:
        return False
    write_decision(db, row.study_id, worker, trial_id, Decision("drop", None, row.paused_at, {"why": why}))
    return True


def select_paused(study_id: int, *columns: sa.Column[Any]) -> sa.Select[Any]:
    """Select columns of all paused trials of a study."""
    query = sa.select(*columns).select_from(CLAIMED)
    return query.where(claim_table.c.study_id == study_id, IS_PAUSED, trials.c.state == "PRUNED")


def read_paused_ids(db: Connection, study_id: int) -> list[int]:
    return list(db.scalars(select_paused(study_id, trials.c.trial_id)))


@retried
def read_paused_attempts(engine: Engine, study_id: int) -> dict[int, int]:
    """Return the last attempts of all paused trials by the trials' ids."""
    query = select_paused(study_id, claim_table.c.trial_id, claim_table.c.attempt)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as db:
        return {row.trial_id: row.attempt for row in db.execute(query)}
