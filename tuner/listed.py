"""Studies whose trials are given as a list, each to be trained once: a table's rows, longer runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from optuna.trial import TrialState
from sqlalchemy.engine import Engine

from tuner import database
from tuner.database import retried
from tuner.records import claim_table, lock, study_table, trials
from tuner.study import Joined

KEY = "listed_as"  # the attribute by which a trial is known in its list


@dataclass(frozen=True)
class Item:
    """One trial of a list: what it is known by, its parameters, and what is written on it from the start."""

    key: str
    params: dict[str, Any]
    attrs: dict[str, Any] = field(default_factory=dict)


def enlist(joined: Joined, url: str, items: Iterable[Item]) -> int:
    """Add what the study does not have yet, and what failed in it; how many were added.

    One at a time over all hosts: two terminals that type the same command add nothing twice. The budget
    becomes the number of trials, so that every worker finds exactly these.
    """
    with database.told(url), database.creation_lock(joined.engine, url):
        known = Counter(
            trial.user_attrs.get(KEY)
            for trial in joined.study.get_trials(deepcopy=False)
            if trial.state is not TrialState.FAIL
        )
        missing = [item for item in items if not known[item.key]]
        for item in missing:
            joined.study.enqueue_trial(item.params, user_attrs={**item.attrs, KEY: item.key})
        budget_as_listed(joined.engine, joined.id)
    return len(missing)


@retried
def budget_as_listed(engine: Engine, study_id: int) -> None:
    """Make the budget the number of trials in the study; slots of deleted ones do not count."""
    mine = trials.c.study_id == study_id
    with engine.begin() as db:
        lock(db, study_id)
        gone = claim_table.c.trial_id.not_in(sa.select(trials.c.trial_id).where(mine))
        db.execute(sa.delete(claim_table).where(claim_table.c.study_id == study_id, gone))
        number = db.scalar(sa.select(sa.func.count()).select_from(trials).where(mine))
        db.execute(sa.update(study_table).where(study_table.c.study_id == study_id).values(num_trials=number))
