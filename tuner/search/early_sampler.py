"""The sampler `early`: a Gaussian process on the values after the first rung."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from tuner.search.curves import make_curve
from tuner.search.expectations import Source, expect, fit_earlier, follow_prior
from tuner.search.gaussian_process import GaussianProcess
from tuner.search.ranks import normal_scores, select_best_and_newest
from tuner.search.sampling import FINISHED, NUM_RANDOM
from tuner.search.scheduler import Curve, Scheduler, first_telling
from tuner.search.unit_cube import Space, encode, encode_shares, from_unit, list_owners, to_shares
from tuner.study import optuna_compat
from tuner.study.earlier import EarlierStudy

MOST_POINTS = 250  # trials that the model learns from: the best half and the newest others
NUM_CANDIDATES = 500  # random points of which one is chosen
MOST_DEVIATIONS = 2.0  # the chosen point maximizes the mean plus a random share of so many standard deviations


class EarlySampler(BaseSampler):
    """Chooses parameters whose value after the first rung is likely to be among the best.

    All trials have that value, also those that were pruned there, and it costs few epochs. Which of the trials are
    good at their ends, the pruning finds out. The model sees ranks. Trials without any value broke a limit and
    count as the worst. Trials that have not come so far count as the model predicts them, so that several workers
    do not choose the same. With several goals, it learns from the first.

    What earlier studies and a prior let expect is learned from as far as the trials agree with it.

    Until ten trials have the value, and for parameters that only some recipes have, another sampler chooses.
    """

    def __init__(
        self,
        seed: int,
        is_maximized: bool,
        halving: Scheduler,
        others: BaseSampler,
        earlier: Sequence[EarlierStudy] = (),
        prior: Mapping[str, Sequence[Any]] | None = None,
    ) -> None:
        self.seed, self.sign, self.halving, self.others = seed, 1.0 if is_maximized else -1.0, halving, others
        self.earlier, self.prior = earlier, prior or {}

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        self.others.before_trial(study, trial)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        trials = optuna_compat.read_cached_trials(study)
        shared = optuna.search_space.intersection_search_space(trials, include_pruned=True)
        return {name: distribution for name, distribution in shared.items() if not distribution.single()}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        trials = [t for t in optuna_compat.read_cached_trials(study) if search_space.keys() <= t.params.keys()]
        curves = {t.number: make_curve(t, self.sign) for t in trials if t.state is not TrialState.FAIL}
        known = read_early(list(curves.values()), self.halving)
        known |= {t.number: -math.inf for t in trials if t.state in FINISHED and not t.intermediate_values}
        if not search_space or len(known) < NUM_RANDOM:
            return {}
        by_number = {t.number: t for t in trials}
        ordered = sorted(known, key=lambda number: (-known[number], number))
        chosen = sorted(select_best_and_newest(ordered, MOST_POINTS))
        own = to_shares(search_space, [by_number[number].params for number in chosen])
        awaited = [
            t.params for t in trials if t.number not in known and t.state not in (*FINISHED, TrialState.FAIL)
        ]
        rng = np.random.default_rng(self.seed)
        shares, deviations = rng.random((NUM_CANDIDATES, len(search_space))), MOST_DEVIATIONS * rng.random()
        values = np.array(normal_scores([known[n] for n in chosen]))
        expected, prior = expect(self.list_sources(search_space), own, values.tolist(), shares)
        model = GaussianProcess(encode_shares(search_space, own), values - expected, list_owners(search_space))
        model.believe(encode(search_space, awaited))
        means, errors = model.predict(encode_shares(search_space, shares))
        best = shares[int(np.argmax(prior + means + deviations * errors))].tolist()
        return {name: from_unit(kind, x) for (name, kind), x in zip(search_space.items(), best, strict=True)}

    def list_sources(self, space: Space) -> list[Source]:
        """Return what the study is told before its own trials: models of earlier studies, and the prior."""
        told = [
            *(fit_earlier(study, tuple(space.items())) for study in self.earlier),
            follow_prior(self.prior, space),
        ]
        return [source for source in told if source is not None]

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self.others.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(self, *args: Any) -> None:
        self.others.after_trial(*args)


def read_early(curves: Sequence[Curve], halving: Scheduler) -> dict[int, float]:
    """Return the values after the first rung that tells something, by number; of shorter trials the last."""
    view = halving.view(curves)
    rung = first_telling(halving, view)
    found = ((curve.number, curve.values.get(min(rung, curve.length))) for curve in view)
    return {number: value for number, value in found if value is not None}
