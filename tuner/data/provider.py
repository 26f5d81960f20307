"""The datasets that a worker has open, each surveyed and decoded once for all of its trials."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tuner.console import ProgressCallback
from tuner.data.cache import CachedDataset, load_cached
from tuner.data.datasets import open_data
from tuner.data.layouts import READ_AS
from tuner.data.source import Source
from tuner.data.survey import Survey, fingerprint, survey
from tuner.errors import DataError
from tuner.recipe import Recipe
from tuner.tasks import find_task


def open_source(recipe: Recipe) -> Source:
    """Open the source of a recipe; DataError if it does not hold the targets of the recipe's task."""
    source, wanted = open_data(recipe.data), find_task(recipe.task).targets
    if source.targets != wanted:
        how = "".join(f" It is {remark}." for remark in source.remarks if remark.startswith(READ_AS))
        raise DataError(f"{source.where} holds {source.targets}; the task '{recipe.task}' needs {wanted}.{how}")
    return source


class DataProvider:
    """Surveyed sources and cached arrays by dataset.

    `progress` returns, for a description, a function that takes the progress.
    """

    def __init__(self, folder: Path, most_gb: float, progress: Callable[[str], ProgressCallback]) -> None:
        self.folder, self.most_gb, self.progress = folder, most_gb, progress
        self.sources: dict[str, tuple[Source, Survey]] = {}
        self.caches: dict[tuple[str, int], CachedDataset] = {}

    def get_data(self, recipe: Recipe) -> CachedDataset:
        """Return the decoded data of a recipe, at its image size."""
        self.get_source(recipe)
        return self.get_cached(dataset_key(recipe), recipe.image_size)

    def get_test_data(self, recipe: Recipe) -> CachedDataset | None:
        """Return the test split as a validation split, or None without one. Searches never use it."""
        name = f"test of {dataset_key(recipe)}"
        if name not in self.sources:
            source, found = self.get_source(recipe)
            items = tuple(replace(item, split="val") for item in source.split("test"))
            if not items:
                return None
            held = replace(source, items=items)
            self.sources[name] = held, replace(found, fingerprint=fingerprint(held, found.findings))
        return self.get_cached(name, recipe.image_size)

    def get_source(self, recipe: Recipe) -> tuple[Source, Survey]:
        """Return the surveyed source, with the class names that the survey found."""
        name = dataset_key(recipe)
        if name not in self.sources:
            source = open_source(recipe)
            found = survey(source, self.folder, self.progress("reading"))
            self.sources[name] = replace(source, classes=found.classes), found
        return self.sources[name]

    def get_cached(self, name: str, size: int) -> CachedDataset:
        source, found = self.sources[name]
        if (name, size) not in self.caches:
            self.caches[name, size] = load_cached(
                source,
                found.fingerprint,
                size,
                self.folder,
                most_gb=self.most_gb,
                progress=self.progress(f"caching {size} px"),
            )
        return self.caches[name, size]


def dataset_key(recipe: Recipe) -> str:
    """Return a key that is the same for all image sizes of a dataset."""
    return str(recipe.data.without("image_size"))
