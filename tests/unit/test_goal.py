"""A goal knows which of two values is better, and is refused when it is none."""

from __future__ import annotations

import math

import pytest

from tuner.goal import Goal, maximize, minimize


def test_larger_is_better_when_maximizing_and_smaller_when_minimizing() -> None:
    assert maximize("iou").is_better(0.6, 0.5) and not maximize("iou").is_better(0.5, 0.6)
    assert minimize("loss").is_better(0.5, 0.6) and not minimize("loss").is_better(0.6, 0.5)


def test_an_equal_value_is_not_better_so_the_first_one_stays() -> None:
    assert not maximize("iou").is_better(0.5, 0.5) and not minimize("loss").is_better(0.5, 0.5)


def test_anything_beats_nothing_and_not_a_number_beats_no_number() -> None:
    assert maximize("iou").is_better(-1, None) and minimize("loss").is_better(9, None)
    assert not maximize("iou").is_better(math.nan, 0.1) and not minimize("loss").is_better(math.nan, 0.1)


def test_a_first_value_that_is_no_number_is_beaten_by_any_number() -> None:
    assert maximize("iou").is_better(0.1, math.nan) and minimize("loss").is_better(9, math.nan)
    assert not maximize("iou").is_better(math.nan, math.nan)


def test_a_goal_reads_as_it_is_written() -> None:
    assert str(maximize("iou")) == "maximize iou" and str(minimize("loss")) == "minimize loss"


@pytest.mark.parametrize("metric", [5, None, max])
def test_a_metric_that_is_no_name_is_refused(metric: object) -> None:
    with pytest.raises(TypeError, match="the name of a metric is needed"):
        maximize(metric)


def test_a_direction_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match=r"direction is 'max'; write maximize\(\.\.\.\) or minimize"):
        Goal("iou", "max")
