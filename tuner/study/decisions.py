"""Decisions of the scheduler: written in the transaction that carries them out, read to replay a search."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from tuner.study.optuna_tables import trials
from tuner.study.tables import clock, decision_table

Action = Literal["continue", "pause", "stop", "resume", "start", "drop"]
CAN_START = "can_start"  # a key of reasons; true if it is absent
SECONDS = "seconds"  # a key of reasons where rungs are times: how long the trial had been trained


@dataclass(frozen=True)
class Decision:
    """What a trial is to do at a rung ("continue", "pause", "stop"), or a free worker ("resume", "start").

    "drop" is not chosen by a scheduler: a paused trial is to go on no more, because a user ended it or its
    checkpoint takes too much space.
    """

    action: Action
    number: int | None  # the trial; None for "start", whose trial is not created yet
    epoch: int  # at which it was taken; 0 within the first epoch, and for "start"
    reason: dict[str, Any] = field(default_factory=dict)  # plain JSON: what was looked at and what decided

    def without_start(self) -> Decision:
        """Return this decision, noted as taken when no trial could be started any more."""
        return replace(self, reason={**self.reason, CAN_START: False})


# what is written where an enqueued trial starts, such as a point of START: it comes before the scheduler's choice
START_ENQUEUED = Decision("start", None, 0, {"why": "an enqueued point comes first"})


@dataclass(frozen=True)
class StoredDecision:
    """A decision as it was written. `number` is that of the trial, None if that was deleted."""

    at: float  # by the database's clock
    worker: str
    number: int | None
    action: str
    epoch: int
    reason: dict[str, Any]


def write_decision(db: Connection, study_id: int, worker: str, trial_id: int, decision: Decision) -> None:
    """Write a decision on the trial of that id."""
    row = {"study_id": study_id, "worker": worker, "trial_id": trial_id, "action": decision.action}
    row |= {"epoch": decision.epoch, "reason": decision.reason}
    db.execute(sa.insert(decision_table).values(at=sa.cast(clock(db), sa.Double), **row))


def read_decisions(engine: Engine, study_id: int) -> list[StoredDecision]:
    """Return the decisions of a study in the order in which they were written."""
    columns = (decision_table.c[name] for name in ("at", "worker", "action", "epoch", "reason"))
    both = decision_table.join(trials, trials.c.trial_id == decision_table.c.trial_id, isouter=True)
    query = sa.select(trials.c.number, *columns).select_from(both)
    query = query.where(decision_table.c.study_id == study_id).order_by(decision_table.c.decision_id)
    with engine.connect() as db:
        return [StoredDecision(**row) for row in db.execute(query).mappings()]


def read_first_pauses(db: Connection, study_id: int) -> dict[int, int]:
    """Return the epoch after which each trial paused first, by trial id; 0 within the first epoch."""
    query = sa.select(decision_table.c.trial_id, sa.func.min(decision_table.c.epoch).label("epoch"))
    is_pause = (decision_table.c.study_id == study_id) & (decision_table.c.action == "pause")
    rows = db.execute(query.where(is_pause).group_by(decision_table.c.trial_id))
    return {row.trial_id: int(row.epoch) for row in rows if row.trial_id is not None}


def read_last_judged(engine: Engine, trial_id: int) -> int:
    """Return the last epoch after which a decision on this trial was taken, 0 within the first; -1 without one."""
    query = sa.select(sa.func.max(decision_table.c.epoch)).where(decision_table.c.trial_id == trial_id)
    with engine.connect() as db:
        last = db.scalar(query.where(decision_table.c.action != "start"))
    return -1 if last is None else int(last)
