"""What a study has cost and what is left of it: epochs, hours, what pruning saved, failures by kind, time left.

Read without Optuna. `StatsReader` keeps what it read of finished trials, so that reading again costs the same with
thousands of trials as with ten. Epochs are summed by the database, never fetched.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from tuner.study import budget as budget_module
from tuner.study import queries, trial_queries
from tuner.study.budget import Budget, BudgetStatus, BudgetUse
from tuner.study.failures import Failure, read_failures
from tuner.study.info import StudyInfo, StudyKind
from tuner.study.queries import StudySummary, Worker
from tuner.study.tables import claim_table, epoch_table, studies, trial_attrs, trials
from tuner.study.trial_queries import EXTENDS, FINISHED

RECENT = 20  # trials that ended last, of which the pace is taken
MOST_IDS = 500  # named one by one in a statement; beyond, the whole study is read


@dataclass(frozen=True)
class Cost:
    """What was spent on all trials. `seconds` are those of the epochs, over all workers."""

    trials: int = 0  # that ended
    epochs: int = 0
    seconds: float = 0.0
    saved: int = 0  # epochs that pruned trials would have had, and did not train
    planned: int = 0  # epochs of the pruned trials' recipes

    @property
    def hours(self) -> float:
        return self.seconds / 3600

    @property
    def saved_share(self) -> float:
        """Of the epochs that all trials would have taken without pruning."""
        return self.saved / (self.epochs + self.saved) if self.saved else 0.0


@dataclass(frozen=True)
class TimeLeft:
    """How long a study goes on, and what says so; `seconds` is None where that is not known.

    `by`: "trials", "hours" or "GPU-hours", whichever is spent first; "done", "paused", "nobody works", "unknown"
    while nothing has ended, "no limit".
    """

    seconds: float | None
    by: str


@dataclass(frozen=True)
class StudyStats:
    """A study in numbers. `failures` in the order in which they came."""

    cost: Cost
    failures: tuple[Failure, ...]
    left: TimeLeft
    budget: Budget
    spent: BudgetUse
    paused: bool
    device: str  # of a worker or the best trial; "" where none is known

    @property
    def kinds(self) -> dict[str, int]:
        """How many trials failed of each kind of reason, the most frequent first."""
        return dict(Counter(failure.label for failure in self.failures).most_common())

    @property
    def unit(self) -> str:
        """What an hour of a worker is called: each has a GPU, or there is none."""
        return "GPU-hours" if self.device and not self.device.startswith("cpu") else "worker-hours"


@dataclass(frozen=True)
class EndedTrial:
    """A trial that will not change any more."""

    number: int
    at: datetime
    epochs: int
    seconds: float
    busy_seconds: float  # seconds that a worker was busy with it
    planned: int = 0  # epochs of its recipe, where it was pruned
    failure: Failure | None = None


@dataclass(frozen=True)
class OpenTrial:
    """A trial that runs, or waits to be gone on with."""

    number: int
    epochs: int
    seconds: float


def read_stats(engine: Engine, info: StudyInfo) -> StudyStats:
    """The numbers of a study as it stands now."""
    return StatsReader(engine, info).read(queries.read_summary(engine, info))


@dataclass
class StatsReader:
    """The numbers of a study, to be read again and again."""

    engine: Engine
    info: StudyInfo
    ended: dict[int, EndedTrial] = field(default_factory=dict)  # by trial id

    def read(self, now: StudySummary) -> StudyStats:
        with self.engine.connect() as db:
            if len(self.ended) != now.finished:
                self.update(db)
            begun = read_open_trials(db, self.info)
            account = budget_module.read_budget_status(db, self.info.id)
        ended = sorted(self.ended.values(), key=lambda trial: (trial.at, trial.number))
        left = time_left_by_budget(account, len(now.workers), time_left_by_trials(now, ended, begun))
        return StudyStats(
            cost=sum_cost(ended, begun),
            failures=tuple(trial.failure for trial in ended if trial.failure),
            left=explain_standstill(now, account.paused) or left,
            budget=account.budget,
            spent=account.spent,
            paused=account.paused,
            device=find_device(now),
        )

    def update(self, db: Connection) -> None:
        """Read the trials that ended since, and forget those that were deleted."""
        ids = trial_queries.read_finished_ids(db, self.info.id)
        self.ended = {trial_id: trial for trial_id, trial in self.ended.items() if trial_id in ids}
        self.ended |= read_ended(db, self.info, ids - self.ended.keys())


# What is read


def read_ended(db: Connection, info: StudyInfo, ids: set[int]) -> dict[int, EndedTrial]:
    """These trials by their ids."""
    if not ids:
        return {}
    mine = select_trials(info, ids)
    rows = db.execute(
        sa.select(
            *(trials.c.trial_id, trials.c.number, trials.c.state, trials.c.datetime_start),
            *(trials.c.datetime_complete, claim_table.c.attempt),
        )
        .select_from(trials.join(claim_table, claim_table.c.trial_id == trials.c.trial_id, isouter=True))
        .where(mine)
    ).all()
    sums = read_epoch_sums(db, info, mine)
    planned, failures = read_planned(db, mine), read_failures(db, mine)
    found = {}
    for row in rows:
        epochs, seconds = sums.get(row.trial_id, NOTHING)
        found[row.trial_id] = EndedTrial(
            number=row.number,
            at=row.datetime_complete or datetime.min,
            epochs=epochs,
            seconds=seconds,
            busy_seconds=busy_seconds(row, seconds),
            planned=max(planned.get(row.trial_id, 0), epochs) if row.state == "PRUNED" else 0,
            failure=failures.get(row.trial_id),
        )
    return found


SUMS = (
    sa.func.count(epoch_table.c.epoch).label("epochs"),
    sa.func.coalesce(sa.func.sum(epoch_table.c.seconds), 0.0).label("seconds"),
)
NOTHING = (0, 0.0)


def read_epoch_sums(db: Connection, info: StudyInfo, mine: sa.ColumnElement[bool]) -> dict[int, tuple[int, float]]:
    """Epochs and their seconds by trial id, without those of the trial that one goes on from."""
    query = (
        sa.select(epoch_table.c.trial_id, *SUMS)
        .where(epoch_table.c.trial_id.in_(sa.select(trials.c.trial_id).where(mine)))
        .group_by(epoch_table.c.trial_id)
    )
    copied = read_copied(db, info, mine)
    return {row.trial_id: subtract_copied(row, copied) for row in db.execute(query)}


def subtract_copied(row: sa.Row[Any], copied: dict[int, tuple[int, float]]) -> tuple[int, float]:
    """Epochs and their seconds, without those of the trial that it goes on from."""
    epochs, seconds = copied.get(row.trial_id, NOTHING)
    return max(0, int(row.epochs) - epochs), max(0.0, float(row.seconds) - seconds)


def select_trials(info: StudyInfo, ids: set[int]) -> sa.ColumnElement[bool]:
    """A condition on trials: these, of a study; or all that ended, where they are too many to name."""
    mine = (trials.c.study_id == info.id) & trials.c.state.in_(FINISHED)
    return mine & trials.c.trial_id.in_(ids) if len(ids) <= MOST_IDS else mine


def busy_seconds(row: Any, seconds: float) -> float:
    """From its begin to its end; of a trial that was put back meanwhile, the epochs alone."""
    if (row.attempt or 1) > 1 or not row.datetime_start or not row.datetime_complete:
        return seconds
    return max(seconds, float((row.datetime_complete - row.datetime_start).total_seconds()))


def read_planned(db: Connection, mine: sa.ColumnElement[bool]) -> dict[int, int]:
    """The epochs of the pruned trials' recipes, by trial id. What a person ended is left out."""
    query = (
        sa.select(trial_attrs.c.trial_id, trial_attrs.c.key, trial_attrs.c.value_json)
        .join(trials, trials.c.trial_id == trial_attrs.c.trial_id)
        .where(mine, trials.c.state == "PRUNED", trial_attrs.c.key.in_(("recipe", "stopped")))
    )
    rows = db.execute(query).all()
    stopped = {row.trial_id for row in rows if row.key == "stopped"}
    recipes = {row.trial_id: row.value_json for row in rows if row.key == "recipe"}
    return {trial_id: planned_epochs(text) for trial_id, text in recipes.items() if trial_id not in stopped}


