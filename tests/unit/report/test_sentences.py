"""Sentences of the report where they are true, and planted studies in which they would be false."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tuner.goal import maximize
from tuner.report.advice import describe_no_advice
from tuner.report.certainty import Certainty, Rival, assess_certainty, describe_certainty, describe_rivals
from tuner.report.figures import plot_best_curves
from tuner.report.importance import describe_importance, param_importances
from tuner.report.sections import describe_luck
from tuner.report.study_data import StudyData, TrialData
from tuner.study.info import StudyInfo, StudyKind

LR = {"lr": {"kind": "float", "log": True, "low": 1e-5, "high": 1e-1}}
CHOICE = {"loss": {"kind": "categorical", "choices": ["bce", "dice"]}}


def plant(*values: tuple[float, dict[str, Any]], kinds: dict[str, Any] = LR, **info: Any) -> StudyData:
    trials = tuple(
        TrialData(at, "COMPLETE", value, params, {}, epochs=({"epoch": 1, "val_iou": value},))
        for at, (value, params) in enumerate(values)
    )
    return StudyData(StudyInfo("s", "s", maximize("iou"), "shapes", **info), None, trials, kinds)


def assess(study: StudyData) -> Certainty:
    found = assess_certainty(study, {})
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("params", "kinds", "info", "is_range"),
    [
        ({"lr": 1e-3}, LR, {}, True),
        ({}, {}, {}, False),
        ({"loss": "bce"}, CHOICE, {}, False),
        ({"lr": 1e-3}, LR, {"kind": StudyKind.TABLE, "subject": "t"}, False),
    ],
)
def test_a_best_inside_its_space_is_spoken_of_where_ranges_were_searched(
    params: dict[str, Any], kinds: dict[str, Any], info: dict[str, Any], is_range: bool
) -> None:
    says = describe_no_advice(plant((0.5, params), kinds=kinds, **info))
    assert says.startswith("Nothing stands out") and ("lies well inside" in says) == is_range


def test_curves_of_one_trial_are_those_of_the_best() -> None:
    rows = [(0.5, {"lr": 1e-3}), (0.4, {"lr": 1e-2})]
    assert plot_best_curves(plant(*rows[:1])).says.endswith("of the best trial.")
    assert plot_best_curves(plant(*rows)).says.endswith("of the 2 best trials.")


def test_trials_without_parameters_are_not_said_to_have_some_that_do_not_vary() -> None:
    bare = param_importances(plant(*[(0.5, {})] * 6, kinds={}))
    assert describe_importance(bare) == "The trials have no parameters."
    same = describe_importance(param_importances(plant(*[(0.5, {"lr": 1e-3})] * 6)))
    assert same == "No parameter that all 6 finished trials have was varied among them."


def test_each_rival_is_told_by_what_it_was_judged_by() -> None:
    found = Certainty(0, 0.5, measured="dice", rivals=(Rival(1, 0.6, True), Rival(2, 0.7, False)), tied=(1, 2))
    assert describe_rivals(found) == [
        "By the dice of the validation images, trial 0 cannot be told apart from trial 1.",
        "By the noise between runs, trial 0 cannot be told apart from trial 2.",
    ]
    ahead = replace(found, tied=(), rivals=(Rival(1, 0.97, True), Rival(2, 0.98, False), Rival(4, 0.99, False)))
    assert describe_rivals(ahead) == [
        "It stays ahead of trial 1 in 97% of the draws of validation images, by their dice.",
        "It leads each of trials 2 and 4 by more than the noise between runs.",
    ]


@pytest.mark.parametrize("runs", [2, 3])
def test_noise_of_two_runs_is_called_that_of_two_runs(runs: int) -> None:
    repeats = [(0.5 + at / 1000, {"lr": 1e-2}) for at in range(runs)]
    (says,) = describe_rivals(assess(plant((0.9, {"lr": 1e-3}), *repeats)))
    assert ("as far as 2 runs show it" in says) == (runs == 2)


def test_groups_of_runs_are_compared_only_with_others() -> None:
    a, b = {"lr": 1e-3}, {"lr": 1e-2}
    one = " ".join(describe_certainty(assess(plant((0.5, a), (0.6, a)))))
    assert "Trials 0 and 1 have the same parameters: iou 0.5500" in one and "on average:" not in one
    near = " ".join(describe_certainty(assess(plant((0.5, a), (0.6, a), (0.5, b), (0.58, b)))))
    far = " ".join(describe_certainty(assess(plant((0.5, a), (0.6, a), (0.1, b), (0.12, b)))))
    assert "are best on average" in near and "are best on average" in far
    assert "Trials 2 and 3 overlap with them." in near and "overlap" not in far


def test_runs_are_called_the_same_only_if_those_of_all_parameters_are() -> None:
    a, b = {"lr": 1e-3}, {"lr": 1e-2}
    same = describe_luck(assess(plant((0.5, a), (0.5, a), (0.25, b), (0.25, b))))
    assert same == "Runs of the same parameters gave the same iou each time."
    poorer = describe_luck(assess(plant((0.5, a), (0.5, a), (0.25, b), (0.125, b))))
    assert poorer.endswith("better repeated parameters gave the same iou each time; trials 2 and 3 did not.")


def test_the_value_on_test_images_is_told_where_there_are_some() -> None:
    found = assess(plant((0.5, {"lr": 1e-3})))
    assert "test images" not in " ".join(describe_certainty(found))
    says = describe_certainty(replace(found, test=0.4))[-1]
    assert says == "On the test images, which no choice was made by, it has iou 0.4000."
