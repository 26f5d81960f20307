"""Control all workers of a study on every host: stop, pause, resume, stop one trial."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from tuner.errors import StudyError
from tuner.study.claims import TrialRequest
from tuner.study.database import retried
from tuner.study.optuna_tables import trials
from tuner.study.paused import end_paused
from tuner.study.tables import claim_table, study_table, worker_table
from tuner.study.trial_queries import OPEN


@dataclass(frozen=True)
class ControlState:
    """What the workers of a study shall do. A worker exits when `stops` is higher than when the worker started."""

    stops: int
    paused: bool


def read_control_state(engine: Engine, study_id: int) -> ControlState:
    query = sa.select(study_table.c.stops, study_table.c.paused).where(study_table.c.study_id == study_id)
    with engine.connect() as db:
        row = db.execute(query).first()
    return ControlState(row.stops, bool(row.paused)) if row else ControlState(0, False)


@retried
def stop_workers(engine: Engine, study_id: int) -> int:
    """Tell every worker to save, put its trial back and exit; return the number of workers."""
    return update_study(engine, study_id, stops=study_table.c.stops + 1, paused=0)


@retried
def set_paused(engine: Engine, study_id: int, paused: bool) -> int:
    """Tell every worker to save, put its trial back and wait, or to continue; return the number of workers."""
    return update_study(engine, study_id, paused=int(paused))


def update_study(engine: Engine, study_id: int, **values: object) -> int:
    """Change what the workers of a study read; return the number of workers."""
    workers = sa.select(sa.func.count()).where(worker_table.c.study_id == study_id)
    with engine.begin() as db:
        db.execute(sa.update(study_table).where(study_table.c.study_id == study_id).values(**values))
        return db.scalar(workers) or 0


@retried
def stop_trial(engine: Engine, study_id: int, number: int) -> bool:
    """Have a trial ended early by the worker that trains it, or by the next worker that takes it.

    End a paused trial at once, and return whether it was one: nobody needs its checkpoint any more.
    """
    mine = (trials.c.study_id == study_id) & (trials.c.number == number)
    with engine.begin() as db:
        row = db.execute(sa.select(trials.c.trial_id, trials.c.state).where(mine)).first()
        if row is None:
            last = db.scalar(sa.select(sa.func.max(trials.c.number)).where(trials.c.study_id == study_id))
            known = "it has none yet" if last is None else f"it has trials 0 to {last}"
            raise StudyError(f"the study has no trial {number}: {known}.")
        if row.state == "PRUNED" and end_paused(db, row.trial_id, "", "ended by a user"):
            return True
        if row.state not in OPEN:
            raise StudyError(f"trial {number} has already ended ({row.state.lower()}); there is nothing to stop.")
        request: TrialRequest = "stop"
        claim = sa.update(claim_table).where(claim_table.c.trial_id == row.trial_id).values(wanted=request)
        if not db.execute(claim).rowcount:
            raise StudyError(f"trial {number} has not started yet; there is nothing to stop.")
        return False
