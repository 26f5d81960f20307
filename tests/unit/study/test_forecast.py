"""The predicted cost of an epoch: from the parameters of other trials, with an error that holds."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest

from tuner.study.forecast import CostModel, predict_largest

PARAMETERS = {
    "k": {"kind": "int", "low": 8, "high": 128, "step": 8, "log": False},
    "size": {"kind": "int", "low": 64, "high": 256, "step": 32, "log": False},
    "lr": {"kind": "float", "low": 1e-4, "high": 1e-1, "step": None, "log": True},
    "loss": {"kind": "categorical", "choices": ["bce", "dice"]},
}


def draw(rng: random.Random) -> dict[str, Any]:
    return {
        "k": rng.randrange(8, 129, 8),
        "size": rng.randrange(64, 257, 32),
        "lr": 10 ** rng.uniform(-4, -1),
        "loss": rng.choice(["bce", "dice"]),
    }


def cost(point: dict[str, Any]) -> float:
    return float(1e-6 * point["k"] ** 1.5 * point["size"] ** 2)


def test_a_cost_that_is_a_power_of_the_widths_is_predicted_beyond_what_was_seen() -> None:
    rng = random.Random(0)
    points = [point for point in (draw(rng) for _ in range(60)) if point["k"] <= 64]
    found = CostModel(points, [cost(point) for point in points]).predict({**points[0], "k": 128, "size": 256})
    assert found and found.value == pytest.approx(cost({"k": 128, "size": 256}), rel=0.1)


def test_two_of_three_costs_are_within_the_error() -> None:
    rng, inside, number = random.Random(1), 0, 300
    for _ in range(number):
        points = [draw(rng) for _ in range(21)]
        costs = [cost(point) * math.exp(rng.gauss(0, 0.2)) for point in points]
        found = CostModel(points[:-1], costs[:-1]).predict(points[-1])
        assert found
        inside += found.low <= costs[-1] <= found.high
    assert 0.58 <= inside / number <= 0.82


def test_a_choice_may_cost_more() -> None:
    points = [{"model": name, "lr": 0.1 * (i + 1)} for i, name in enumerate(["unet", "fcn"] * 5)]
    model = CostModel(points, [4.0 if point["model"] == "unet" else 1.0 for point in points])
    slow, fast = model.predict({"model": "unet", "lr": 0.3}), model.predict({"model": "fcn", "lr": 0.3})
    assert slow and fast and slow.value > 3 * fast.value
    unknown = model.predict({"model": "segformer", "lr": 0.3})
    assert unknown and fast.value < unknown.value < slow.value and unknown.factor > slow.factor


@pytest.mark.parametrize("point", [{}, {"k": 8}, {"other": None}, {"k": "wide"}, {"k": True}, {"k": [1, 2]}])
def test_any_point_can_be_asked_about(point: dict[str, Any]) -> None:
    known = [{"k": 8, "on": True}, {"k": 16}, {"k": 0}, {"k": 32, "on": None}]
    found = CostModel(known, [1.0, 2.0, 1.0, 3.0]).predict(point)
    assert found and 0 < found.low < found.value < found.high < math.inf


def test_equal_trials_predict_themselves_and_two_are_too_few() -> None:
    found = CostModel([{"lr": 0.1}] * 3, [2.0] * 3).predict({"lr": 0.5})
    assert found and found.value == pytest.approx(2.0)
    assert CostModel([{"lr": 0.1}] * 2, [2.0] * 2).predict({"lr": 0.1}) is None


def test_the_largest_recipe_of_a_space_is_found() -> None:
    rng = random.Random(2)
    points = [draw(rng) for _ in range(30)]
    model = CostModel(points, [cost(point) for point in points])
    assert predict_largest(model, PARAMETERS) == pytest.approx(cost({"k": 128, "size": 256}), rel=0.1)
    assert predict_largest(CostModel([], []), PARAMETERS) == 0.0
    assert predict_largest(CostModel([{}] * 3, [5.0] * 3), {}) == pytest.approx(5.0)
