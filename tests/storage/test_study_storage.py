"""The storage retries every method while the database is away, and reads finished trials once."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy as sa
from helpers.optuna_revisions import prepare_file
from optuna.distributions import FloatDistribution
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import TrialState, create_trial

from tuner.study.storage import StudyStorage, open_storage

X = FloatDistribution(0, 1)
ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "create_new_study": ([StudyDirection.MINIMIZE], "new"),
    "delete_study": (1,),
    "set_study_user_attr": (1, "key", 1),
    "set_study_system_attr": (1, "key", 1),
    "get_study_id_from_name": ("s",),
    "get_study_name_from_id": (1,),
    "get_study_directions": (1,),
    "get_study_user_attrs": (1,),
    "get_study_system_attrs": (1,),
    "get_all_studies": (),
    "create_new_trial": (1,),
    "get_trial_id_from_study_id_trial_number": (1, 0),
    "get_trial": (2,),
    "get_all_trials": (1,),
    "get_best_trial": (1,),
    "get_n_trials": (1,),
    "set_trial_param": (2, "x", 0.5, X),
    "set_trial_state_values": (2, TrialState.COMPLETE, [0.5]),
    "set_trial_intermediate_value": (2, 1, 0.5),
    "set_trial_user_attr": (2, "key", 1),
    "set_trial_system_attr": (2, "key", 1),
    "get_trial_number_from_id": (2,),
    "get_trial_params": (2,),
    "get_trial_user_attrs": (2,),
    "get_trial_system_attrs": (2,),
}
LOCAL = {"remove_session", "check_trial_is_updatable", "get_trial_param"}  # without queries, or by get_trial


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[StudyStorage]:
    """A study with a finished and a running trial, read by nobody yet."""
    prepare_file(tmp_path / "tuner.db")
    url = f"sqlite:///{tmp_path / 'tuner.db'}"
    made, engine = open_storage(url)
    study = optuna.create_study(storage=made, study_name="s")
    study.add_trial(create_trial(value=0.25, params={"x": 0.5}, distributions={"x": X}))
    study.ask()
    engine.dispose()
    fresh, engine = open_storage(url)
    yield fresh
    fresh.rdb.remove_session()
    engine.dispose()


def test_every_public_method_is_tried_here() -> None:
    public = {name for name, _ in inspect.getmembers(BaseStorage, inspect.isfunction) if not name.startswith("_")}
    assert public == ARGUMENTS.keys() | LOCAL, (
        f"Optuna {optuna.__version__}: the methods of a storage have changed"
    )


@pytest.mark.parametrize("method", ARGUMENTS)
def test_a_method_is_tried_again_when_the_database_is_away(storage: StudyStorage, method: str) -> None:
    failures = 0

    def fail_once(*args: Any) -> None:
        nonlocal failures
        failures += 1
        if failures == 1:
            raise sa.exc.OperationalError("SELECT", {}, Exception("the server restarts"))

    sa.event.listen(storage.rdb.engine, "before_cursor_execute", fail_once)
    getattr(storage, method)(*ARGUMENTS[method])
    assert failures > 1


def test_finished_trials_are_read_once_and_deleted_open_ones_vanish(storage: StudyStorage) -> None:
    first = storage.get_all_trials(1, deepcopy=False)
    again = storage.get_all_trials(1, deepcopy=False)
    assert first[0] is again[0] and first[1] is not again[1]
    assert storage.get_trial(1) is first[0]
    with storage.rdb.engine.begin() as db:
        db.execute(sa.text("DELETE FROM trials WHERE trial_id = 2"))
    assert [trial.number for trial in storage.get_all_trials(1)] == [0]
    with pytest.raises(KeyError):
        storage.get_trial(2)


def test_a_trial_that_ends_later_than_newer_ones_is_noticed(storage: StudyStorage) -> None:
    storage.get_all_trials(1)
    newer = storage.create_new_trial(1, create_trial(value=0.125))
    assert [trial.state.name for trial in storage.get_all_trials(1)] == ["COMPLETE", "RUNNING", "COMPLETE"]
    storage.set_trial_state_values(2, TrialState.COMPLETE, [0.5])
    assert [trial.value for trial in storage.get_all_trials(1)] == [0.25, 0.5, 0.125]
    assert storage.get_best_trial(1).value == storage.get_trial(newer).value
