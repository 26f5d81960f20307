"""Formatting of values, times and costs."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from tuner.errors import FailureKind
from tuner.goal import maximize
from tuner.study import format
from tuner.study.budget import Budget, BudgetUse
from tuner.study.decisions import StoredDecision
from tuner.study.failures import Failure
from tuner.study.info import StudyInfo
from tuner.study.stats import Cost, StudyStats
from tuner.study.time_left import TimeLeft
from tuner.study.trial_queries import TrialInfo


def tally(cost: Cost | None = None, budget: Budget | None = None, **values: object) -> StudyStats:
    plain = {"failures": (), "left": TimeLeft(None, "unknown"), "spent": BudgetUse(0, 0.0, 0.0)}
    plain |= {"paused": False, "device": "cpu, 2 threads"}
    return StudyStats(cost=cost or Cost(), budget=budget or Budget(), **{**plain, **values})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "-"),
        (0.5, "0.5000"),
        (-0.5, "-0.5000"),
        (123456.7, "1.235e+05"),
        (math.nan, "nan"),
        (math.inf, "inf"),
    ],
)
def test_values_keep_to_a_few_characters(value: float | None, said: str) -> None:
    assert format.format_value(value) == said


def test_a_paused_trial_is_told_with_where_it_rests() -> None:
    attrs = {"recipe": {"epochs": 60}, "result": {"best_value": 0.5, "best_epoch": 2, "epochs": 3}}
    trial, info = (
        TrialInfo(1, 0, "PRUNED", 0.4, {"k": 8}, attrs, 3),
        StudyInfo("s", "s", maximize("iou"), "shapes"),
    )
    assert format.format_outcome(trial, info) == "paused at 3 of 60, best iou 0.5000 at epoch 2; k=8"
    gone = replace(trial, paused_at=None)
    assert format.format_outcome(gone, info) == "pruned after epoch 3, best iou 0.5000 at epoch 2; k=8"


def test_a_trial_that_rests_within_its_first_epoch_is_told_with_the_part_of_it() -> None:
    result = {"best_value": None, "best_epoch": 0, "epochs": 0, "partial": [1 / 3, 0.41]}
    trial = TrialInfo(1, 0, "PRUNED", 0.41, {"k": 8}, {"recipe": {"epochs": 60}, "result": result}, 0)
    info = StudyInfo("s", "s", maximize("iou"), "shapes")
    assert format.format_outcome(trial, info) == "paused at 0.33 of 60, best iou 0.4100 at epoch 0.33; k=8"
    gone = replace(trial, paused_at=None)
    assert format.format_outcome(gone, info) == "pruned within epoch 1, best iou 0.4100 at epoch 0.33; k=8"
    reason = {"rung": 0, "value": 0.41, "rank": 2, "of": 3, "allowed": 1}
    decided = StoredDecision(0.0, "w", 4, "pause", 0, reason)
    assert format.format_decision(decided).startswith("pause    trial 4 within epoch 1: rank 2 of 3")


def test_a_decision_at_a_rung_of_seconds_is_told_with_the_rung_and_the_epoch() -> None:
    reason = {"rung": 90.0, "seconds": 143.0, "value": 0.41, "rank": 2, "of": 3, "allowed": 1}
    decided = StoredDecision(0.0, "w", 4, "pause", 2, reason)
    told = "pause    trial 4 after 1.5 min (epoch 2): rank 2 of 3, 1 may go on, value=0.41"
    assert format.format_decision(decided) == told
    hours = replace(decided, action="resume", reason={**reason, "rung": 3 * 3600, "seconds": None})
    assert format.format_decision(hours).startswith("resume   trial 4 after 3 h (epoch 2): rank 2 of 3")


def test_parameters() -> None:
    assert format.format_params({"lr": 0.00123, "k": 64, "loss": "bce"}) == "lr=0.00123 k=64 loss=bce"
    assert format.format_params(None) == ""


@pytest.mark.parametrize(
    ("left", "said"),
    [
        (TimeLeft(720, "trials"), "12 min"),
        (TimeLeft(720, "trials", 181.0), "12 min (± 3 min)"),
        (TimeLeft(720, "trials", 0.4), "12 min"),
        (TimeLeft(600, "epochs", 30.0), "10 min (± 30 s, of the epochs)"),
        (TimeLeft(7200, "GPU-hours"), "2 h (of the GPU-hours)"),
        (TimeLeft(0.0, "hours"), "the hours are spent"),
        (TimeLeft(None, "no limit"), "until stopped"),
        (TimeLeft(None, "paused"), "paused"),
        (TimeLeft(None, "unknown"), "unknown"),
        (TimeLeft(None, "no workers"), "unknown"),
        (TimeLeft(0.0, "done"), "done"),
    ],
)
def test_time_left(left: TimeLeft, said: str) -> None:
    assert format.format_time_left(left) == said


def test_what_was_spent_is_said_of_the_budget_where_there_is_one() -> None:
    cost = Cost(epochs=10, seconds=7200)
    assert format.format_spent(tally(cost)) == "worker time 2 h"
    assert format.format_spent(tally(Cost(seconds=90))) == "worker time 1.5 min"
    assert format.format_spent(tally(cost, device="NVIDIA H100")) == "GPU time 2 h"
    limited = tally(cost, Budget(gpu_hours=8.0), spent=BudgetUse(0, 0.0, 2.5), device="NVIDIA H100")
    assert format.format_spent(limited) == "GPU time 2.5 h of 8 h"


def test_what_pruning_saved() -> None:
    assert format.format_saved(Cost(epochs=75, saved=25)) == "pruning saved 25 epochs (25 %)"
    assert format.format_saved(Cost(epochs=75)) == ""


def test_failures_by_kind() -> None:
    failures = tuple(Failure(0, FailureKind.EXCEPTION, "", name) for name in ("odd", "even", "odd"))
    assert format.format_failures(tally(failures=failures)) == "2 odd, 1 even"
