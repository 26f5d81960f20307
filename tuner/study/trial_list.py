"""Given trials, each trained once: the rows of a table, trials extended to more epochs, the START of a space."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy.engine import Engine

from tuner.space.published import PublishedTable
from tuner.study import database
from tuner.study.claims import delete_orphaned_claims, lock_study
from tuner.study.database import retried
from tuner.study.optuna_tables import trials
from tuner.study.study import JoinedStudy
from tuner.study.tables import study_table

TRIAL_KEY = "listed_as"  # attribute with the key of a given trial
FROM_STUDY = "from_study"  # attribute of a trial with one of the best points of an earlier study: which study


@dataclass(frozen=True)
class GivenTrial:
    """A trial to add: its key, parameters and attributes.

    With distributions, the parameters are stored as they are; without, the space suggests them again.
    """

    key: str
    params: dict[str, Any]
    attrs: dict[str, Any] = field(default_factory=dict)
    distributions: dict[str, BaseDistribution] = field(default_factory=dict)

    def to_frozen_trial(self) -> FrozenTrial:
        """Return the waiting trial that a worker will claim."""
        return create_trial(
            state=TrialState.WAITING,
            params=self.params if self.distributions else {},
            distributions=self.distributions,
            system_attrs={} if self.distributions else {"fixed_params": self.params},
            user_attrs={**self.attrs, TRIAL_KEY: self.key},
        )


def add_given_trials(joined: JoinedStudy, url: str, items: Iterable[GivenTrial]) -> int:
    """Add trials that the study lacks or that failed in it; return how many were added.

    A lock in the database admits one process at a time, so that two commands add no trial twice. The budget
    becomes the number of trials.
    """
    with database.convert_errors(url), database.creation_lock(joined.engine, url):
        added = add_missing(joined, items, again=True)
        set_budget_to_trials(joined.engine, joined.id)
    return added


def add_start_points(joined: JoinedStudy, url: str, points: Sequence[dict[str, Any]]) -> int:
    """Add the points that are trained first, each once; return how many the study lacked.

    Those of the space come first, then the best ones of earlier studies. Call it before workers start: then no
    trial is drawn before.
    """
    named: list[tuple[dict[str, Any], dict[str, Any]]] = [(point, {}) for point in points]
    named += [(point, {FROM_STUDY: each.name}) for each in joined.info.earlier for point in each.first]
    items: dict[str, GivenTrial] = {}
    for point, attrs in named:
        key = f"start {json.dumps(point, sort_keys=True)}"
        items.setdefault(key, GivenTrial(key, point, attrs))
    if not items:
        return 0
    with database.convert_errors(url), database.creation_lock(joined.engine, url):
        return add_missing(joined, items.values(), again=False)


def add_missing(joined: JoinedStudy, items: Iterable[GivenTrial], again: bool) -> int:
    """Add the trials that the study lacks, with `again` also those that failed in it; return how many."""
    known = {
        trial.user_attrs.get(TRIAL_KEY)
        for trial in joined.study.get_trials(deepcopy=False)
        if trial.state is not TrialState.FAIL or not again
    }
    missing = [item for item in items if item.key not in known]
    delete_orphaned_claims(joined.engine, joined.id)  # SQLite gives their ids to new trials
    for item in missing:
        joined.study.add_trial(item.to_frozen_trial())
    return len(missing)


def table_trials(table: PublishedTable, seeds: int) -> list[GivenTrial]:
    """Return a trial for each row and seed: every row once, then every row a second time, and so on."""
    return [
        GivenTrial(f"{row.key} #{repeat}", row.params, {"row": row.key, "repeat": repeat})
        for repeat in range(1, seeds + 1)
        for row in table.rows
    ]


@retried
def set_budget_to_trials(engine: Engine, study_id: int) -> None:
    """Set the budget to the number of trials in the study, without deleted ones."""
    mine = trials.c.study_id == study_id
    with engine.begin() as db:
        lock_study(db, study_id)
        number = db.scalar(sa.select(sa.func.count()).select_from(trials).where(mine))
        db.execute(sa.update(study_table).where(study_table.c.study_id == study_id).values(num_trials=number))
