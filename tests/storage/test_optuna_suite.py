"""Optuna's own published tests of storages, run against ours on SQLite, and in `make test-all` on PostgreSQL.

Not on MariaDB: its DATETIME columns, as Optuna makes them, hold whole seconds; four tests compare microseconds.
"""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator
from functools import wraps
from typing import Any

import pytest
from optuna.testing.pytest_storages import StorageTestCase

from tuner.study.storage import StudyStorage, open_storage


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def opened(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StudyStorage]:
    """A storage for all tests of this module: making the tables takes longer than most of them."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path_factory.mktemp('suite') / 'tuner.db'}"
    else:
        url = request.getfixturevalue("postgres").fresh()
    storage, engine = open_storage(url)
    yield storage
    engine.dispose()


def in_test_all(test: Any) -> Any:
    """Return a test of Optuna's that takes as long as ten others, for `make test-all`."""

    @pytest.mark.slow
    @wraps(test)
    def costly(*args: Any, **kwargs: Any) -> None:
        test(*args, **kwargs)

    return costly


class TestStorage(StorageTestCase):
    test_get_all_studies = in_test_all(StorageTestCase.test_get_all_studies)
    test_get_all_trials_not_modified = in_test_all(StorageTestCase.test_get_all_trials_not_modified)
    test_get_trial = in_test_all(StorageTestCase.test_get_trial)

    @pytest.fixture
    def storage(self, opened: StudyStorage, request: pytest.FixtureRequest) -> Iterator[StudyStorage]:
        """An empty storage."""
        for study in opened.get_all_studies():
            opened.delete_study(opened.get_study_id_from_name(study.study_name))
        yield opened
        if "pickle" in request.node.name:  # the test leaves a restored storage with open connections behind
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ResourceWarning)
                gc.collect()
