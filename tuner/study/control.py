"""What a person asks of all workers of a study, wherever they are: stop, pause, go on, more, less."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from tuner.errors import StudyError
from tuner.study.database import retried
from tuner.study.tables import claim_table, study_table, trials, worker_table

OPEN = ("RUNNING", "WAITING")


@dataclass(frozen=True)
class ControlState:
    """What was asked of a study's workers. A worker leaves when `stops` is more than it was at its beginning."""

    stops: int
    paused: bool


def read_control_state(engine: Engine, study_id: int) -> ControlState:
    with engine.connect() as db:
        return select_control_state(db, study_id)


def select_control_state(db: Connection, study_id: int) -> ControlState:
    query = sa.select(study_table.c.stops, study_table.c.paused).where(study_table.c.study_id == study_id)
    row = db.execute(query).first()
    return ControlState(row.stops, bool(row.paused)) if row else ControlState(0, False)


@retried
def stop_workers(engine: Engine, study_id: int) -> int:
    """Tell every worker to save, put its trial back and leave; how many there are."""
    update_study(engine, study_id, stops=study_table.c.stops + 1, paused=0)
    return count_workers(engine, study_id)


@retried
def set_paused(engine: Engine, study_id: int, paused: bool) -> int:
    """Tell every worker to save, put its trial back and wait, or to go on; how many there are."""
    update_study(engine, study_id, paused=int(paused))
    return count_workers(engine, study_id)


def update_study(engine: Engine, study_id: int, **values: object) -> None:
    with engine.begin() as db:
        db.execute(sa.update(study_table).where(study_table.c.study_id == study_id).values(**values))


def count_workers(engine: Engine, study_id: int) -> int:
    query = sa.select(sa.func.count()).where(worker_table.c.study_id == study_id)
    with engine.connect() as db:
        return db.scalar(query) or 0


@retried
def stop_trial(engine: Engine, study_id: int, number: int) -> None:
    """Have a trial ended as it stands, by the worker that trains it or the next one that takes it up."""
    mine = (trials.c.study_id == study_id) & (trials.c.number == number)
    with engine.begin() as db:
        row = db.execute(sa.select(trials.c.trial_id, trials.c.state).where(mine)).first()
        if row is None:
            last = db.scalar(sa.select(sa.func.max(trials.c.number)).where(trials.c.study_id == study_id))
            known = "it has none yet" if last is None else f"it has 0 to {last}"
            raise StudyError(f"the study has no trial {number}: {known}.")
        if row.state not in OPEN:
            raise StudyError(f"trial {number} has ended already ({row.state.lower()}); there is nothing to stop.")
        claim = sa.update(claim_table).where(claim_table.c.trial_id == row.trial_id).values(wanted="stop")
        if not db.execute(claim).rowcount:
            raise StudyError(f"trial {number} has not begun yet; there is nothing to stop.")
