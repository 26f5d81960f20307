"""Ranks, and the choice of the trials that a model learns from."""

from __future__ import annotations

import math
from statistics import NormalDist

import pytest

from tuner.search.ranks import normal_scores, select_best_and_newest


def test_scores_are_those_of_the_ranks() -> None:
    scores = normal_scores([3.0, -math.inf, 1e9, 3.0])
    expected = [NormalDist().inv_cdf(share) for share in (0.5, 0.125, 0.875, 0.5)]
    assert scores == pytest.approx(expected)


def test_the_best_and_the_newest_of_many_trials_are_learned_from() -> None:
    ordered = list(range(100))  # the best first
    assert sorted(select_best_and_newest(ordered, 10)) == [0, 1, 2, 3, 4, 95, 96, 97, 98, 99]
    assert sorted(select_best_and_newest(ordered, 200)) == [*range(100)]
