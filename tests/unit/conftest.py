"""A short trial, and the curve it has when nothing interrupts it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.local_training import Trial

from tuner.data.cache import CachedDataset
from tuner.recipe import Recipe
from tuner.registry import own_modules


@pytest.fixture
def recipe(toy_recipe: Recipe) -> Recipe:
    """Batches of 4: five for training and three for validation an epoch."""
    return replace(toy_recipe, epochs=3, batch_size=4)


@pytest.fixture
def unbroken(recipe: Recipe, toy_data: CachedDataset, tmp_path: Path) -> Trial:
    trial = Trial(recipe, toy_data, tmp_path / "unbroken")
    assert trial.train().end == "finished"
    return trial


@pytest.fixture
def own_folder(tmp_path: Path) -> Iterator[Path]:
    """A folder in which modules of the user's own are found."""
    known = dict(own_modules.OWN_FOLDERS)
    folder = tmp_path / "own"
    folder.mkdir()
    own_modules.search_in({folder: "beside the space"})
    yield folder
    own_modules.search_in(known)
