"""Schedulers: the decisions of halving, with curves written by hand and with random ones."""

from __future__ import annotations

import json
import math
import random
from dataclasses import replace
from typing import Any

import optuna
import pytest

from tuner.search.scheduler import (
    Curve,
    NoHalving,
    PromoteHalving,
    Scheduler,
    StopHalving,
    correlate_ranks,
    first_telling,
    order_paused,
)
from tuner.study.decisions import Decision

INF = math.inf


def curve(number: int, *values: float, state: Any = "paused", length: int = 50) -> Curve:
    return Curve(number, dict(enumerate(values, start=1)), length, state)


def first_epochs(*values: float, state: Any = "paused") -> list[Curve]:
    return [curve(number, value, state=state) for number, value in enumerate(values)]


def promote(first_rung: int = 1, factor: int = 3) -> PromoteHalving:
    """Return the scheduler without patience: trials pass a rung as soon as it has as many as the factor."""
    return PromoteHalving(first_rung, factor, patience=0)


def random_values(rng: random.Random, length: int) -> list[float]:
    """Return a rough curve: rising, with ties, sometimes not a number."""
    end, speed = rng.random(), rng.uniform(0.05, 1)
    values = [round(end * (1 - math.exp(-speed * epoch)) + rng.gauss(0, 0.02), 2) for epoch in range(length)]
    return [math.nan if rng.random() < 0.02 else value for value in values]


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
@pytest.mark.parametrize(("first_rung", "factor"), [(1, 3), (1, 4), (2, 3), (5, 2)])
def test_stop_decides_as_optuna_does(first_rung: int, factor: int, direction: str) -> None:
    """Several trials at a time, of several lengths, each judged after each epoch but its last."""
    pruner = optuna.pruners.SuccessiveHalvingPruner(
        min_resource=first_rung, reduction_factor=factor, bootstrap_count=0
    )
    study, scheduler = optuna.create_study(direction=direction, pruner=pruner), StopHalving(first_rung, factor)
    sign, rng = 1.0 if direction == "maximize" else -1.0, random.Random(f"{first_rung} {factor} {direction}")
    ours: dict[int, Curve] = {}
    running: list[tuple[optuna.Trial, list[float]]] = []
    decisions = []
    for _ in range(1000):
        if len(running) < 4:
            running.append((study.ask(), random_values(rng, rng.choice([9, 30, 60]))))
        trial, values = running[rng.randrange(4)] if len(running) == 4 else running[-1]
        seen = dict(ours[trial.number].values) if trial.number in ours else {}
        epoch = len(seen) + 1
        value = values[epoch - 1]
        seen[epoch] = -INF if math.isnan(value) else sign * value
        ours[trial.number] = Curve(trial.number, seen, len(values), "running")
        trial.report(value, epoch)
        is_last = epoch == len(values)
        theirs = not is_last and trial.should_prune()
        mine = "continue"
        if epoch in scheduler.rungs(len(values)):
            mine = scheduler.judge([*ours.values()], trial.number, epoch).action
            decisions.append(mine)
        assert (mine == "stop") == theirs, (trial.number, epoch)
        if theirs or is_last:
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            running = [pair for pair in running if pair[0].number != trial.number]
    assert decisions.count("continue") > 30 and decisions.count("stop") > 30


def test_rungs_are_powers_of_the_factor_below_the_length() -> None:
    assert promote().rungs(27) == [1, 3, 9]
    assert StopHalving(2, 4).rungs(33) == [2, 8, 32]
    assert StopHalving(5, 3).rungs(5) == []
    assert NoHalving().rungs(50) == []


def test_none_goes_on_and_starts() -> None:
    scheduler = NoHalving()
    assert scheduler.judge(first_epochs(0.1, 0.9), 0, 1).action == "continue"
    chosen = scheduler.choose([], can_start=True)
    assert chosen is not None and (chosen.action, chosen.number, chosen.epoch) == ("start", None, 0)
    assert scheduler.choose([], can_start=False) is None


def test_promote_pauses_until_a_rung_has_as_many_trials_as_the_factor() -> None:
    scheduler = promote()
    assert scheduler.judge(first_epochs(0.5), 0, 1).action == "pause"
    assert scheduler.judge(first_epochs(0.5, 0.4), 1, 1).action == "pause"
    best = scheduler.judge(first_epochs(0.5, 0.4, 0.6), 2, 1)
    assert best == Decision("continue", 2, 1, {"rung": 1, "value": 0.6, "rank": 1, "of": 3, "allowed": 1})
    assert scheduler.judge(first_epochs(0.5, 0.4, 0.45), 2, 1).action == "pause"


