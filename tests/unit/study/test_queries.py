"""Queries without Optuna read what Optuna wrote."""

from __future__ import annotations

import json
from pathlib import Path

import optuna
import pytest
import sqlalchemy as sa
from helpers.made_studies import add_trial, make_study
from optuna.trial import TrialState

from tuner.errors import StudyError
from tuner.goal import minimize
from tuner.study import budget, epoch_queries, queries, trial_queries
from tuner.study.study import JoinedStudy


def glance(joined: JoinedStudy) -> queries.StudySummary:
    return queries.read_summary(joined.engine, queries.find_study(joined.engine, None))


def test_a_database_without_tables_has_no_studies() -> None:
    assert queries.read_studies(sa.create_engine("sqlite://")) == []


def test_without_a_study_the_way_to_begin_is_told() -> None:
    with pytest.raises(StudyError, match=r"no study yet\. Start one with: tuner run"):
        queries.find_study(sa.create_engine("sqlite://"), None)


def test_a_study_is_as_it_was_created(joined: JoinedStudy) -> None:
    info = queries.find_study(joined.engine, "made")
    assert (info.id, info.space, info.data, info.seed, info.rehearsal) == (joined.id, "made", "shapes", 0, False)
    assert str(info.goal) == "maximize iou"


def test_an_unknown_study_is_told_the_near_one(joined: JoinedStudy) -> None:
    with pytest.raises(StudyError, match=r"no study 'maed'. Did you mean 'made'\? Known: made"):
        queries.find_study(joined.engine, "maed")


def test_studies_of_other_programs_are_left_out(joined: JoinedStudy) -> None:
    optuna.create_study(storage=joined.storage, study_name="foreign")
    assert [info.name for info in queries.read_studies(joined.engine)] == ["made"]


def test_the_study_worked_on_last_comes_first(joined: JoinedStudy, tmp_path: Path) -> None:
    other = make_study(tmp_path, "other")
    assert [info.name for info in queries.read_studies(joined.engine)] == ["other", "made"]
    add_trial(other, [0.1])
    add_trial(joined, [0.1])
    assert [info.name for info in queries.read_studies(joined.engine)] == ["made", "other"]
    other.engine.dispose()


def test_an_empty_study_has_nothing(joined: JoinedStudy) -> None:
    now = glance(joined)
    assert (now.best, now.num_finished, now.states, now.workers, now.num_put_back, now.num_trials) == (
        None, 0, {}, (), 0, None,
    )  # fmt: skip


def test_trials_are_counted_by_state(joined: JoinedStudy) -> None:
    for state in (
        TrialState.COMPLETE,
        TrialState.COMPLETE,
        TrialState.PRUNED,
        TrialState.FAIL,
        TrialState.RUNNING,
    ):
        add_trial(joined, [0.5], state)
    now = glance(joined)
    assert now.states == {"COMPLETE": 2, "PRUNED": 1, "FAIL": 1, "RUNNING": 1}
    assert now.num_finished == 4


def test_parameters_are_as_optuna_gives_them(joined: JoinedStudy) -> None:
    for _ in range(12):
        add_trial(joined, [0.5])
    with joined.engine.connect() as db:
        ids = [trial._trial_id for trial in joined.study.trials]
        mine = {trial.number: trial.params for trial in trial_queries.read_trials_by_id(db, ids)}
    theirs = {trial.number: trial.params for trial in joined.study.trials}
    assert mine == theirs
    kinds = {
        (type(mine[number][name]), type(value))
        for number, given in theirs.items()
        for name, value in given.items()
    }
    assert all(one is other for one, other in kinds)


def test_notes_and_values_are_read(joined: JoinedStudy) -> None:
    add_trial(joined, [0.2, 0.7, 0.5])
    best = glance(joined).best
    assert best is not None and (best.number, best.value, best.state) == (0, 0.7, "COMPLETE")
    assert best.attrs["result"] == {"best_value": 0.7, "best_epoch": 2}


@pytest.mark.parametrize(("direction", "number"), [("max", 1), ("min", 0)])
def test_the_best_is_optunas_best_and_the_earlier_of_two_equals(
    tmp_path: Path, direction: str, number: int
) -> None:
    joined = make_study(tmp_path, goal=None if direction == "max" else minimize("loss"))
    for value in (0.1, 0.9, 0.9, 0.1, 0.5):
        add_trial(joined, [value])
    add_trial(joined, [2.0 if direction == "max" else 0.0], TrialState.PRUNED)
    best = glance(joined).best
    assert best is not None and best.number == number
    assert best.value == joined.study.best_value
    joined.engine.dispose()


def test_a_trial_without_a_finite_value_is_never_the_best(joined: JoinedStudy) -> None:
    joined.study.add_trial(optuna.trial.create_trial(value=float("inf")))
    assert glance(joined).best is None
    add_trial(joined, [0.3])
    best = glance(joined).best
    assert best is not None and best.number == 1
    assert trial_queries.read_values(joined.engine, joined.id) == [0.3]


def test_history_is_every_epoch_in_order_as_flat_rows(joined: JoinedStudy) -> None:
    add_trial(joined, [0.2, 0.7])
    rows = epoch_queries.read_epochs(joined.engine, joined.study.trials[0]._trial_id)
    assert [row["epoch"] for row in rows] == [1, 2]
    assert [row["val_iou"] for row in rows] == [row["value"] for row in rows] == [0.2, 0.7]
    assert rows[0]["peak_memory"] == 2**33 and "trial_id" not in rows[0] and "metrics" not in rows[0]


def test_another_study_in_the_same_database_is_not_counted(joined: JoinedStudy, tmp_path: Path) -> None:
    other = make_study(tmp_path, "other")
    add_trial(other, [0.9])
    add_trial(joined, [0.1])
    best = glance(joined).best
    assert best is not None and best.value == 0.1 and glance(joined).states == {"COMPLETE": 1}
    assert trial_queries.read_values(joined.engine, joined.id) == [0.1]
    other.engine.dispose()


def test_the_budget_is_shown(joined: JoinedStudy) -> None:
    budget.set_budget(joined.engine, joined.id, num_trials=30)
    assert glance(joined).num_trials == 30


def test_a_choice_is_found_by_its_place() -> None:
    kind = json.loads(
        optuna.distributions.distribution_to_json(optuna.distributions.CategoricalDistribution(("a", None)))
    )
    assert [trial_queries.decode_param(at, kind) for at in (0.0, 1.0)] == ["a", None]
