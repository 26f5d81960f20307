"""The best trial, and how it compares with the others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.made_studies import MADE_WITH, add_trial, make_study
from optuna.trial import TrialState

from tuner.errors import StudyError
from tuner.export.best_trial import find_best
from tuner.goal import minimize
from tuner.study.study import JoinedStudy


def test_the_winner_its_epoch_and_the_metrics_of_that_epoch(joined: JoinedStudy) -> None:
    add_trial(joined, [0.3])
    add_trial(joined, [0.5, 0.8, 0.6])
    found = find_best(joined.engine, "made")
    assert (found.trial.number, found.trial.value, found.epoch) == (1, 0.8, 2)
    assert found.metrics == {"train_loss": 0.5, "train_iou": 0.81, "val_loss": 0.6, "val_iou": 0.8}
    assert [row["epoch"] for row in found.history] == [1, 2, 3]


def test_it_beat_worse_and_pruned_trials_but_no_equals_and_no_failures(joined: JoinedStudy) -> None:
    for value in (0.8, 0.8, 0.2, 0.4):
        add_trial(joined, [value])
    add_trial(joined, [0.1], TrialState.PRUNED)
    add_trial(joined, [], TrialState.FAIL)
    found = find_best(joined.engine, None)
    assert (found.beaten, found.finished, found.failed) == (3, 6, 1)


def test_a_goal_to_minimise_is_won_by_the_least(tmp_path: Path) -> None:
    joined = make_study(tmp_path, goal=minimize("loss"))
    for value in (0.8, 0.2, 0.4):
        add_trial(joined, [value])
    found = find_best(joined.engine, None)
    assert (found.trial.number, found.beaten) == (1, 2)
    joined.engine.dispose()


def test_a_study_without_a_finished_trial_says_what_it_has(joined: JoinedStudy) -> None:
    with pytest.raises(StudyError, match=r"study 'made' has no finished trial yet \(trials: none at all\)"):
        find_best(joined.engine, None)
    add_trial(joined, [0.1], TrialState.PRUNED)
    add_trial(joined, [0.1], TrialState.RUNNING)
    with pytest.raises(StudyError, match=r"\(trials: 1 PRUNED, 1 RUNNING\)"):
        find_best(joined.engine, None)


def test_as_json_it_is_plain_and_complete(joined: JoinedStudy) -> None:
    add_trial(joined, [0.5, 0.8])
    plain = json.loads(json.dumps(find_best(joined.engine, None).to_json()))
    assert plain["goal"] == {"metric": "iou", "direction": "maximize"}
    assert (plain["study"], plain["trial"], plain["value"], plain["epoch"]) == ("made", 0, 0.8, 2)
    assert plain["params"] == joined.study.best_params
    assert plain["made_with"] == MADE_WITH
    assert plain["verdict"]["usable"] is True and plain["verdict"]["says"] == ""
