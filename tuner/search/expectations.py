"""What earlier studies and a prior let expect of parameters, as far as a study's own trials agree."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution

from tuner.search.gaussian_process import GaussianProcess
from tuner.search.scheduler import correlate_ranks
from tuner.search.unit_cube import Array, Space, encode_shares, list_owners, to_unit
from tuner.study.earlier import EarlierStudy

LEAST_TRIALS = 8  # of an earlier study, to learn from
TRUST_TRIALS = 10  # own trials that weigh as much as the trust in a prior


@dataclass(frozen=True)
class Source:
    """Something that lets expect values of points, each a row of shares of every parameter.

    `trust` counts as so large a rank correlation with the values of ten own trials.
    """

    predict: Callable[[Array], Array]
    trust: float = 0.0


def expect(sources: Sequence[Source], own: Array, values: Sequence[float], others: Array) -> tuple[Array, Array]:
    """Return what sources let expect of own trials and of other points, as far as the own trials agree.

    Both are 0 where they do not. Several sources count by their agreement.
    """
    total = np.zeros(len(own)), np.zeros(len(others))
    for source in sources:
        found = weigh(values, source.predict(own), source.predict(others), source.trust)
        total = total[0] + found[0], total[1] + found[1]
    return weigh(values, *total, max(source.trust for source in sources)) if len(sources) > 1 else total


def weigh(values: Sequence[float], own: Array, others: Array, trust: float) -> tuple[Array, Array]:
    """Return expectations in the unit of the values, as far as they agree with those of the own trials.

    They count by the rank correlation, as far as that is larger than by chance.
    """
    number = len(own)
    found = correlate_ranks(list(zip(own.tolist(), values, strict=True))) if number > 1 else 0.0
    agreement = (TRUST_TRIALS * trust + number * found) / (TRUST_TRIALS + number) if trust else found
    weight = max(0.0, agreement - 1 / math.sqrt(max(number, 1))) / max(float(own.std()), 1e-9)
    return weight * (own - own.mean()), weight * (others - own.mean())


@lru_cache(maxsize=16)
def fit_earlier(study: EarlierStudy, space: tuple[tuple[str, BaseDistribution], ...]) -> Source | None:
    """Return a model of the trials of an earlier study; None if too few have a parameter of the space."""
    kinds = {name: kind for name, kind in space if all(name in params for params in study.trials)}
    if not kinds or len(study.trials) < LEAST_TRIALS:
        return None
    shares = [[share_of(kind, params[name]) for name, kind in kinds.items()] for params in study.trials]
    points = encode_shares(kinds, np.array(shares))
    model = GaussianProcess(points, np.array(study.scores), list_owners(kinds))
    columns = [column for column, (name, _) in enumerate(space) if name in kinds]
    return Source(lambda shares: model.predict(encode_shares(kinds, shares[:, columns]))[0])


def share_of(kind: BaseDistribution, value: Any) -> float:
    """Return the share of a value that may be outside the distribution: beyond 0 and 1, or of no choice."""
    if isinstance(kind, CategoricalDistribution):
        return to_unit(kind, value) if value in kind.choices else -1.0
    is_below = getattr(kind, "log", False) and value <= 0
    return -1.0 if is_below else to_unit(kind, value)


def follow_prior(prior: Mapping[str, Sequence[Any]], space: Space) -> Source | None:
    """Return how near points are to the values of a prior, by the trust in each; None without such parameters."""
    given = [(at, kind, *prior[name]) for at, (name, kind) in enumerate(space.items()) if name in prior]

    def predict(shares: Array) -> Array:
        near = np.zeros(len(shares))
        for at, kind, value, trust in given:
            away = np.abs(shares[:, at] - share_of(kind, value))
            if isinstance(kind, CategoricalDistribution):
                away = away * len(kind.choices) > 0.5
            near -= trust * away
        return near

    return Source(predict, max(trust for *_, trust in given)) if given else None
