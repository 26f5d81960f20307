"""Racing: candidates are trained with one seed after another, and those that can no longer win get no further one.

Which they are is a pure function of the values so far, so that every host decides the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean

from tuner.report.resampling import pooled_variance

LEAST_CHANCE = 0.27  # divided by the number of seeds: below this chance of being ahead at the end, one is dropped


def select_racers(
    values: Mapping[str, Sequence[float]],
    searched: Mapping[str, float],
    num_seeds: int,
    maximizes: bool,
) -> list[str]:
    """Return the candidates that may still have the best mean of `num_seeds` values, the best one so far first.

    `values` are those of each candidate by seed, of the same number; `searched` those of the search, which count
    for the noise between runs and not for the means, as the search has chosen them.
    """
    from scipy.special import stdtr

    sign = 1.0 if maximizes else -1.0
    ranked = sorted(values, key=lambda name: -sign * fmean(values[name]))
    done, noise, free = len(values[ranked[0]]), *estimate_noise(values, searched)
    left = num_seeds - done
    if left <= 0:
        return ranked[:1]
    if not free:
        return ranked
    best = fmean(values[ranked[0]])
    spread = noise * math.sqrt(2 * left / (num_seeds * done))  # of the lead at the end, by what is known now

    def is_possible(name: str) -> bool:
        behind = sign * (best - fmean(values[name]))
        return behind <= 0 or (spread > 0 and float(stdtr(free, -behind / spread)) >= LEAST_CHANCE / num_seeds)

    return [name for name in ranked if is_possible(name)]


def estimate_noise(values: Mapping[str, Sequence[float]], searched: Mapping[str, float]) -> tuple[float, int]:
    """Return the standard deviation of a value between runs of the same recipe, and its degrees of freedom."""
    runs = [[*some, *([searched[name]] if name in searched else [])] for name, some in values.items()]
    variance, free = pooled_variance(runs)
    return math.sqrt(variance), free
