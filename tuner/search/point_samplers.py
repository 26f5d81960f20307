"""Samplers whose points follow from the trial's number alone: a grid, and a sequence that fills the space."""

from __future__ import annotations

from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import FrozenTrial

from tuner.errors import PartError
from tuner.search.sampling import hash_seed
from tuner.search.unit_cube import from_unit
from tuner.space.grid import grid_point
from tuner.study import optuna_compat
from tuner.study.info import StudyInfo
from tuner.wording import pluralize


class IndependentSampler(BaseSampler):
    """A sampler that chooses each parameter by itself."""

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return {}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return {}


class SobolSampler(IndependentSampler):
    """Point number N of the study's sequence for its trial number N. Unknown parameters are random."""

    def __init__(self, seed: int, info: StudyInfo) -> None:
        self.names = sorted(info.parameters)
        self.seed = hash_seed(info.seed, "sobol")  # of the study: all workers share one sequence
        self.random = RandomSampler(seed=seed)
        self.point: dict[str, float] = {}

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        from scipy.stats.qmc import Sobol

        if self.names:
            sequence = Sobol(len(self.names), rng=np.random.default_rng(self.seed))
            if trial.number:
                sequence.fast_forward(trial.number)
            self.point = dict(zip(self.names, map(float, sequence.random()[0]), strict=True))

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        if param_name not in self.point:
            return self.random.sample_independent(study, trial, param_name, param_distribution)
        return from_unit(param_distribution, self.point[param_name])


class GridSampler(IndependentSampler):
    """One point of the grid for each trial, in an order shuffled by the study's seed.

    The trial's number decides, without the trials that were enqueued. Where trials were deleted, numbers reach
    beyond the grid: then the points that no trial has come again.
    """

    def __init__(self, info: StudyInfo) -> None:
        self.grid = info.search.grid
        shuffled = np.random.RandomState(hash_seed(info.seed, "grid"))  # the same in every version of numpy
        self.order = shuffled.permutation(info.search.num_points)
        self.point: dict[str, Any] = {}

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        others = [other for other in optuna_compat.read_cached_trials(study) if other.number < trial.number]
        at = trial.number - sum(bool(optuna_compat.fixed_params(other)) for other in others)
        if at < len(self.order):
            self.point = grid_point(self.grid, int(self.order[at]))
            return
        drawn = {to_key(other.params) for other in others}
        points = (grid_point(self.grid, int(index)) for index in self.order)
        missing = [point for point in points if to_key(point) not in drawn]
        self.point = missing[(at - len(self.order)) % len(missing)] if missing else {}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        if not self.point:
            raise PartError(f"the grid has {pluralize(len(self.order), 'point')}, and each was trained.")
        if param_name not in self.point:
            known = ", ".join(self.grid)
            raise PartError(f"the grid has no values of the parameter '{param_name}'; it has those of {known}.")
        return self.point[param_name]


def to_key(point: dict[str, Any]) -> str:
    """Return a text that is equal for equal points, and tells 1 from True."""
    return repr(sorted(point.items()))