def test_promote_resumes_who_came_to_be_among_the_best() -> None:
    decision = promote().choose(first_epochs(0.5, 0.4, 0.45), can_start=True)
    assert decision == Decision("resume", 0, 1, {"rung": 1, "rank": 1, "of": 3, "allowed": 1})


def test_promote_prefers_the_highest_rung() -> None:
    at_three = [curve(number, 0.9, 0.9, value) for number, value in enumerate([0.90, 0.95, 0.91])]
    waiting = [curve(number, 0.99) for number in range(3, 9)]
    decision = promote().choose([*at_three, *waiting], can_start=True)
    assert decision is not None and (decision.number, decision.epoch) == (1, 3)


def test_promote_passes_each_rung_once() -> None:
    """The best of the first rung is running or ended: nobody else is due."""
    for state in ("running", "ended"):
        curves = [curve(0, 0.9, 0.9, state=state), curve(1, 0.5), curve(2, 0.4)]
        decision = promote().choose(curves, can_start=True)
        assert decision is not None and decision.action == "start"


def test_promote_finishes_the_best_when_no_trial_can_start() -> None:
    curves = [curve(0, 0.2), curve(1, 0.3)]
    assert promote().choose(curves, can_start=True).action == "start"  # type: ignore[union-attr]
    last = promote().choose(curves, can_start=False)
    assert last is not None and (last.action, last.number) == ("resume", 1)
    assert promote().choose([curve(0, 0.2, state="running")], can_start=False) is None


def test_promote_resumes_a_trial_that_was_interrupted_beyond_its_rung() -> None:
    curves = [curve(0, 0.9, 0.9), curve(1, 0.5), curve(2, 0.4)]
    decision = promote().choose(curves, can_start=True)
    assert decision is not None and (decision.number, decision.epoch) == (0, 2)


@pytest.mark.parametrize("scheduler", [StopHalving(), PromoteHalving()])
def test_a_diverged_trial_is_stopped(scheduler: Scheduler) -> None:
    decision = scheduler.judge([curve(0, -INF), curve(1, 0.1), curve(2, 0.1)], 0, 1)
    assert decision.action == "stop"
    assert json.loads(json.dumps(decision.reason, allow_nan=False))["value"] is None
    assert scheduler.choose([curve(0, -INF)], can_start=False) is None


def test_of_equal_values_the_lower_number_is_better() -> None:
    curves = first_epochs(0.5, 0.5, 0.5)
    assert promote().judge(curves, 0, 1).action == "continue"
    assert promote().judge(curves, 2, 1).action == "pause"
    shuffled = [curves[2], curves[0], curves[1]]
    assert promote().choose(shuffled, can_start=True) == promote().choose(curves, True)


def test_trials_that_end_at_a_rung_are_not_compared_there() -> None:
    short = [curve(number, 0.9, length=1, state="ended") for number in range(5)]
    assert StopHalving(1, 3).judge([*short, curve(5, 0.1)], 5, 1).action == "continue"


