"""Statistics of a study: epochs, hours, epochs saved by pruning, failures by kind, time left.

Read without Optuna. `StatsReader` keeps what it read of finished trials, so that reading again costs the same with
thousands of trials as with ten. Epochs are summed by the database, never fetched.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from tuner.study import queries, trial_queries
from tuner.study.budget import Budget, BudgetUse, has_gpu, select_budget
from tuner.study.failures import Failure, read_failures
from tuner.study.info import StudyInfo, StudyKind
from tuner.study.optuna_tables import studies, trial_attrs, trials
from tuner.study.paused import read_paused_ids
from tuner.study.queries import StudySummary
from tuner.study.tables import claim_table, epoch_table
from tuner.study.time_left import TimeLeft, estimate_time_left
from tuner.study.trial_queries import EXTENDS, FINISHED, OPEN, OVER_LIMIT

MOST_IDS = 500  # in one statement; for more, all finished trials are read


@dataclass(frozen=True)
class Cost:
    """What all trials have cost. `seconds` is the sum over all epochs of all workers."""

    trials: int = 0  # finished trials
    epochs: int = 0
    seconds: float = 0.0
    saved: int = 0  # epochs of pruned trials that were not trained
    planned: int = 0  # epochs in the recipes of the pruned trials

    @property
    def hours(self) -> float:
        return self.seconds / 3600

    @property
    def saved_share(self) -> float:
        """The share of the epochs that would have been trained without pruning."""
        return self.saved / (self.epochs + self.saved) if self.saved else 0.0


@dataclass(frozen=True)
class StudyStats:
    """Statistics of a study. `failures` are in the order in which the trials ended."""

    cost: Cost
    failures: tuple[Failure, ...]
    left: TimeLeft
    budget: Budget
    spent: BudgetUse
    paused: bool
    device: str  # of a worker or the best trial, or ""

    @property
    def kinds(self) -> dict[str, int]:
        """The number of failed trials by the label of the failure, the most frequent first."""
        return dict(Counter(failure.label for failure in self.failures).most_common())

    @property
    def unit(self) -> str:
        """The unit of cost: GPU-hours if the workers have GPUs."""
        return "GPU-hours" if has_gpu(self.device) else "worker-hours"


@dataclass(frozen=True)
class TrialCost:
    """What a trial has cost so far and, if it is complete, pruned or failed, how it ended."""

    number: int
    epochs: int
    seconds: float
    ended_at: datetime = datetime.min
    busy_seconds: float = 0.0  # from start to end
    planned: int = 0  # epochs of the recipe of a pruned trial
    failure: Failure | None = None


def read_stats(engine: Engine, info: StudyInfo) -> StudyStats:
    return StatsReader(engine, info).read(queries.read_summary(engine, info))


@dataclass
class StatsReader:
    """Reads the statistics of a study repeatedly, and each finished trial only once."""

    engine: Engine
    info: StudyInfo
    ended: dict[int, TrialCost] = field(default_factory=dict)  # by trial id
    paused: set[int] = field(default_factory=set)  # ids of those among them that may go on

    def read(self, now: StudySummary) -> StudyStats:
        with self.engine.connect() as db:
            if now.num_paused or len(self.ended) != now.num_finished:
                self.update(db)
            is_open = (trials.c.study_id == self.info.id) & trials.c.state.in_(OPEN)
            open_trials = [TrialCost(row.number, *cost) for row, cost in read_costs(db, self.info, is_open)]
            status = select_budget(db, self.info.id)
        ended = sorted(self.ended.values(), key=lambda trial: (trial.ended_at, trial.number))
        cost = sum_cost(ended, open_trials)
        return StudyStats(
            cost=cost,
            failures=tuple(trial.failure for trial in ended if trial.failure),
            left=estimate_time_left(self.info, now, status, cost, ended, open_trials),
            budget=status.budget,
            spent=status.spent,
            paused=status.paused,
            device=find_device(now),
        )

    def update(self, db: Connection) -> None:
        """Read the trials that ended or rest since the last call, and drop those that were deleted or resumed."""
        ids = trial_queries.read_finished_ids(db, self.info.id)
        final = ids - self.paused
        self.ended = {trial_id: trial for trial_id, trial in self.ended.items() if trial_id in final}
        self.paused = set(read_paused_ids(db, self.info.id))
        self.ended |= read_ended(db, self.info, ids - self.ended.keys())


# Reading


def read_ended(db: Connection, info: StudyInfo, ids: set[int]) -> dict[int, TrialCost]:
    """Return these finished trials by id."""
    if not ids:
        return {}
    mine = (trials.c.study_id == info.id) & trials.c.state.in_(FINISHED)
    if len(ids) <= MOST_IDS:
        mine &= trials.c.trial_id.in_(ids)
    costs = list(read_costs(db, info, mine))  # first: a trial may end meanwhile
    planned, failures = read_planned(db, mine), read_failures(db, mine)
    found = {}
    for row, (epochs, seconds) in costs:
        found[row.trial_id] = TrialCost(
            number=row.number,
            epochs=epochs,
            seconds=seconds,
            ended_at=row.datetime_complete or datetime.min,
            busy_seconds=busy_seconds(row, seconds),
            planned=max(planned.get(row.trial_id, 0), epochs) if row.state == "PRUNED" else 0,
            failure=failures.get(row.trial_id),
        )
    return found


OF_TRIAL = epoch_table.c.trial_id == trials.c.trial_id
SECONDS = sa.func.coalesce(sa.func.sum(epoch_table.c.seconds), 0.0)
SUMS = (  # over the epochs of a trial
    sa.select(sa.func.count()).where(OF_TRIAL).scalar_subquery().label("epochs"),
    sa.select(SECONDS).where(OF_TRIAL).scalar_subquery().label("seconds"),
)
NOTHING = (0, 0.0)


def read_costs(
    db: Connection, info: StudyInfo, mine: sa.ColumnElement[bool]
) -> Iterator[tuple[sa.Row[Any], tuple[int, float]]]:
    """Yield each trial's row, and its epochs and their seconds without those copied from another trial."""
    copied = read_copied(db, info, mine)
    claimed = trials.join(claim_table, claim_table.c.trial_id == trials.c.trial_id, isouter=True)
    query = sa.select(trials, claim_table.c.attempt, *SUMS).select_from(claimed).where(mine)
    for row in db.execute(query):
        epochs, seconds = copied.get(row.trial_id, NOTHING)
        yield row, (max(0, int(row.epochs) - epochs), max(0.0, float(row.seconds) - seconds))


