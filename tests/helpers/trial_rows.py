"""Trials written row by row, with times chosen by the test: what a search leaves, to the second."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from tuner.study.optuna_tables import trial_attrs, trial_values, trials
from tuner.study.study import JoinedStudy
from tuner.study.tables import claim_table, epoch_table, worker_table

BEGIN = datetime(2026, 1, 1)
EPOCH = {"images_per_second": 9.0, "peak_memory": 1, "lr": 0.1, "metrics": {}}


def put(
    joined: JoinedStudy,
    number: int,
    state: str,
    curve: list[float | None],
    seconds: float = 2.0,
    at: float = 0.0,
    took: float | None = None,
    attempt: int | None = 1,
    **attrs: Any,
) -> int:
    """A trial with an epoch of so many seconds for each value; it began at `at` and ended `took` seconds later."""
    begin, ends = BEGIN + timedelta(seconds=at), state not in ("RUNNING", "WAITING")
    end = begin + timedelta(seconds=len(curve) * seconds if took is None else took)
    row = {"number": number, "state": state, "datetime_start": begin, "datetime_complete": end if ends else None}
    known = [value for value in curve if value is not None]
    with joined.engine.begin() as db:
        made = db.execute(sa.insert(trials).values(study_id=joined.id, **row))
        trial_id = int(made.inserted_primary_key[0])  # type: ignore[index]
        if attempt is not None:
            slot = {"study_id": joined.id, "slot": number + 1, "trial_id": trial_id, "attempt": attempt}
            db.execute(sa.insert(claim_table).values(worker=f"w{number}", **slot))
        for epoch, value in enumerate(curve, start=1):
            timed = {"trial_id": trial_id, "epoch": epoch, "value": value, "seconds": seconds}
            db.execute(sa.insert(epoch_table).values(**timed, **EPOCH))
        if state == "COMPLETE":
            best = {"objective": 0, "value": max(known), "value_type": "FINITE"}
            db.execute(sa.insert(trial_values).values(trial_id=trial_id, **best))
        for key, value in attrs.items():
            db.execute(sa.insert(trial_attrs).values(trial_id=trial_id, key=key, value_json=json.dumps(value)))
    return trial_id


def work(joined: JoinedStudy, number: int | None, **doing: Any) -> None:
    """A living worker at a trial."""
    row = {"worker": f"w{number}", "host": "node7.lab", "pid": 40, "born": 1.0, "device": "cpu, 1 thread"}
    row |= {"state": "training", "number": number, "params": {"lr": 0.00123, "loss": "bce"}}
    with joined.engine.begin() as db:
        db.execute(sa.insert(worker_table).values(study_id=joined.id, **row | doing))
