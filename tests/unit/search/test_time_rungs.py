"""Rungs by seconds: curves at equal times of training, and decisions that are told in epochs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from tuner.goal import maximize
from tuner.search.curves import fill_gaps, make_curve
from tuner.search.early_sampler import read_early
from tuner.search.pruning import judge_epoch
from tuner.search.scheduler import (
    BySeconds,
    Curve,
    PromoteHalving,
    StopHalving,
    key_curve_by_time,
    order_paused,
)
from tuner.search.scheduling import make_scheduler
from tuner.space.search_settings import SearchSettings
from tuner.study.decisions import Decision
from tuner.study.info import StudyInfo
from tuner.study.pending import SECONDS, ActiveTrial
from tuner.study.trial_reader import make_trial

STOP, PROMOTE = StopHalving(60_000, 3), PromoteHalving(60_000, 3, patience=0)


def timed(number: int, each: float, *values: float, state: Any = "paused", length: int = 50) -> Curve:
    """Return the curve of a trial whose epochs take so many seconds each."""
    seconds = {epoch: each * epoch for epoch in range(1, len(values) + 1)}
    return Curve(number, dict(enumerate(values, start=1)), length, state, seconds)


def test_a_rung_has_the_value_of_the_first_epoch_that_ends_there_or_later() -> None:
    assert key_curve_by_time(timed(0, 30, 0.1, 0.2, 0.3), STOP).values == {60_000: 0.2}
    assert key_curve_by_time(timed(0, 40, 0.1, 0.2, 0.3, 0.4, 0.5), STOP).values == {60_000: 0.2, 180_000: 0.5}
    slow = key_curve_by_time(timed(0, 200, 0.1, length=4), STOP)  # one epoch passes two rungs
    assert (slow.values, slow.length) == ({60_000: 0.1, 180_000: 0.1}, 800_001)
    assert key_curve_by_time(timed(0, 30, 0.1), STOP).values == {}
    assert key_curve_by_time(Curve(0, {}, 50, "running"), STOP).length == 0


def test_a_rung_that_is_reached_with_the_last_epoch_is_none() -> None:
    whole = key_curve_by_time(timed(0, 30, 0.1, 0.2, 0.3, length=3), STOP)
    assert whole.values == {60_000: 0.2, 90_001: 0.3}
    assert key_curve_by_time(timed(0, 30, 0.1, 0.2, length=2), STOP).values == {60_001: 0.2}


def test_an_epoch_without_validation_counts_as_the_next_one_with_it() -> None:
    seconds = {1: 70.0, 2: 140.0}
    assert key_curve_by_time(Curve(0, fill_gaps({2: 0.5}), 50, "paused", seconds), STOP).values == {60_000: 0.5}


def test_trials_are_compared_at_equal_times_and_decisions_are_told_in_epochs() -> None:
    scheduler = BySeconds(STOP)
    fast, slow = timed(0, 10, *(0.1 * epoch for epoch in range(1, 7))), timed(1, 70, 0.5, state="running")
    decision = scheduler.judge([fast, slow], 1, 60_000)
    assert (decision.action, decision.number, decision.epoch) == ("stop", 1, 1)
    assert decision.reason | {"value": 0} == {
        "rung": 60, "seconds": 70, "value": 0, "rank": 2, "of": 2, "allowed": 1,
    }  # fmt: skip
    better = timed(1, 70, 0.7, state="running")
    assert scheduler.judge([fast, better], 1, 60_000).action == "continue"


def test_the_best_of_a_rung_is_resumed_at_its_epoch() -> None:
    curves = [timed(0, 10, *[0.2] * 6), timed(1, 30, 0.3, 0.4), timed(2, 60, 0.1)]
    chosen = BySeconds(PROMOTE).choose(curves, can_start=True)
    assert chosen is not None and (chosen.action, chosen.number, chosen.epoch) == ("resume", 1, 2)
    assert (chosen.reason["rung"], chosen.reason["seconds"]) == (60, 60)
    started = BySeconds(PROMOTE).choose(curves[:2], can_start=True)
    assert started is not None and (started.action, started.number) == ("start", None)
    assert order_paused(BySeconds(PROMOTE), curves) == [2, 0, 1]


def test_the_first_rung_costs_time() -> None:
    """A whole trial takes 400 s: more than ten times 60 s are one and a half of them."""
    falling = [timed(number, 10, *[1 + number / 100] * 6, length=40) for number in range(11)]
    keyed = [key_curve_by_time(curve, PROMOTE) for curve in falling]
    strict = PromoteHalving(60_000, 3, patience=15)
    assert [strict.is_settled(keyed[:number], 60_000) for number in (9, 10, 11)] == [False, False, True]


class Curves:
    """The curve of one running trial."""

    def __init__(self, active: ActiveTrial) -> None:
        self.active = active

    def read_at(self, number: int, epoch: int) -> list[Curve]:
        return [make_curve(self.active.frozen, 1.0)]


def test_a_trial_is_judged_at_each_rung_that_an_epoch_passes() -> None:
    active = ActiveTrial(make_trial(7, 0, "RUNNING", None), 1, 0, "")
    for epoch, seconds in enumerate((50, 150, 10), start=1):
        active.count_seconds(epoch, seconds)
        active.set_intermediate_value(epoch, 0.5)
        active.unjudged.append(epoch)
        judge_epoch(BySeconds(STOP), Curves(active), active)  # type: ignore[arg-type]
    judged = [(key, each.epoch, each.action) for key, each in active.pending.judgements.items()]
    assert judged == [(60, 2, "continue"), (180, 2, "continue")] and active.judged == 2


def test_an_epoch_that_is_trained_again_counts_as_it_did() -> None:
    active = ActiveTrial(make_trial(7, 0, "RUNNING", None), 1, 0, "")
    for epoch, seconds in ((1, 10), (2, 20), (2, 99), (3, 30)):
        active.count_seconds(epoch, seconds)
    assert make_curve(active.frozen, 1.0).seconds == {1: 10, 2: 30, 3: 60}
    assert active.pending.system_attrs[f"{SECONDS}3"] == "60.0"


def test_a_study_is_made_to_judge_by_seconds() -> None:
    def info(**settings: Any) -> StudyInfo:
        return StudyInfo("s", "s", maximize("iou"), "shapes", search=SearchSettings(**settings))

    assert make_scheduler(info(pruning="stop", first_rung="1m", factor=2)) == BySeconds(StopHalving(60_000, 2))
    assert make_scheduler(info(pruning="promote", first_rung="0.5s")) == BySeconds(PromoteHalving(500))
    assert info(pruning="stop", first_rung="1m").counts_seconds and not info(pruning="stop").counts_seconds
    assert info(sampler="early", pruning="none", first_rung="1m").counts_seconds
    assert not info(sampler="tpe", pruning="none", first_rung="1m").counts_seconds


def test_the_sampler_early_reads_values_at_equal_times() -> None:
    curves = [timed(0, 10, *[0.2] * 6), timed(1, 30, 0.3, 0.4), timed(2, 5, 0.1, 0.9, length=2), timed(3, 20, 0.1)]
    assert read_early(curves, BySeconds(PROMOTE)) == {0: 0.2, 1: 0.4, 2: 0.9}


class ByHundreds(PromoteHalving):
    """A scheduler whose rungs are hundreds of epochs."""

    def rungs_between(self, length: int, before: int, epoch: int, seconds: Any) -> list[int]:
        return [rung for rung in self.rungs(length) if before < 100 * rung <= epoch]

    def view(self, curves: Sequence[Curve]) -> list[Curve]:
        return [
            replace(
                curve, values={epoch // 100: value for epoch, value in curve.values.items() if not epoch % 100}
            )
            for curve in curves
        ]

    def judge(self, curves: Sequence[Curve], number: int, rung: int) -> Decision:
        return super().judge(self.view(curves), number, rung)


def test_any_scheduler_may_have_rungs_of_its_own() -> None:
    """Nothing asks which one it is: what is dropped, learned from and judged follows its rungs."""
    scheduler = ByHundreds()
    curves = [Curve(0, {100: 0.2, 199: 0.0}, 500, "paused"), Curve(1, {100: 0.1, 200: 0.9}, 500, "paused")]
    assert (order_paused(scheduler, curves), read_early(curves, scheduler)) == ([1, 0], {0: 0.2, 1: 0.1})
    active = ActiveTrial(make_trial(7, 0, "RUNNING", None), 1, 0, "")
    active.frozen.user_attrs["recipe"] = {"epochs": 500}
    for epoch in (99, 200):
        active.set_intermediate_value(epoch, 0.5)
        active.unjudged.append(epoch)
        judge_epoch(scheduler, Curves(active), active)  # type: ignore[arg-type]
    assert active.verdict == "pause" and active.judgement is not None and active.judgement.reason["rung"] == 1
