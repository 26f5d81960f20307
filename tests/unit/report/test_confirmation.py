"""What a confirmation says of planted runs: the winner, its leads, the luck of the search, and its interval."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from helpers.planted_studies import DETAILS, confirm

from tuner.goal import minimize
from tuner.report.confirmation import Confirmation, assess_confirmation, describe_confirmation
from tuner.study.confirmations import LookAtTest

LOOK = LookAtTest(2, {"iou": 0.75}, "2026-01-02T03:04:05+00:00")


def confirmed(*args: Any, **more: Any) -> Confirmation:
    """The outcome of planted runs."""
    planted = confirm(*args, **more)
    found = assess_confirmation(
        planted.study,
        lambda trial: json.loads(planted.files.get(trial.number, {}).get(DETAILS, b"{}")),
        planted.looks,
    )
    assert found is not None
    return found


def told(found: Confirmation) -> str:
    return " ".join(describe_confirmation(found))


def test_the_winner_is_the_best_mean_of_those_with_all_seeds() -> None:
    runs = {"trial 3": [0.80, 0.82, 0.81], "trial 7": [0.95], "default": [0.70, 0.71, 0.72]}
    found = confirmed(runs, {"trial 3": 0.85, "trial 7": 0.84})
    assert found.winner.name == "trial 3" and found.best_run == 1 and found.seeds == 3
    assert found.luck == pytest.approx(0.04)
    words = told(found)
    assert "Confirmed: trial 3, iou 0.8100 ± 0.0100 (3 seeds)" in words
    assert "The search saw 0.8500 for it: 0.0400 of that was the luck of being chosen." in words


def test_of_errors_the_least_mean_wins_and_luck_has_the_same_sign() -> None:
    found = confirmed({"trial 1": [0.30, 0.32], "trial 2": [0.40, 0.41]}, {"trial 1": 0.25}, goal=minimize("loss"))
    assert found.winner.name == "trial 1" and found.best_run == 0 and found.luck == pytest.approx(0.06)
    (lead,) = found.leads
    assert lead.by == pytest.approx(0.095) and lead.is_apart and str(lead).startswith("better by 0.0950")


def test_a_search_value_below_the_fresh_runs_was_no_luck() -> None:
    words = told(confirmed({"trial 1": [0.80, 0.82]}, {"trial 1": 0.79}))
    assert "The search saw 0.7900 for it, no better than the fresh runs." in words and "luck" not in words


def test_a_default_that_wins_has_no_value_of_the_search() -> None:
    found = confirmed({"default": [0.80, 0.82], "trial 1": [0.70, 0.71]}, {"trial 1": 0.9})
    assert found.winner.name == "default" and found.luck is None
    assert "The search" not in told(found) and "the default" not in told(found)


def test_candidates_within_the_noise_are_not_told_apart() -> None:
    found = confirmed({"trial 1": [0.80, 0.70, 0.75], "default": [0.79, 0.69, 0.74]}, {})
    assert "Against the default it is not told apart (iou +0.0100" in told(found)
    far = confirmed({"trial 1": [0.80, 0.81, 0.82], "default": [0.60, 0.61, 0.62]}, {})
    assert "Against the default it is better by 0.2000" in told(far)


def test_one_seed_confirms_nothing() -> None:
    found = confirmed({"trial 1": [0.8], "default": [0.7]}, {"trial 1": 0.9})
    assert not found.is_confirmed and told(found).startswith("Only 1 seed is trained")
    assert "Confirmed" not in told(found)


def test_each_further_look_at_the_test_split_is_told() -> None:
    runs = {"trial 1": [0.80, 0.82]}
    assert "test split" not in told(confirmed(runs, {}))
    assert "has iou 0.7500; it was looked at once, on 2026-01-02." in told(confirmed(runs, {}, looks=[LOOK]))
    assert "this was look 2 at it, so it is no longer untouched." in told(confirmed(runs, {}, looks=[LOOK, LOOK]))


def test_few_groups_of_images_give_no_interval() -> None:
    few = {"trial 1": [[0.8, 0.7, 0.9]] * 2}
    found = confirmed({"trial 1": [0.8, 0.8]}, {}, few)
    assert found.interval is None and "too few to say what others would give" in told(found)


def draw_run(rng: np.random.Generator, images: Any) -> Any:
    """The scores of one run on images that are easy or hard."""
    return np.clip(0.7 + rng.normal(0, 0.02) + images + rng.normal(0, 0.02, len(images)), 0, 1)


def test_the_interval_holds_the_score_of_a_run_on_other_images() -> None:
    rng, held, drawn = np.random.default_rng(11), 0, 0
    for _ in range(300):
        images = rng.normal(0, 0.1, 40)
        ours = [draw_run(rng, images) for _ in range(3)]
        found = confirmed({"trial 1": [float(one.mean()) for one in ours]}, {}, {"trial 1": ours})
        if found.interval is None:  # the scores happen to depend on their order
            continue
        drawn += 1
        other = float(draw_run(rng, rng.normal(0, 0.1, 40)).mean())
        held += found.interval[0] <= other <= found.interval[1]
    assert drawn > 280 and 0.86 <= held / drawn <= 0.98


def test_equal_candidates_are_called_apart_in_about_one_case_of_ten() -> None:
    rng, apart, drawn = np.random.default_rng(12), 0, 0
    for _ in range(300):
        images = rng.normal(0.7, 0.1, 40)
        scores = {
            name: [images + rng.normal(0, 0.02) + rng.normal(0, 0.05, 40) for _ in range(3)]
            for name in ("trial 1", "default")
        }
        runs = {name: [float(one.mean()) for one in some] for name, some in scores.items()}
        leads = confirmed(runs, {}, scores).leads  # none if the scores happen to depend on their order
        drawn, apart = drawn + len(leads), apart + sum(lead.is_apart for lead in leads)
    assert drawn > 280 and apart / drawn <= 0.15
