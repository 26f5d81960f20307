"""Trials read in two statements are those that Optuna reads in seven."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import optuna
import pytest
import sqlalchemy as sa
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import RDBStorage
from optuna.trial import TrialState, create_trial
from sqlalchemy.engine import Engine

from tuner.study import trial_reader
from tuner.study.storage import open_storage
from tuner.study.trial_reader import read_trials

KINDS = {
    "lr": FloatDistribution(1e-5, 1e-1, log=True),
    "k": IntDistribution(4, 64, step=4),
    "loss": CategoricalDistribution(["bce", None, True, 3]),
    "a": FloatDistribution(0, 1),
}
Study = tuple[optuna.Study, Engine]


@pytest.fixture
def study(prepared_url: str) -> Iterator[Study]:
    """Another study first, so that ids and numbers differ; then trials in every state."""
    storage, engine = open_storage(prepared_url)
    optuna.create_study(storage=storage, study_name="other").add_trials([ended(0.1), ended(0.2)])
    made = optuna.create_study(storage=storage, study_name="s", direction="maximize")
    made.add_trials([ended(0.5), ended(math.inf), ended(-math.inf), pruned(), create_trial(state=TrialState.FAIL)])
    running = made.ask()
    running.suggest_int("k", 4, 64, step=4)
    running.report(0.3, 1)
    made.add_trial(create_trial(state=TrialState.WAITING, user_attrs={"row": "x"}))
    yield made, engine
    storage.rdb.remove_session()
    engine.dispose()


def ended(value: float) -> optuna.trial.FrozenTrial:
    params = {"lr": 1e-3, "k": 8, "loss": None, "a": 0.25}
    notes: dict[str, Any] = {"recipe": {"model": "unet", "list": [1, None, "ü"]}, "flag": False}
    return create_trial(value=value, params=params, distributions=KINDS, user_attrs=notes)


def pruned() -> optuna.trial.FrozenTrial:
    steps = {3: math.nan, 1: 0.5, 2: math.inf, 4: -math.inf}
    rungs = {"completed_rung_0": 0.5}
    return create_trial(state=TrialState.PRUNED, intermediate_values=steps, system_attrs=rungs)


def as_optuna(study: optuna.Study, *asked: Any) -> list[Any]:
    storage: Any = study._storage
    return RDBStorage._get_trials(storage.rdb, study._study_id, None, *asked)


def plain(trials: list[Any]) -> list[str]:
    """Everything of a trial; NaN is unequal to itself, in text it is not."""
    return [repr(sorted(vars(trial).items())) for trial in map(sorted_steps, trials)]


def sorted_steps(trial: Any) -> Any:
    trial.intermediate_values = dict(sorted(trial.intermediate_values.items()))
    for name in ("user_attrs", "system_attrs"):
        setattr(trial, name, dict(sorted(getattr(trial, name).items())))
    return trial


def test_every_kind_of_trial_is_read_as_optuna_reads_it(study: Study) -> None:
    expected = plain(as_optuna(study[0], set(), -1))
    assert len(expected) == 7
    assert plain(read_trials(study[1], study[0]._study_id)) == expected


def test_only_what_was_not_finished_or_is_new_is_read_again(study: Study) -> None:
    ids = [trial._trial_id for trial in study[0].trials]
    some = {ids[1], ids[5]}
    expected = plain(as_optuna(study[0], some, ids[3]))
    assert len(expected) == 4
    assert plain(read_trials(study[1], study[0]._study_id, some, ids[3])) == expected
    assert read_trials(study[1], study[0]._study_id, [], ids[-1]) == []


def test_more_trials_than_are_named_one_by_one_are_read_as_well(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial_reader, "MAX_IDS", 3)
    expected = plain(as_optuna(study[0], set(), -1))
    assert plain(read_trials(study[1], study[0]._study_id)) == expected


def test_a_study_that_is_gone_is_told(study: Study) -> None:
    with pytest.raises(KeyError):
        read_trials(study[1], 999)


def test_the_storage_reads_so_and_in_two_statements(study: Study) -> None:
    made, engine = study
    said: list[str] = []
    sa.event.listen(engine, "before_cursor_execute", lambda *told: said.append(told[2]))
    found = made.get_trials(deepcopy=False)
    assert len(said) == 2
    assert plain(found) == plain(as_optuna(made, set(), -1))
