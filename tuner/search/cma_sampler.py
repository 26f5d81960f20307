"""CMA-ES without stored objects: its distribution is computed from the trials."""

from __future__ import annotations

from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import FrozenTrial, TrialState

from tuner.search.unit_cube import from_unit, to_unit
from tuner.study import optuna_compat

GENERATION = "cma:generation"  # the attribute of a trial with the generation that it was drawn in
Points = list[tuple[np.ndarray, float]]


class CmaSampler(BaseSampler):
    """CMA-ES over the numbers that all trials have; other parameters are random.

    Each trial stores the number of the generation that it was drawn in, and nothing else. The distribution of the
    next generation is computed from all earlier ones, for each trial anew. Optuna's own sampler stores pickled
    objects in the database and reads them, which would run code that another program put there.
    """

    def __init__(self, seed: int, package: Any) -> None:
        self.seed, self.package = seed, package
        self.random = RandomSampler(seed=seed)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        shared = optuna.search_space.intersection_search_space(optuna_compat.read_cached_trials(study))
        return {
            name: distribution
            for name, distribution in shared.items()
            if not distribution.single() and not isinstance(distribution, CategoricalDistribution)
        }

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        if not search_space:
            return {}
        number = len(search_space)
        optimizer = self.package.CMA(
            mean=np.full(number, 0.5),
            sigma=1 / 6,
            bounds=np.tile([0.0, 1.0], (number, 1)),
            seed=self.seed,
            n_max_resampling=10 * number,
        )
        generations = read_generations(study, search_space)
        while len(told := generations.get(optimizer.generation, [])) >= optimizer.population_size:
            optimizer.tell(told[: optimizer.population_size])
        optuna_compat.set_system_attr(study, trial, GENERATION, optimizer.generation)
        shares = map(float, optimizer.ask())
        return {
            name: from_unit(kind, share) for (name, kind), share in zip(search_space.items(), shares, strict=True)
        }

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self.random.sample_independent(study, trial, param_name, param_distribution)


def read_generations(study: optuna.Study, space: dict[str, BaseDistribution]) -> dict[int, Points]:
    """Return the points of complete trials with their values by generation; smaller values are better."""
    sign = -1.0 if study.direction.name == "MAXIMIZE" else 1.0
    generations: dict[int, Points] = {}
    for trial in optuna_compat.read_cached_trials(study):
        generation = trial.system_attrs.get(GENERATION)
        if generation is None or trial.state is not TrialState.COMPLETE or not space.keys() <= trial.params.keys():
            continue
        point = np.array([to_unit(kind, trial.params[name]) for name, kind in space.items()])
        generations.setdefault(generation, []).append((point, sign * (trial.value or 0.0)))
    return generations
