"""Draw validation images anew, in groups of those that belong together, to say what others would give."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from tuner.data.image_groups import join_groups, number_groups
from tuner.wording import pluralize

DRAWS = 4000  # of the bootstrap
MOST_DRAWN = 2000  # groups, for a bootstrap; beyond, a normal distribution
FEWEST_GROUPS = 10  # of equal size, for anything to be said of other images
SHUFFLES = 999  # of the scores, to see whether they depend on their group or order
BY_NAME, BY_LIKENESS, BY_ORDER = "their names", "their likeness", "the order of their scores"


@dataclass(frozen=True)
class ImageGroups:
    """The group of each image, and what the groups were found by; "" if each image stands for itself."""

    labels: tuple[int, ...]
    found_by: str = ""

    @property
    def count(self) -> int:
        return len(set(self.labels))

    @property
    def effective(self) -> float:
        """Return how many groups of equal size would give a mean as certain."""
        sizes = np.bincount(self.labels)
        return float(sizes.sum() ** 2 / max(1, (sizes**2).sum()))

    @property
    def are_few(self) -> bool:
        return self.effective < FEWEST_GROUPS

    def describe_few(self) -> str:
        """Return what there is too little of to say anything of other images."""
        if not self.found_by:
            return "only " + pluralize(len(self.labels), "validation image")
        return f"the validation images form {pluralize(self.count, 'group')} by {self.found_by}"


def choose_groups(scores: Sequence[float], recorded: Mapping[str, Sequence[int]]) -> ImageGroups:
    """Return the groups to draw by: those of likeness, those of names, else blocks of dependent neighbours.

    Few groups of names may be classes of independent images: they count if their scores differ beyond chance.
    """
    number, found, links = len(scores), [], []
    alike, named = recorded.get("likeness", ()), recorded.get("names", ())
    if len(alike) == number > len(set(alike)):
        found.append(BY_LIKENESS)
        links += chain_groups(alike)
    if len(named) == number > len(set(named)) > 1:
        groups = ImageGroups(tuple(number_groups(named)))
        if not groups.are_few or differ_by_group(scores, groups.labels):
            found.append(BY_NAME)
            links += chain_groups(named)
    if found:
        return ImageGroups(tuple(join_groups(number, links)), " and ".join(found))
    if size := dependent_block(scores):
        return ImageGroups(tuple(at // size for at in range(number)), BY_ORDER)
    return ImageGroups(tuple(range(number)))


def chain_groups(labels: Sequence[int]) -> list[tuple[int, int]]:
    """Return a link from each image to the first one of its group."""
    first: dict[int, int] = {}
    return [(first.setdefault(label, at), at) for at, label in enumerate(labels)]


def shuffle(scores: Sequence[float]) -> NDArray[np.float64]:
    """Return the scores, and in further rows the scores in random orders; less their mean."""
    plain = np.asarray(scores, np.float64) - np.mean(scores)
    rng = np.random.default_rng(0)
    return np.concatenate([plain[None], rng.permuted(np.tile(plain, (SHUFFLES, 1)), axis=1)])


def differ_by_group(scores: Sequence[float], labels: Sequence[int]) -> bool:
    """Return whether the means of the groups differ more than in 95 % of the shuffles."""
    sizes = np.bincount(labels)
    means = shuffle(scores) @ np.eye(len(sizes))[list(labels)] / sizes
    between = (means**2 * sizes).sum(axis=1)
    return float(np.mean(between >= between[0] - 1e-12)) <= 0.05


def dependent_block(scores: Sequence[float]) -> int:
    """Return the length of blocks of neighbours, 0 if these are not more alike than in 99 % of the shuffles.

    It is twice the sum of the correlations with the following ones, up to the first that is negative.
    """
    if len(scores) < 2 * FEWEST_GROUPS or np.ptp(scores) == 0:
        return 0
    rows = shuffle(scores)
    near = (rows[:, :-1] * rows[:, 1:]).sum(axis=1)
    if float(np.mean(near >= near[0] - 1e-12)) > 0.01:
        return 0
    plain, total = rows[0], float(rows[0] @ rows[0])
    time = 1.0
    for lag in range(1, len(plain) // 2):
        alike = float(plain[:-lag] @ plain[lag:]) / total
        if alike <= 0:
            break
        time += 2 * alike
    return max(2, math.ceil(2 * time))


@lru_cache(maxsize=1)
def bootstrap_counts(number: int) -> NDArray[np.float32]:
    """Return how often each group is in each draw; reproducible."""
    counts = np.random.default_rng(0).multinomial(number, np.full(number, 1 / number), size=DRAWS)
    return counts.astype(np.float32)


def bootstrap_means(values: NDArray[np.float64], labels: Sequence[int]) -> NDArray[np.float64]:
    """Return the mean in each draw of groups. Of many it is normal, and their draws would take gigabytes."""
    sizes = np.bincount(labels).astype(np.float64)
    sums, number, mean = np.bincount(labels, values), len(sizes), float(values.mean())
    if number <= MOST_DRAWN:
        counts = bootstrap_counts(number)
        return np.asarray((counts @ sums) / (counts @ sizes), np.float64)
    chance = np.random.default_rng(0).standard_normal(DRAWS)
    return mean + math.sqrt(float(((sums - mean * sizes) ** 2).sum())) / len(values) * chance


def predict_interval(scores: Sequence[float], groups: ImageGroups) -> tuple[float, float]:
    """Return where the mean of as many other groups lies in 95 % of cases.

    The draws are spread wider: by Student's distribution, as few groups tell little of how much groups differ, and
    by √2, as the other mean varies as much as ours.
    """
    from scipy.special import stdtrit

    means, mean = bootstrap_means(np.asarray(scores, np.float64), groups.labels), float(np.mean(scores))
    number = max(2.0, groups.effective)
    wider = float(stdtrit(number - 1, 0.975)) / 1.96 * math.sqrt(2 * number / (number - 1))
    low, high = mean + wider * (np.quantile(means, [0.025, 0.975]) - mean)
    if min(scores) >= 0 and max(scores) <= 1:
        low, high = max(0.0, low), min(1.0, high)
    return float(low), float(high)


def pooled_variance(groups: Sequence[Sequence[float]]) -> tuple[float, int]:
    """Return the variance of values within their groups, over all groups, and its degrees of freedom."""
    squares = sum((value - fmean(some)) ** 2 for some in groups for value in some)
    free = sum(len(some) - 1 for some in groups)
    return (squares / free if free else 0.0), free


def share_ahead(
    ours: Sequence[float], theirs: Sequence[float], groups: ImageGroups, maximizes: bool = True
) -> float:
    """Return the share of the draws in which our mean is better; equal means count half.

    It is moved towards 0.5 as Student's distribution says, because few groups vary too little when drawn from
    themselves: of equal trials, one in ten pairs has a share above 0.95 or below 0.05.
    """
    from scipy.special import ndtri, stdtr

    lead = bootstrap_means(np.asarray(ours, np.float64) - np.asarray(theirs, np.float64), groups.labels)
    lead = lead if maximizes else -lead
    share = float(np.mean(lead > 1e-12) + 0.5 * np.mean(np.abs(lead) <= 1e-12))
    free = max(2.0, groups.effective) - 1
    return float(stdtr(free, ndtri(share) * math.sqrt(free / (free + 1))))
