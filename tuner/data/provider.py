"""The shelf: the datasets a worker has open, each read and decoded once for all of its trials."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tuner.console import ProgressCallback
from tuner.data.cache import Cached, cached
from tuner.data.datasets import open_data
from tuner.data.source import Source
from tuner.data.survey import Survey, fingerprint, survey
from tuner.errors import DataError
from tuner.recipe import Recipe
from tuner.tasks import find_task


def open_for(recipe: Recipe) -> Source:
    """The source a recipe names; DataError when it does not hold what the recipe's task needs."""
    source, wanted = open_data(recipe.data), find_task(recipe.task).targets
    if source.targets != wanted:
        raise DataError(f"{source.where} holds {source.targets}; the task '{recipe.task}' needs {wanted}.")
    return source


class Shelf:
    """`progress` gives, for a line that says what is done, a function to be told how far it is."""

    def __init__(self, folder: Path, most_gb: float, progress: Callable[[str], ProgressCallback]) -> None:
        self.folder, self.most_gb, self.progress = folder, most_gb, progress
        self.sources: dict[str, tuple[Source, Survey]] = {}
        self.caches: dict[tuple[str, int], Cached] = {}

    def data_for(self, recipe: Recipe) -> Cached:
        """The decoded data of a recipe, at its image size."""
        self.surveyed(recipe)
        return self.decoded(nick(recipe), recipe.image_size)

    def test_for(self, recipe: Recipe) -> Cached | None:
        """The test split as a validation split; None where the dataset has none. No search asks for it."""
        name = f"test of {nick(recipe)}"
        if name not in self.sources:
            source, found = self.surveyed(recipe)
            items = tuple(replace(item, split="val") for item in source.split("test"))
            if not items:
                return None
            held = replace(source, items=items)
            self.sources[name] = held, replace(found, fingerprint=fingerprint(held, found.findings))
        return self.decoded(name, recipe.image_size)

    def surveyed(self, recipe: Recipe) -> tuple[Source, Survey]:
        """The whole source, with the names of the classes that its survey found, read once."""
        name = nick(recipe)
        if name not in self.sources:
            source = open_for(recipe)
            found = survey(source, self.folder, self.progress("reading"))
            self.sources[name] = replace(source, classes=found.classes), found
        return self.sources[name]

    def decoded(self, name: str, size: int) -> Cached:
        source, found = self.sources[name]
        if (name, size) not in self.caches:
            self.caches[name, size] = cached(
                source,
                found.fingerprint,
                size,
                self.folder,
                most_gb=self.most_gb,
                progress=self.progress(f"caching {size} px"),
            )
        return self.caches[name, size]


def nick(recipe: Recipe) -> str:
    """One name for all sizes of a dataset."""
    return str(recipe.data.without("image_size"))
