"""A goal knows which of two values is better, and is refused when it is none."""

from __future__ import annotations

import math
import re

import pytest

from tuner.goal import Goal, describe_excess, maximize, minimize, over_limits, read_goals, read_limits


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


def test_a_limit_is_the_most_that_is_allowed() -> None:
    limits = read_limits({"params": 2000, "latency_ms": 20.0})
    assert over_limits({"params": 2000, "latency_ms": 19}, limits) == {}
    over = over_limits({"params": 2001, "macs": 9e9}, limits)
    assert over == {"params": 2001} and describe_excess(over, limits) == "params 2e+03, limit 2e+03"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"param": 1}, "there is no limit of 'param'. Did you mean 'params'? Known: params, macs, latency_ms"),
        ({"params": 0}, "the limit of params is 0; a number above 0 is needed"),
        ({"params": True}, "the limit of params is True; a number above 0 is needed"),
        ({"params": "2e6"}, "the limit of params is '2e6'; a number above 0 is needed"),
        (
            {"macs": math.nan, "x": 1},
            "the limit of macs is nan; a number above 0 is needed; there is no limit of 'x'",
        ),
        ({"macs": math.inf}, "the limit of macs is inf"),
        ({3: 1}, "there is no limit of 3."),
        ([("params", 1)], "they are [('params', 1)]; write for example"),
        (None, "they are None; write"),
    ],
)
def test_limits_that_mean_nothing_are_refused(given: object, told: str) -> None:
    with pytest.raises(ValueError, match=re.escape(told)):
        read_limits(given)


def test_one_goal_or_several_with_the_first_one_first() -> None:
    iou, params = maximize("iou"), minimize("params")
    assert read_goals(iou) == read_goals([iou]) == (iou,)
    assert read_goals([iou, params]) == read_goals((iou, params)) == (iou, params)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("iou", "it is 'iou'; write for example GOAL = maximize"),
        ([], "it is []; write"),
        ([maximize("iou"), "params"], "'params']; write"),
        ([maximize("iou"), minimize("iou")], "two goals are of iou; each needs a metric of its own"),
        (
            [minimize("params")],
            "the first goal is params, which no training improves; put a metric",
        ),
        ([maximize("iou"), maximize("macs")], 'a goal maximizes macs; smaller is better: write minimize("macs")'),
    ],
)
def test_goals_that_mean_nothing_are_refused(given: object, told: str) -> None:
    with pytest.raises(ValueError, match=re.escape(told)):
        read_goals(given)
