"""Let a sampler learn from the order of the trials, also from pruned ones."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from tuner.search.ranks import normal_scores, select_best_and_newest
from tuner.search.sampling import FINISHED, rank_trial
from tuner.study import optuna_compat


class RankSampler(BaseSampler):
    """A sampler that learns from the order of all finished trials, also of pruned ones, by the first goal.

    Complete trials are ordered by their values, and come before pruned ones; these by their last epoch and the
    value there, as TPE does. Last come those that broke a limit, by how much. The sampler sees them as complete,
    each with the value that its rank has in a normal distribution. Of more than `most`, it sees the best, and as
    many of the newest others.
    """

    def __init__(
        self, inner: BaseSampler, is_maximized: bool, most: int | None = None, is_torch: bool = False
    ) -> None:
        self.inner, self.is_maximized, self.most, self.is_torch = inner, is_maximized, most, is_torch

    def ranked(self, study: optuna.Study) -> optuna.Study:
        trials = optuna_compat.read_cached_trials(study)
        ranked = rank_values(trials, self.is_maximized, self.most)
        return optuna_compat.with_trials(study, ranked, {}, is_single=True)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self.inner.infer_relative_search_space(self.ranked(study), trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        threads: Any = nullcontext()
        if self.is_torch:
            from tuner.train.threads import single_thread

            threads = single_thread()
        with threads:
            return self.inner.sample_relative(self.ranked(study), trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self.inner.sample_independent(study, trial, param_name, param_distribution)


def rank_values(trials: Sequence[FrozenTrial], is_maximized: bool, most: int | None) -> list[FrozenTrial]:
    """Return the running trials, and the finished ones as complete with values by rank; equal ones share one."""
    finished = [trial for trial in trials if trial.state in FINISHED]
    ranks = {trial.number: rank_trial(trial, is_maximized) for trial in finished}
    ordered = sorted(finished, key=lambda trial: (ranks[trial.number], trial.number))
    if most is not None:
        chosen = {*select_best_and_newest([trial.number for trial in ordered], most)}
        ordered = [trial for trial in ordered if trial.number in chosen]
    sign = -1.0 if is_maximized else 1.0
    seen = [optuna_compat.without_constraints(t) for t in trials if t.state is TrialState.RUNNING]
    scores = normal_scores([ranks[trial.number] for trial in ordered])
    seen += [as_complete(trial, sign * score) for trial, score in zip(ordered, scores, strict=True)]
    return sorted(seen, key=lambda trial: trial.number)


def as_complete(trial: FrozenTrial, value: float) -> FrozenTrial:
    """Return a copy of a trial that is complete with this value."""
    shown = optuna_compat.without_constraints(trial)
    shown.state, shown.values = TrialState.COMPLETE, [value]
    return shown
