"""The provider: a dataset is read once, its classes are known, its test split is apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tuner.data.provider import DataProvider
from tuner.errors import DataError
from tuner.recipe import Part, Recipe, use


def recipe(data: Path, task: str = "multiclass", size: int = 8) -> Recipe:
    return Recipe(task, Part(str(data), {"image_size": size}), use("unet"), use("bce"), use("adam"), epochs=1)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Label maps of three classes, of which the training split shows two."""
    for split, highest in (("train", 1), ("val", 1), ("test", 2)):
        for part in ("images", "labels"):
            (tmp_path / "data" / split / part).mkdir(parents=True)
            for at in range(2):
                row = np.arange(64, dtype=np.uint8).reshape(8, 8) % (highest + 1)
                Image.fromarray(row * np.uint8(9 if part == "images" else 1)).save(
                    tmp_path / "data" / split / part / f"{split}{at}.png"
                )
    return tmp_path / "data"


def test_classes_found_by_the_survey_are_those_of_the_cache(data: Path, tmp_path: Path) -> None:
    said: list[str] = []
    provider = DataProvider(tmp_path / "cache", 1, lambda line: said.append(line) or (lambda done, of: None))
    first = provider.get_data(recipe(data))
    assert first.classes == ("0", "1", "2") and len(first.images) == 4
    assert provider.get_data(recipe(data)) is first
    assert provider.get_data(recipe(data, size=4)).images.shape[1] == 4
    assert said == ["reading", "caching 8 px", "caching 4 px"]


def test_the_test_split_is_an_entry_of_its_own_with_the_same_classes(data: Path, tmp_path: Path) -> None:
    provider = DataProvider(tmp_path / "cache", 1, lambda line: lambda done, of: None)
    test = provider.get_test_data(recipe(data))
    assert test is not None and test.keys == ("test0", "test1") and len(test.val) == 2 and len(test.train) == 0
    search = provider.get_data(recipe(data))
    assert search.classes == test.classes and search.fingerprint != test.fingerprint
    (notes,) = (tmp_path / "cache").glob("survey-*.json")
    assert notes.read_text().count("digest") == 6  # all splits are remembered after any first request


def test_a_dataset_without_a_test_split_has_none(photos: Path, tmp_path: Path) -> None:
    provider = DataProvider(tmp_path / "cache", 1, lambda line: lambda done, of: None)
    assert provider.get_test_data(recipe(photos, "binary")) is None


def test_data_of_another_task_is_refused(data: Path, tmp_path: Path) -> None:
    provider = DataProvider(tmp_path / "cache", 1, lambda line: lambda done, of: None)
    with pytest.raises(DataError, match="holds labels; the task 'binary' needs masks"):
        provider.get_data(recipe(data, "binary"))
