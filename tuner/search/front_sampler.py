"""Let a sampler of several goals learn also from trials that were pruned or broke a limit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from tuner.goal import COSTS, Goal
from tuner.search.sampling import FINISHED
from tuner.study import optuna_compat
from tuner.study.front import find_front

MOST_TRIALS = 500  # that a sampler learns from: the front and the newest


class FrontSampler(BaseSampler):
    """A sampler of several goals that sees every finished trial as complete.

    A pruned trial has its last value of the first goal, what was measured of it, and of what is not known the
    worst. One that broke a limit has its constraints, which samplers compare before values.
    """

    def __init__(self, inner: BaseSampler, goals: Sequence[Goal]) -> None:
        self.inner, self.goals = inner, goals

    def shown(self, study: optuna.Study) -> optuna.Study:
        trials = show_complete(optuna_compat.read_cached_trials(study), self.goals)
        return optuna_compat.with_trials(study, trials, {})

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        self.inner.before_trial(study, trial)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self.inner.infer_relative_search_space(self.shown(study), trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self.inner.sample_relative(self.shown(study), trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self.inner.sample_independent(self.shown(study), trial, param_name, param_distribution)


def show_complete(trials: Sequence[FrozenTrial], goals: Sequence[Goal]) -> list[FrozenTrial]:
    """Return the running trials, and the finished ones as complete, in the order of their numbers."""
    finished = [trial for trial in trials if trial.state in FINISHED]
    known = [known_values(trial, goals) for trial in finished]
    worst = [worst_value(goal, [values[at] for values in known]) for at, goal in enumerate(goals)]
    shown = [trial for trial in trials if trial.state is TrialState.RUNNING]
    for trial, values in zip(finished, known, strict=True):
        copied = optuna_compat.copy_trial(trial)
        filled = [bad if value is None else value for value, bad in zip(values, worst, strict=True)]
        copied.state, copied.values = TrialState.COMPLETE, filled
        shown.append(copied)
    return sorted(choose_trials(shown, goals), key=lambda trial: trial.number)


def choose_trials(trials: list[FrozenTrial], goals: Sequence[Goal]) -> list[FrozenTrial]:
    """Return the trials; of too many, those of the front and the newest."""
    if len(trials) <= MOST_TRIALS:
        return trials
    done = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    front = {done[at].number for at in find_front([trial.values for trial in done], goals)}
    ordered = sorted(trials, key=lambda trial: (trial.number in front, trial.number))
    return ordered[-MOST_TRIALS:]


def known_values(trial: FrozenTrial, goals: Sequence[Goal]) -> list[float | None]:
    """Return the value of each goal, as far as it is known of a trial that may not be complete."""
    if trial.state is TrialState.COMPLETE:
        return list(trial.values)
    steps = trial.intermediate_values
    last = steps[max(steps)] if steps else math.nan
    costs = [trial.user_attrs.get(goal.metric) if goal.metric in COSTS else None for goal in goals[1:]]
    return [None if math.isnan(last) else last, *costs]


def worst_value(goal: Goal, values: Sequence[float | None]) -> float:
    """Return the worst finite value, or 0 without any."""
    worst = min if goal.direction == "maximize" else max
    return worst((value for value in values if value is not None and math.isfinite(value)), default=0.0)
