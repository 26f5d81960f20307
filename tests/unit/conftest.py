"""A short trial, and the curve it has when nothing interrupts it; a study without trials."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.local_training import Trial
from helpers.made_studies import make_study

from tuner.data.cache import CachedDataset
from tuner.recipe import Recipe
from tuner.registry import own_modules
from tuner.study.study import JoinedStudy


@pytest.fixture
def recipe(toy_recipe: Recipe) -> Recipe:
    """Batches of 4: five for training and three for validation an epoch."""
    return replace(toy_recipe, epochs=3, batch_size=4)


@pytest.fixture(scope="session")
def trained() -> list[Trial]:
    """The unbroken trial, once a test has trained it."""
    return []


@pytest.fixture
def unbroken(
    recipe: Recipe,
    toy_data: CachedDataset,
    trained: list[Trial],
    tmp_path_factory: pytest.TempPathFactory,
    tmp_path: Path,
) -> Trial:
    """A trial that nothing has interrupted: a copy of the one that is trained once for all tests."""
    if not trained:
        trained.append(Trial(recipe, toy_data, tmp_path_factory.mktemp("trained") / "unbroken"))
        assert trained[0].train().end == "finished"
    assert trained[0].recipe == recipe
    shutil.copytree(trained[0].run.folder, tmp_path / "unbroken")
    trial = Trial(recipe, toy_data, tmp_path / "unbroken")
    trial.reports = dict(trained[0].reports)
    return trial


@pytest.fixture
def joined(tmp_path: Path) -> Iterator[JoinedStudy]:
    """A study without trials in a new database."""
    made = make_study(tmp_path)
    yield made
    made.engine.dispose()


@pytest.fixture
def own_folder(tmp_path: Path) -> Iterator[Path]:
    """A folder in which modules of the user's own are found."""
    known = dict(own_modules.OWN_FOLDERS)
    folder = tmp_path / "own"
    folder.mkdir()
    own_modules.search_in({folder: "beside the space"})
    yield folder
    own_modules.search_in(known)