def test_nothing_passes_the_first_rung_before_it_is_known_well() -> None:
    scheduler = PromoteHalving(1, 3, patience=3)
    rising = first_epochs(0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
    assert scheduler.judge(rising, 5, 1).action == "pause"
    assert scheduler.choose(rising, can_start=True).action == "start"  # type: ignore[union-attr]
    assert scheduler.choose(rising, can_start=False).number == 5  # type: ignore[union-attr]
    settled = first_epochs(0.1, 0.6, 0.5, 0.4, 0.6)
    assert scheduler.choose(settled, can_start=True).number == 1  # type: ignore[union-attr]
    better_later = [*settled, curve(5, 0.9)]
    assert scheduler.choose(better_later, can_start=True).number == 5  # type: ignore[union-attr]


def test_the_first_rung_costs_at_most_one_and_a_half_whole_trials() -> None:
    rising = [curve(number, number / 10, length=4) for number in range(6)]
    assert PromoteHalving().choose(rising[:5], can_start=True).action == "start"  # type: ignore[union-attr]
    assert PromoteHalving().choose(rising, can_start=True).number == 5  # type: ignore[union-attr]


def test_a_rung_that_tells_nothing_is_passed_by_all() -> None:
    """After one epoch all are equal, or the order is reversed until the next rung."""
    for first in ([0.0] * 8, [-number / 10 for number in range(8)]):
        seen = [curve(number, first[number], 0.0, number / 10) for number in range(8)]
        assert first_telling(promote(), seen) == 3 and first_telling(promote(), seen[:7]) == 1
        new = curve(8, -1.0, state="running")
        assert promote().judge([*seen, new], 8, 1).action == "continue"
        assert promote().judge([*seen[:7], new], 8, 1).action == "pause"
    told = [curve(number, number / 10, 0.0, number / 10) for number in range(8)]
    assert first_telling(promote(), told) == 1


def test_a_paused_trial_goes_on_by_its_rank_among_those_that_cost_at_most_as_much() -> None:
    """Three small trials are worse than all large ones, and the best of them goes on nevertheless."""
    large = [replace(curve(number, 0.9 - number / 100, length=9), costs=(5.0,)) for number in range(5)]
    small = [replace(curve(number, number / 100, length=9), costs=(1.0,)) for number in (5, 6, 7)]
    passed = [replace(each, state="running", values={1: each.values[1], 2: 0.5}) for each in large[:2]]
    chosen = promote().choose([*passed, *large[2:], *small], can_start=True)
    assert chosen == Decision("resume", 7, 1, {"rung": 1, "rank": 1, "of": 3, "allowed": 1})
    assert promote().choose([*passed, *large[2:], *small[1:]], True).action == "start"  # type: ignore[union-attr]
    alike = [replace(each, costs=()) for each in [*passed, *large[2:], *small]]
    assert promote().choose(alike, can_start=True).action == "start"  # type: ignore[union-attr]


def test_of_paused_trials_the_worst_among_those_that_cost_at_most_as_much_comes_first() -> None:
    large = [replace(curve(number, 0.9 - number / 100), costs=(5.0,)) for number in range(3)]
    small = [replace(curve(number, number / 100), costs=(1.0,)) for number in (3, 4)]
    assert order_paused(promote(), [*large, *small]) == [3, 2, 1, 4, 0]
    alone = [replace(each, costs=()) for each in [*large, *small]]
    assert order_paused(promote(), alone) == [3, 4, 2, 1, 0]
    assert order_paused(promote(), [*alone, curve(5, 0.0, 0.0, 0.0)])[-1] == 5


def test_rank_correlation_agrees_with_scipy() -> None:
    stats = pytest.importorskip("scipy.stats")
    rng = random.Random(0)
    for _ in range(20):
        pairs = [(round(rng.random(), 1), round(rng.random(), 1)) for _ in range(12)]
        assert correlate_ranks(pairs) == pytest.approx(stats.spearmanr(*zip(*pairs, strict=True)).statistic)
    assert correlate_ranks([(1.0, 2.0), (1.0, 3.0)]) == 0


def within_first(number: int, *values: float, state: Any = "paused", length: int = 50) -> Curve:
    """Return a curve whose first value lies within the first epoch."""
    return Curve(number, dict(enumerate(values)), length, state)


def test_with_a_part_of_an_epoch_the_first_rung_comes_before_epoch_1() -> None:
    assert StopHalving(1, 3, part=0.3).rungs(27) == [0, 1, 3, 9]
    assert PromoteHalving(1, 3, part=0.3).rungs(1) == [0]


def test_trials_are_judged_and_resumed_within_the_first_epoch() -> None:
    scheduler = PromoteHalving(1, 3, patience=0, part=0.5)
    curves = [within_first(0, 0.3), within_first(1, 0.1), within_first(2, 0.2, state="running")]
    assert scheduler.judge(curves, 2, 0).reason == {"rung": 0, "value": 0.2, "rank": 2, "of": 3, "allowed": 1}
    assert scheduler.judge(curves, 2, 0).action == "pause"
    resumed = scheduler.choose(curves, can_start=True)
    assert resumed is not None and (resumed.action, resumed.number, resumed.epoch) == ("resume", 0, 0)
    beyond = [within_first(0, 0.3, 0.4), *curves[1:]]  # it rests at the next rung
    started = scheduler.choose(beyond, can_start=True)
    assert started is not None and started.action == "start"
    assert StopHalving(part=0.5).judge(curves, 2, 0).action == "stop"


def test_a_rung_within_an_epoch_costs_that_part_of_it() -> None:
    falling = [within_first(number, 1 + number / 100, length=4) for number in range(12)]
    assert [PromoteHalving(part=0.5).is_settled(falling[:number], 0) for number in (11, 12)] == [False, True]


def test_ranks_within_the_first_epoch_that_say_nothing_are_skipped() -> None:
    scheduler = PromoteHalving(part=0.5)
    assert first_telling(scheduler, []) == 0
    misleading = [within_first(number, number, -number) for number in range(8)]
    assert first_telling(scheduler, misleading) == 1
