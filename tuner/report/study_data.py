"""A study as it is read for reports: its trials with their epochs and the names of their files."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from tuner.report.on_demand import read_artifact_ids
from tuner.study import epoch_queries, queries, trial_queries
from tuner.study.commands import RunCommand, find_source, read_command
from tuner.study.decisions import read_first_pauses
from tuner.study.failures import Failure, failure_from_attrs
from tuner.study.front import find_front, read_complete
from tuner.study.info import StudyInfo
from tuner.study.optuna_tables import trial_params, trials
from tuner.study.recipe_samples import read_mixed
from tuner.study.stats import NOTHING, read_copied

Epoch = dict[str, Any]  # flat: "epoch", "seconds", "val_iou", ...
STATE_WORDS = {
    **{"COMPLETE": "finished", "PAUSED": "paused", "PRUNED": "pruned", "FAIL": "failed"},
    **{"OVER_LIMIT": "over a limit", "RUNNING": "running", "WAITING": "waiting"},
}


def finite(number: Any) -> float | None:
    """Return a number that can be drawn, None for what is missing, not a number, or infinite."""
    is_number = isinstance(number, int | float) and not isinstance(number, bool)
    return float(number) if is_number and math.isfinite(number) else None


@dataclass(frozen=True)
class TrialData:
    """A trial of the database. `files` has the id of each of its artifacts by file name."""

    number: int
    state: str
    value: float | None  # of a finished trial
    params: dict[str, Any]
    notes: dict[str, Any]
    started: datetime | None = None  # UTC
    ended: datetime | None = None
    epochs: tuple[Epoch, ...] = ()
    files: dict[str, str] = field(default_factory=dict)
    copied: tuple[int, float] = (0, 0.0)  # epochs and seconds that an extension copied from an earlier trial
    paused_at: int | None = None  # the epoch after which it rests, if it may go on
    first_pause: int | None = None  # the epoch after which it paused first, if it ever did
    values: Mapping[str, float] = field(
        default_factory=dict
    )  # of a finished trial: each goal, and what was measured

    @property
    def shown_state(self) -> str:
        """Return the state, "PAUSED" for a trial that may go on, "OVER_LIMIT" for one that broke a limit."""
        if trial_queries.OVER_LIMIT in self.notes:
            return trial_queries.BROKE_LIMIT
        return self.state if self.paused_at is None else trial_queries.PAUSED

    @property
    def state_word(self) -> str:
        """Return the state as a word, such as "paused"."""
        return STATE_WORDS.get(self.shown_state, self.shown_state)

    @property
    def result(self) -> dict[str, Any]:
        result = self.notes.get("result")
        return result if isinstance(result, dict) else {}

    @property
    def recipe(self) -> dict[str, Any]:
        """Return the recipe as plain JSON, {} for a trial that failed before it had one."""
        recipe = self.notes.get("recipe")
        return recipe if isinstance(recipe, dict) else {}

    @property
    def final_value(self) -> float:
        """Return the value of one of `StudyData.finished`, which all have one."""
        assert self.value is not None
        return self.value

    @property
    def best_epoch(self) -> int:
        return int(finite(self.result.get("best_epoch")) or 0)

    @property
    def at_best(self) -> Epoch:
        """Return the row of the best epoch, {} if it is not recorded."""
        return next((row for row in self.epochs if row["epoch"] == self.best_epoch), {})

    @property
    def seconds(self) -> float:
        return max(0.0, sum(finite(row.get("seconds")) or 0.0 for row in self.epochs) - self.copied[1])

    @property
    def trained(self) -> int:
        """Return the number of epochs, without copied ones."""
        return max(0, len(self.epochs) - self.copied[0])

    @property
    def planned(self) -> int:
        """Return the number of epochs in the recipe, 0 if it is not known."""
        return int(finite(self.recipe.get("epochs")) or 0)

    @property
    def left(self) -> int:
        """Return the number of epochs that were planned but not trained."""
        return max(0, self.planned - len(self.epochs))

    @property
    def failure(self) -> Failure:
        return failure_from_attrs(self.number, self.notes)

    @property
    def host(self) -> str:
        return str(self.result.get("host", ""))

    @property
    def test(self) -> dict[str, Any]:
        """Return the metrics on the test images, {} if they were not computed."""
        test = self.result.get("test")
        return test if isinstance(test, dict) else {}

    def reached(self, metric: str) -> float | None:
        """Return the value; for a trial without one, such as a pruned trial, the best value up to its end."""
        if self.value is not None:
            return self.value
        best = finite(self.result.get("best_value"))
        return best if best is not None else finite(self.at_best.get(f"val_{metric}"))

    def curve(self, name: str) -> tuple[list[int], list[float | None]]:
        """Return the epochs that have a metric, such as "val_iou", and its values."""
        rows = [row for row in self.epochs if name in row]
        return [row["epoch"] for row in rows], [finite(row[name]) for row in rows]


@dataclass(frozen=True)
class StudyData:
    """A study and all its trials, in the order of their numbers."""

    info: StudyInfo
    num_trials: int | None
    trials: tuple[TrialData, ...]
    kinds: dict[str, dict[str, Any]] = field(default_factory=dict)  # the range of each parameter
    mixed: tuple[str, ...] = ()  # where it goes on with other recipes
    source: Mapping[str, str] = field(default_factory=dict)  # --space or --table, as `tuner run` accepts it here
    command: RunCommand | None = None  # that was typed last to train it

    @property
    def metric(self) -> str:
        return self.info.goal.metric

    @property
    def maximizes(self) -> bool:
        return self.info.goal.direction == "maximize"

    @cached_property
    def finished(self) -> tuple[TrialData, ...]:
        """Return the trials that finished with a finite value, the best first, equals by number."""
        known = [trial for trial in self.trials if trial.state == "COMPLETE" and trial.value is not None]
        sign = -1.0 if self.maximizes else 1.0
        return tuple(sorted(known, key=lambda trial: (sign * trial.final_value, trial.number)))

    @cached_property
    def front(self) -> tuple[TrialData, ...]:
        """Return the trials than which no other is better in all goals, the best by the first goal first."""
        known = [trial for trial in self.finished if trial.values]
        names = [goal.metric for goal in self.info.goals]
        values = [[trial.values[name] for name in names] for trial in known]
        return tuple(known[at] for at in find_front(values, self.info.goals))

    @property
    def best(self) -> TrialData | None:
        return self.finished[0] if self.finished else None

    def of(self, *states: str) -> list[TrialData]:
        return [trial for trial in self.trials if trial.state in states]

    @property
    def names(self) -> list[str]:
        """Return all parameters: those of the space in its order, then those that only trials have."""
        met = [name for trial in self.trials for name in trial.params]
        return list(dict.fromkeys([*self.kinds, *met]))

    @property
    def varied(self) -> list[str]:
        """Return the parameters with more than one value."""
        return [name for name in self.names if len(distinct_values(self.trials, name)) > 1]

    def is_log(self, name: str) -> bool:
        kind = self.kinds.get(name, {})
        return bool(kind.get("log")) and all((finite(trial.params.get(name, 1)) or 0) > 0 for trial in self.trials)

    def is_number(self, name: str) -> bool:
        """Return whether a parameter is numeric; a list of choices is not, even of numbers."""
        if name in self.kinds:
            return self.kinds[name].get("kind") != "categorical"
        return all(finite(trial.params[name]) is not None for trial in self.trials if name in trial.params)

    def levels(self, name: str) -> list[Any]:
        """Return the values of a parameter in the order of its choices or of the numbers."""
        met = distinct_values(self.trials, name)
        if self.is_number(name):
            return sorted(met)
        choices = self.kinds.get(name, {}).get("choices", [])
        return [*[value for value in choices if value in met], *[value for value in met if value not in choices]]

    def level_indices(self, name: str, some: Iterable[TrialData]) -> list[int]:
        """Return the index of the value of each trial among the levels of a parameter. True is not 1."""
        places = {(type(level), level): at for at, level in enumerate(self.levels(name))}
        values = (trial.params[name] for trial in some)
        return [places[type(value), value] for value in values]

    def common_params(self, names: Iterable[str]) -> list[str]:
        """Return the parameters that all finished trials have."""
        return [name for name in names if all(name in trial.params for trial in self.finished)]


def distinct_values(some: Iterable[TrialData], name: str) -> list[Any]:
    """Return the different values of a parameter in order of occurrence. True is not 1."""
    met = {(type(t.params[name]).__name__, t.params[name]): t.params[name] for t in some if name in t.params}
    return list(met.values())


def read_study(engine: Engine, info: StudyInfo) -> StudyData:
    """Read a study in a fixed number of queries, however many trials it has."""
    plain = trial_queries.read_trials(engine, info)
    is_of_study = trials.c.study_id == info.id
    with engine.connect() as db:
        epochs, files = epoch_queries.read_study_epochs(db, info.id), read_artifact_ids(db, is_of_study)
        times = {row.trial_id: row for row in db.execute(sa.select(trials).where(is_of_study))}
        copied, pauses = read_copied(db, info, is_of_study), read_first_pauses(db, info.id)
        kinds, mixed = info.parameters or read_distributions(db, info.id), tuple(read_mixed(db, info.id))
    values = {trial.number: trial.values for trial in read_complete(engine, info)}
    all_trials = [
        TrialData(
            number=one.number,
            state=one.state,
            value=finite(one.value),
            params=one.params,
            notes=one.attrs,
            started=times[one.id].datetime_start if one.id in times else None,
            ended=times[one.id].datetime_complete if one.id in times else None,
            epochs=tuple(epochs.get(one.id, ())),
            files=files.get(one.id, {}),
            copied=copied.get(one.id, NOTHING),
            paused_at=one.paused_at,
            first_pause=pauses.get(one.id),
            values=values.get(one.number, {}),
        )
        for one in plain
    ]
    number, found = queries.read_summary(engine, info).num_trials, tuple(all_trials)
    command = read_command(engine, info.id)
    return StudyData(info, number, found, kinds, mixed, find_source(info, command), command)


def read_distributions(db: Connection, study_id: int) -> dict[str, dict[str, Any]]:
    """Return the ranges recorded with the trials, for a study that was created without ranges."""
    kinds: dict[str, dict[str, Any]] = {}
    query = sa.select(trial_params).join(trials, trials.c.trial_id == trial_params.c.trial_id)
    for row in db.execute(query.where(trials.c.study_id == study_id).order_by(trial_params.c.param_id)):
        plain = json.loads(row.distribution_json)
        kind = plain["name"].removesuffix("Distribution").lower()
        kinds.setdefault(row.param_name, {"kind": kind, **plain["attributes"]})
    return kinds


def format_param(value: Any) -> str:
    """Return the text of a parameter or a number."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def join_numbers(numbers: Sequence[int]) -> str:
    """Return numbers as "7", "7 and 3" or "7, 3 and 12"."""
    *others, last = map(str, numbers)
    return f"{', '.join(others)} and {last}" if others else last
