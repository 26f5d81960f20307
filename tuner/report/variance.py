"""Analysis of variance: which of several parameters explain the differences between values, and how surely.

A parameter counts if it explains more than in 95 % of the draws in which the values are shuffled over the trials,
taking the parameter that explains most in each draw (the method of Westfall and Young, by the probability of an F
test). Parameters that count are added one by one, the largest share first, each with what the earlier ones leave;
so parameters that varied together are not counted twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import permutations
from math import factorial

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.05  # chance that of parameters without effect any is said to have one
TIE = 1e-9  # of the variance: shares that differ by less are equal
SURE = 0.95  # of the draws in which the first parameter must be ahead of another
DRAWS, FEWEST_DRAWS, MOST_NUMBERS = 999, 199, 2_000_000  # of a resampling; fewer draws of many values
MOST_PERMUTED = 40_320  # permutations that are all tried: those of eight
NEGLIGIBLE = 1e-12
Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Share:
    """The share of the variance that a parameter explains beyond those before it, with a 95 % interval.

    `alone` is the share it explains without regard to others. `is_told`: it is larger than chance gives.
    """

    name: str
    share: float
    low: float
    high: float
    alone: float
    is_told: bool


@dataclass(frozen=True, eq=False)
class Effect:
    """A parameter as orthonormal columns: alone, and without what the parameters before it explain."""

    name: str
    alone: Matrix
    beyond: Matrix


def explain_variance(values: Matrix, columns: Mapping[str, Matrix]) -> tuple[list[Share], list[str]]:
    """Return the share of each parameter, those that count first, and the parameters that the first may equal.

    `columns` has a row for each value and describes each parameter: its powers, or a column for each choice.
    """
    centred = values - values.mean()
    if float(centred @ centred) <= NEGLIGIBLE * max(1.0, float(values @ values)):
        return [Share(name, 0.0, 0.0, 1.0, 0.0, False) for name in columns], []
    alone = {name: orthonormal(column - column.mean(axis=0)) for name, column in columns.items()}
    order = permuted_orders(len(values))
    told: list[Effect] = []
    rest = [Effect(name, basis, basis) for name, basis in alone.items()]
    while rest:
        used = join_bases(told, len(values))
        rest = [Effect(one.name, one.alone, orthonormal(remove(one.alone.T, used).T)) for one in rest]
        left = remove(centred[None], used)
        shares = [float(adjusted_shares(left, one.beyond, used.shape[1])[0]) for one in rest]
        if not (found := find_beyond_chance(left[0], rest, used, order)):
            break
        told.append(rest.pop(max(found, key=shares.__getitem__)))
    return summarize_effects(centred, told, rest)


def orthonormal(columns: Matrix) -> Matrix:
    """Return orthonormal columns that span the same space."""
    left, sizes, _ = np.linalg.svd(columns, full_matrices=False)
    return left[:, sizes > 1e-9 * max(1.0, float(sizes.max(initial=0.0)))]


def join_bases(effects: list[Effect], number: int) -> Matrix:
    return np.concatenate([np.zeros((number, 0)), *(one.beyond for one in effects)], axis=1)


def remove(rows: Matrix, basis: Matrix) -> Matrix:
    """Return the rows without their parts in the space of the basis."""
    return rows - (rows @ basis) @ basis.T


def adjusted_shares(rows: Matrix, basis: Matrix, used: int) -> Matrix:
    """Return the share of the variance of each row that a basis explains, less what chance gives it on average.

    This is the adjusted R², as `used` degrees of freedom are spent already; 0 where none would be left.
    """
    free = rows.shape[1] - 1 - used
    left = free - basis.shape[1]
    total = (rows * rows).sum(axis=1)
    if left < 1 or not basis.shape[1]:
        return np.zeros(len(rows))
    explained = ((rows @ basis) ** 2).sum(axis=1) / np.maximum(total, NEGLIGIBLE)
    return np.where(total > NEGLIGIBLE, 1 - (1 - explained) * free / left, 0.0)


@lru_cache(maxsize=1)
def permuted_orders(number: int) -> NDArray[np.int64]:
    """Return all orders of a few values, else random ones; the first is the given order. Reproducible."""
    if number < 13 and factorial(number) <= MOST_PERMUTED:
        return np.array(list(permutations(range(number))))
    rng, draws = np.random.default_rng(0), count_draws(number)
    drawn = rng.permuted(np.tile(np.arange(number), (draws, 1)), axis=1)
    return np.concatenate([np.arange(number)[None], drawn])


def count_draws(number: int) -> int:
    return max(FEWEST_DRAWS, min(DRAWS, MOST_NUMBERS // number))


def find_beyond_chance(left: Matrix, effects: list[Effect], used: Matrix, order: NDArray[np.int64]) -> list[int]:
    """Return the indices of the effects that chance alone would rarely equal by any of them.

    Equal shares of a number and of many choices say different things, so an F test's probability is compared.
    """
    if float(left @ left) <= NEGLIGIBLE:
        return []
    shuffled = remove(left[order], used)  # the first row as it is
    found = np.array([f_test(shuffled[:1], one.beyond, used.shape[1])[0] for one in effects])
    least = np.array([f_test(shuffled, one.beyond, used.shape[1], TIE) for one in effects]).min(axis=0)
    return [at for at, chance in enumerate(found) if chance < 1 and float(np.mean(least <= chance)) <= LEVEL]


def f_test(rows: Matrix, basis: Matrix, used: int, more: float = 0.0) -> Matrix:
    """Return the probability that normal noise explains as much of each row, and `more`, as a basis does."""
    from scipy.special import fdtrc

    size = basis.shape[1]
    free = rows.shape[1] - 1 - used - size
    if free < 1 or not size:
        return np.ones(len(rows))
    total = np.maximum((rows * rows).sum(axis=1), NEGLIGIBLE)
    explained = np.clip(((rows @ basis) ** 2).sum(axis=1) / total + more, 0.0, 1 - NEGLIGIBLE)
    return np.asarray(fdtrc(size, free, explained / (1 - explained) * free / size), np.float64)


def summarize_effects(centred: Matrix, told: list[Effect], rest: list[Effect]) -> tuple[list[Share], list[str]]:
    """Return the share of each effect with its interval, and which parameters may explain as much as the first.

    The intervals are from draws of the residuals, added to the effects less what chance gives these.
    """
    used, number = join_bases(told, len(centred)), len(centred)
    left = remove(centred[None], used)[0]
    free = max(1, number - 1 - used.shape[1])
    noise = float(left @ left) / free
    fit = np.zeros(number)
    for one in told:
        part = one.beyond @ (one.beyond.T @ centred)
        size = float(part @ part)
        fit += part * np.sqrt(max(0.0, 1 - one.beyond.shape[1] * noise / max(size, NEGLIGIBLE)))
    rng = np.random.default_rng(1)
    drawn = left[rng.integers(0, number, (count_draws(number), number))] * np.sqrt((number - 1) / free)
    rows = np.concatenate([centred[None], fit + drawn])
    rows -= rows.mean(axis=1, keepdims=True)
    effects, beyond = [*told, *rest], shares_beyond(rows, told, rest)
    alone = [adjusted_shares(rows, one.alone, 0) for one in effects]
    shares = [make_share(*one, one[0] in told, free) for one in zip(effects, beyond, alone, strict=True)]
    rivals = [
        one.name
        for one, *theirs in zip(effects[1:], alone[1:], beyond[1:], strict=True)
        if told and not all(is_ahead(*pair) for pair in zip((alone[0], beyond[0]), theirs, strict=True))
    ]
    others = sorted(shares[len(told) :], key=lambda one: -one.share)
    return [*shares[: len(told)], *others], rivals


def is_ahead(ours: Matrix, theirs: Matrix) -> bool:
    """Return whether a share is larger than another in enough of the draws, which follow the first row."""
    return float(np.mean(ours[1:] > theirs[1:])) >= SURE


def shares_beyond(rows: Matrix, told: list[Effect], rest: list[Effect]) -> list[Matrix]:
    """Return the share of each effect in each row, of the whole variance of the row."""
    total = np.maximum((rows * rows).sum(axis=1), NEGLIGIBLE)
    used = join_bases(told, rows.shape[1])
    left = remove(rows, used)
    remaining = (left * left).sum(axis=1)
    noise = remaining / max(1, rows.shape[1] - 1 - used.shape[1])
    sizes = [((rows @ one.beyond) ** 2).sum(axis=1) - one.beyond.shape[1] * noise for one in told]
    sizes += [adjusted_shares(left, one.beyond, used.shape[1]) * remaining for one in rest]
    return [size / total for size in sizes]


def make_share(effect: Effect, beyond: Matrix, alone: Matrix, is_told: bool, free: int) -> Share:
    """Return the share of the first row with the interval from the draws, the other rows.

    The draws are reflected about the share, on the scale of correlations: as they are, they would hold the
    true share too rarely. Where nothing can be told, the interval is that of what the draws give by chance.
    """
    share, low, high = np.clip([beyond[0], *np.quantile(beyond[1:], [0.025, 0.975])], 0.0, 1.0)
    if is_told:
        scaled = np.arctanh(np.sqrt(np.clip([share, high, low], 0.0, 1 - 1e-6)))  # Fisher's, of correlations
        low, high = np.tanh(np.maximum(0.0, 2 * scaled[0] - scaled[1:])) ** 2
    size = effect.beyond.shape[1]
    if not is_told and not 0 < size < free:  # the others determine it, or each trial has a choice of its own
        high = 1.0
    return Share(effect.name, float(share), float(low), float(high), float(max(0.0, alone[0])), is_told)