def planned_epochs(recipe: str) -> int:
    try:
        epochs = json.loads(recipe)["epochs"]
    except (ValueError, KeyError, TypeError):
        return 0
    return epochs if isinstance(epochs, int) else 0


def read_copied(db: Connection, info: StudyInfo, mine: sa.ColumnElement[bool]) -> dict[int, tuple[int, float]]:
    """Epochs and seconds that longer runs took over from the trials they go on from, by trial id."""
    if info.kind is not StudyKind.EXTENSION:
        return {}
    query = sa.select(trial_attrs.c.trial_id, trial_attrs.c.value_json).where(trial_attrs.c.key == EXTENDS)
    rows = db.execute(query.join(trials, trials.c.trial_id == trial_attrs.c.trial_id).where(mine)).all()
    return {row.trial_id: sum_epochs(db, json.loads(row.value_json)) for row in rows}


def sum_epochs(db: Connection, origin: dict[str, Any]) -> tuple[int, float]:
    """The epochs of a trial of another study, and their seconds."""
    query = (
        sa.select(*SUMS)
        .select_from(epoch_table.join(trials, trials.c.trial_id == epoch_table.c.trial_id))
        .join(studies, studies.c.study_id == trials.c.study_id)
        .where(studies.c.study_name == origin.get("study"), trials.c.number == origin.get("number"))
    )
    row = db.execute(query).one()
    return int(row.epochs), float(row.seconds)


