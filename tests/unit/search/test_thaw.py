"""The pruning `thaw`: a model of the curves chooses who goes on, by what is expected for each second."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator
from typing import Any

import pytest

from tuner.search import thaw
from tuner.search.scheduler import Curve, PromoteHalving, choose_next
from tuner.search.thaw import Thaw, draw, expected_gain
from tuner.study.decisions import Decision

THAW = Thaw(PromoteHalving(1, 3, patience=0))


@pytest.fixture(autouse=True)
def only_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave no choice to promotion."""
    monkeypatch.setattr(thaw, "PROMOTED", 0.0)


def learned(
    number: int, x: float, epochs: int, state: Any = "paused", pace: float = 1.0, length: int = 27
) -> Curve:
    """Return a curve whose end follows from the parameter, and whose first values say little of it."""
    values = {epoch: 0.5 + x * epoch / length for epoch in range(1, epochs + 1)}
    seconds = {epoch: pace * epoch for epoch in values}
    return Curve(number, values, length, state, seconds, {("x", 0): x})


def finished() -> Iterator[Curve]:
    for number in range(10):
        yield learned(number, number / 10, 27 if number % 3 == 0 else 3, "ended")


def test_who_is_expected_to_end_best_goes_on() -> None:
    curves = [*finished(), learned(10, 0.2, 9), learned(11, 1.0, 9), learned(12, 0.5, 9)]
    choice = THAW.choose(curves, can_start=True)
    assert choice is not None and (choice.action, choice.number, choice.epoch) == ("resume", 11, 9)
    assert choice.reason["gain"] >= choice.reason["next"] >= 0 and choice.reason["paused"] == 3
    json.dumps(choice.reason, allow_nan=False)


def test_of_equal_trials_the_one_that_costs_less_goes_on() -> None:
    for slow, fast in ((10, 11), (11, 10)):
        both = [learned(10, 0.95, 9, pace=8.0 if slow == 10 else 1.0)]
        both.append(learned(11, 0.95, 9, pace=8.0 if slow == 11 else 1.0))
        choice = THAW.choose([*finished(), *both], can_start=True)
        assert choice is not None and choice.number == fast


def test_a_new_trial_starts_when_no_paused_one_is_worth_its_epochs() -> None:
    choice = THAW.choose([*finished(), learned(10, 0.0, 3), learned(11, 0.05, 3)], can_start=True)
    assert choice is not None and choice.action == "start" and "expected of a new trial" in choice.reason["why"]


def test_a_trial_goes_on_at_a_rung_only_if_most_is_expected_of_it() -> None:
    curves = [*finished(), learned(10, 1.0, 9), learned(11, 0.9, 9, "running")]
    judged = THAW.judge(curves, 11, 9)
    assert judged.action == "pause" and judged.reason["rank"] == 3 and "allowed" not in judged.reason
    waiting = THAW.judge([*finished(), learned(10, 1.0, 3), learned(11, 0.1, 9, "running")], 11, 9)
    assert waiting.action == "pause" and waiting.reason["rung"] == 9
    alone = [*finished(), learned(10, 0.1, 9), learned(11, 1.0, 9, "running")]
    assert THAW.judge(alone, 11, 9).action == "continue"


def test_a_diverged_trial_is_stopped_and_teaches_nothing() -> None:
    broken = Curve(10, {1: -math.inf}, 27, "running", {}, {("x", 0): 0.5})
    assert THAW.judge([*finished(), broken], 10, 1).action == "stop"
    choice = THAW.choose([*finished(), Curve(10, {1: -math.inf}, 27, "paused"), learned(11, 1.0, 9)], True)
    assert choice is not None and choice.number == 11


def test_parameters_may_be_missing_and_be_choices() -> None:
    points: list[dict[tuple[str, int], float]] = [{("loss", 0): 0.7, ("loss", 1): 0.0}, {("x", 0): 0.4}, {}]
    curves = [Curve(n, {1: n / 10, 3: n / 9}, 27, "paused", {}, points[n % 3]) for n in range(12)]
    choice = THAW.choose(curves, can_start=True)
    assert choice is not None and choice.action in ("resume", "start")


def test_it_is_promotion_until_the_first_rung_is_settled_and_when_no_trial_may_start() -> None:
    patient = Thaw(PromoteHalving(1, 3, patience=30))
    few = [learned(number, number / 10, 1) for number in range(6)]
    assert (
        patient.choose(few, True)
        == patient.halving.choose(few, True)
        == Decision("start", None, 0, {"why": "no paused trial is due"})
    )
    assert patient.judge(few, 5, 1) == patient.halving.judge(few, 5, 1)
    many = [*finished(), *(learned(number, 0.9, 1) for number in (10, 11))]
    assert choose_next(THAW, many, False) == choose_next(THAW.halving, many, False)


def test_one_choice_in_three_is_that_of_promotion(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thaw, "PROMOTED", 1 / 3)
    rng = random.Random(0)
    left = 0
    for number in range(300):
        curves = [learned(0, 0.5, 1 + number), *(learned(n, rng.random(), 1) for n in range(1, 4))]
        left += THAW.is_promoting(curves)
        assert draw(curves).random() == draw(curves).random()
    assert 70 <= left <= 130


def test_the_expected_gain_is_that_of_a_normal_distribution() -> None:
    rng = random.Random(0)
    for mean, error in ((-1.0, 0.5), (0.0, 1.0), (0.7, 0.2)):
        drawn = [max(0.0, rng.gauss(mean, error)) for _ in range(20_000)]
        gain = expected_gain(thaw.np.array([mean]), thaw.np.array([error])).item()
        assert gain == pytest.approx(sum(drawn) / len(drawn), abs=0.02)
