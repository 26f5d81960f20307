"""Epochs granted to claims, so that all workers together never train more than the study's budget of epochs.

A worker may train what was granted to its claim, two epochs at a time, and waits for more. A grant counts as used
in the study's row; what a trial did not use is returned when it ends, pauses or is put back. What was granted to a
worker that died stays used, because it may have been trained: at most two epochs for each death. An epoch that is
trained again counts again.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from tuner.study.tables import claim_table, study_table

SLICE_EPOCHS = 2  # granted at a time: one that is trained while the one before is written


def are_epochs_used_up(study: sa.Row[Any]) -> bool:
    return study.epochs is not None and study.epochs_granted >= study.epochs


def grant_epochs(db: Connection, study: sa.Row[Any], trial_id: int) -> int | None:
    """Grant epochs to a claim that has none; return their number, None without a limit. Lock the study before."""
    if study.epochs is None:
        return None
    granted = min(SLICE_EPOCHS, max(0, study.epochs - study.epochs_granted))
    write_grant(db, study.study_id, trial_id, granted, granted)
    return granted


def count_epochs(db: Connection, study_id: int, trial_id: int, trained: int, is_ended: bool) -> int | None:
    """Count epochs as trained; return how many the trial's worker may train now, None without a limit.

    An ended trial returns the rest of its grant. Epochs beyond the grant, which were trained before a limit was
    set, count too. Lock the study before.
    """
    study = db.execute(sa.select(study_table).where(study_table.c.study_id == study_id)).one()
    if study.epochs is None:
        return None
    held = db.scalar(sa.select(claim_table.c.epochs_granted).where(claim_table.c.trial_id == trial_id)) or 0
    rest, beyond = max(0, held - trained), max(0, trained - held)
    room = max(0, study.epochs - study.epochs_granted - beyond)
    more = -rest if is_ended else min(max(0, SLICE_EPOCHS - rest), room)
    write_grant(db, study_id, trial_id, rest + more, beyond + more)
    return rest + more


def write_grant(db: Connection, study_id: int, trial_id: int, held: int, more: int) -> None:
    """Set what a claim holds, and count so many more epochs as granted."""
    db.execute(sa.update(claim_table).where(claim_table.c.trial_id == trial_id).values(epochs_granted=held))
    if more:
        granted = {"epochs_granted": study_table.c.epochs_granted + more}
        db.execute(sa.update(study_table).where(study_table.c.study_id == study_id).values(granted))