def busy_seconds(row: Any, seconds: float) -> float:
    """Return the seconds from start to end; for a trial that was put back in between, those of its epochs."""
    if (row.attempt or 1) > 1 or not row.datetime_start or not row.datetime_complete:
        return seconds
    return max(seconds, float((row.datetime_complete - row.datetime_start).total_seconds()))


def read_planned(db: Connection, mine: sa.ColumnElement[bool]) -> dict[int, int]:
    """Return the epochs in the recipes of pruned trials by id, without those that a user or a limit stopped."""
    other = trial_attrs.alias()
    is_stopped = sa.exists().where(other.c.trial_id == trials.c.trial_id, other.c.key.in_(("stopped", OVER_LIMIT)))
    query = (
        sa.select(trial_attrs.c.trial_id, trial_attrs.c.value_json)
        .join(trials, trials.c.trial_id == trial_attrs.c.trial_id)
        .where(mine, trials.c.state == "PRUNED", trial_attrs.c.key == "recipe", ~is_stopped)
    )
    return {row.trial_id: planned_epochs(row.value_json) for row in db.execute(query)}


def planned_epochs(recipe: str) -> int:
    try:
        epochs = json.loads(recipe)["epochs"]
    except (ValueError, KeyError, TypeError):
        return 0
    return epochs if isinstance(epochs, int) else 0


def read_copied(db: Connection, info: StudyInfo, mine: sa.ColumnElement[bool]) -> dict[int, tuple[int, float]]:
    """Return the epochs and seconds copied from trials of other studies, by trial id."""
    if info.kind is not StudyKind.EXTENSION:
        return {}
    query = sa.select(trial_attrs.c.trial_id, trial_attrs.c.value_json).where(trial_attrs.c.key == EXTENDS)
    rows = db.execute(query.join(trials, trials.c.trial_id == trial_attrs.c.trial_id).where(mine)).all()
    origins = {row.trial_id: json.loads(row.value_json) for row in rows}
    names = {origin.get("study") for origin in origins.values()}
    numbers = {origin.get("number") for origin in origins.values()}
    query = (
        sa.select(studies.c.study_name, trials.c.number, *SUMS)
        .join(studies, studies.c.study_id == trials.c.study_id)
        .where(studies.c.study_name.in_(names), trials.c.number.in_(numbers))
    )
    sums = {(row.study_name, row.number): (int(row.epochs), float(row.seconds)) for row in db.execute(query)}
    return {id: sums.get((one.get("study"), one.get("number")), NOTHING) for id, one in origins.items()}


# Calculation


def sum_cost(ended: list[TrialCost], open_trials: list[TrialCost]) -> Cost:
    every = [*ended, *open_trials]
    pruned = [trial for trial in ended if trial.planned]
    return Cost(
        trials=len(ended),
        epochs=sum(trial.epochs for trial in every),
        seconds=math.fsum(trial.seconds for trial in every),
        saved=sum(trial.planned - trial.epochs for trial in pruned),
        planned=sum(trial.planned for trial in pruned),
    )


def find_device(now: StudySummary) -> str:
    """Return the device of a worker, a GPU if any has one; without workers that of the best trial, or ""."""
    if devices := [worker.device for worker in now.workers]:
        return next(filter(has_gpu, devices), devices[0])
    result = now.best.attrs.get("result", {}) if now.best else {}
    return str(result.get("device", ""))
