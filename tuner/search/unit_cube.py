"""Parameters as numbers from 0 to 1, by their distributions: as samplers of points in a cube see them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

ONE_HOT = 0.7  # two choices are as far apart as the ends of a number
Space = Mapping[str, BaseDistribution]
Array = np.ndarray


def from_unit(distribution: BaseDistribution, share: float) -> Any:
    """Return the value at a share of a distribution; each choice or step has an equal part."""
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[pick(share, len(distribution.choices))]
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, high = distribution.low, distribution.high
    if distribution.step is not None and not distribution.log:
        value = low + distribution.step * pick(share, count_steps(distribution))
    else:
        begin, end = bounds(distribution)
        value = begin + share * (end - begin)
        value = math.exp(value) if distribution.log else value
    value = min(max(value, low), high)
    return round(value) if isinstance(distribution, IntDistribution) else float(value)


def to_unit(distribution: BaseDistribution, value: Any) -> float:
    """Return the share of a value, so that `from_unit` returns the value."""
    if isinstance(distribution, CategoricalDistribution):
        return (distribution.to_internal_repr(value) + 0.5) / len(distribution.choices)
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    if distribution.step is not None and not distribution.log:
        step = round((value - distribution.low) / distribution.step)
        return (step + 0.5) / count_steps(distribution)
    begin, end = bounds(distribution)
    place = math.log(value) if distribution.log else value
    return (place - begin) / (end - begin) if end > begin else 0.5


def pick(share: float, number: int) -> int:
    """Return which of so many equal parts a share is in."""
    return min(int(share * number), number - 1)


def count_steps(distribution: FloatDistribution | IntDistribution) -> int:
    """Return the number of values of a distribution with steps."""
    assert distribution.step is not None
    return round((distribution.high - distribution.low) / distribution.step) + 1


def bounds(distribution: FloatDistribution | IntDistribution) -> tuple[float, float]:
    """Return the bounds on the scale of the distribution; a whole number reaches half a step to both sides."""
    half = 0.5 if isinstance(distribution, IntDistribution) else 0.0
    low, high = distribution.low - half, distribution.high + half
    return (math.log(low), math.log(high)) if distribution.log else (low, high)


def encode(space: Space, params: Sequence[Mapping[str, Any]]) -> Array:
    """Return parameters as points."""
    return encode_shares(space, to_shares(space, params))


def to_shares(space: Space, params: Sequence[Mapping[str, Any]]) -> Array:
    """Return the shares of parameters, one row for each."""
    shares = [[to_unit(kind, point[name]) for name, kind in space.items()] for point in params]
    return np.array(shares, dtype=float).reshape(len(params), len(space))


def encode_shares(space: Space, shares: Array) -> Array:
    """Return points: the share itself of a number, and a column for each choice."""
    columns = []
    for share, kind in zip(shares.T, space.values(), strict=True):
        if isinstance(kind, CategoricalDistribution):
            number = len(kind.choices)
            picked = np.minimum((share * number).astype(int), number - 1)
            columns += [ONE_HOT * (picked == index) for index in range(number)]
        else:
            columns.append(share)
    return np.stack(columns, axis=1)


def list_owners(space: Space) -> list[int]:
    """Return for each column the index of its parameter."""
    widths = [len(kind.choices) if isinstance(kind, CategoricalDistribution) else 1 for kind in space.values()]
    return [index for index, width in enumerate(widths) for _ in range(width)]


def encode_columns(params: Mapping[str, Any], space: Space) -> dict[tuple[str, int], float]:
    """Return parameters as `encode` does, by name and column of that parameter."""
    rows = {name: encode({name: kind}, [params])[0].tolist() for name, kind in space.items()}
    return {(name, at): value for name, row in rows.items() for at, value in enumerate(row)}
