"""Ranks of values, of which equal ones share one, and the choice of the best and newest trials."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from statistics import NormalDist
from typing import Any


def mid_ranks(values: Sequence[Any]) -> list[float]:
    """Return for each value how many are smaller, and half of those that equal it, itself included."""
    ordered = sorted(values)
    return [(bisect_left(ordered, value) + bisect_right(ordered, value)) / 2 for value in values]


def normal_scores(values: Sequence[Any]) -> list[float]:
    """Return for each value the one that its rank has in a normal distribution."""
    return [NormalDist().inv_cdf(rank / len(values)) for rank in mid_ranks(values)]


def select_best_and_newest(ordered: Sequence[int], most: int) -> list[int]:
    """Return at most so many of the numbers of trials, the best first: the best half, and the newest others."""
    newest = sorted(ordered[most // 2 :], reverse=True)[: most - most // 2]
    chosen = {*ordered[: most // 2], *newest}
    return [number for number in ordered if number in chosen]