def read_open_trials(db: Connection, info: StudyInfo) -> list[OpenTrial]:
    mine = (trials.c.study_id == info.id) & trials.c.state.in_(("RUNNING", "WAITING"))
    query = (
        sa.select(trials.c.trial_id, trials.c.number, *SUMS)
        .select_from(trials.join(epoch_table, epoch_table.c.trial_id == trials.c.trial_id, isouter=True))
        .where(mine)
        .group_by(trials.c.trial_id, trials.c.number)
    )
    copied = read_copied(db, info, mine)
    return [OpenTrial(row.number, *subtract_copied(row, copied)) for row in db.execute(query)]


# Time


def sum_cost(ended: Iterable[EndedTrial], begun: Iterable[OpenTrial]) -> Cost:
    ended = list(ended)
    every: list[EndedTrial | OpenTrial] = [*ended, *begun]
    pruned = [trial for trial in ended if trial.planned]
    return Cost(
        trials=len(ended),
        epochs=sum(trial.epochs for trial in every),
        seconds=math.fsum(trial.seconds for trial in every),
        saved=sum(trial.planned - trial.epochs for trial in pruned),
        planned=sum(trial.planned for trial in pruned),
    )


def explain_standstill(now: StudySummary, paused: bool) -> TimeLeft | None:
    """Why nothing goes on; None where it does."""
    if now.num_trials is not None and now.finished >= now.num_trials:
        return TimeLeft(0.0, "done")
    if paused:
        return TimeLeft(None, "paused")
    return None if now.workers else TimeLeft(None, "nobody works")


def time_left_by_trials(now: StudySummary, ended: list[EndedTrial], begun: list[OpenTrial]) -> TimeLeft:
    """From what the trials took that ended last, shared by the workers there are."""
    if now.num_trials is None:
        return TimeLeft(None, "no limit")
    recent = [trial.busy_seconds for trial in ended[-max(RECENT, 2 * len(now.workers)) :]]
    if not recent or not now.workers:
        return TimeLeft(None, "unknown")
    each = sum(recent) / len(recent)
    steps = {worker.number: worker for worker in now.workers}
    rest = [remaining_seconds(trial, each, steps.get(trial.number)) for trial in begun]
    fresh = max(0, now.num_trials - now.finished - len(begun))
    hands = min(len(now.workers), max(1, fresh + len(begun)))
    return TimeLeft((sum(rest) + fresh * each) / hands, "trials")


def remaining_seconds(trial: OpenTrial, each: float, worker: Worker | None) -> float:
    """Seconds to the end of a trial that has begun: as long as the others, or by its own pace if it is longer."""
    if trial.seconds < each:
        return each - trial.seconds
    if worker is None or worker.state != "training" or not trial.epochs:
        return 0.0
    return trial.seconds / trial.epochs * max(0, worker.steps - worker.step)


def time_left_by_budget(account: BudgetStatus, workers: int, trials_left: TimeLeft) -> TimeLeft:
    """What comes first: the end of the trials, of the hours, or of the GPU-hours."""
    budget, spent, gpus = account.budget, account.spent, account.holders or workers
    ends = [trials_left]
    if budget.hours is not None:
        ends.append(TimeLeft(max(0.0, 3600 * (budget.hours - spent.hours)), "hours"))
    if budget.gpu_hours is not None and gpus:
        ends.append(TimeLeft(max(0.0, 3600 * (budget.gpu_hours - spent.gpu_hours)) / gpus, "GPU-hours"))
    known = [left for left in ends if left.seconds is not None]
    return min(known, key=lambda left: left.seconds or 0.0, default=trials_left)


def find_device(now: StudySummary) -> str:
    """Where the trials are trained, as far as that is known."""
    for worker in now.workers:
        return worker.device
    result = now.best.attrs.get("result", {}) if now.best else {}
    return str(result.get("device", ""))
