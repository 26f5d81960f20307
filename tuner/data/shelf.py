"""The shelf: the datasets a worker has open, each read and decoded once for all of its trials."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tuner.data.cache import Cached, cached
from tuner.data.datasets import open_data
from tuner.data.source import Source
from tuner.data.survey import Progress, Survey, survey
from tuner.recipe import Recipe


class Shelf:
    """`progress` gives, for a line that says what is done, a function to be told how far it is."""

    def __init__(self, folder: Path, most_gb: float, progress: Callable[[str], Progress]) -> None:
        self.folder, self.most_gb, self.progress = folder, most_gb, progress
        self.sources: dict[str, tuple[Source, Survey]] = {}
        self.caches: dict[tuple[str, int], Cached] = {}

    def data_for(self, recipe: Recipe) -> Cached:
        """The decoded data of a recipe, at its image size."""
        name = str(recipe.data.without("image_size"))
        if name not in self.sources:
            self.put(name, open_data(recipe.data))
        return self.decoded(name, recipe.image_size)

    def test_for(self, recipe: Recipe) -> Cached | None:
        """The test split as a validation split; None where the dataset has none. No search asks for it."""
        name = f"test of {recipe.data.without('image_size')}"
        if name not in self.sources:
            source = open_data(recipe.data)
            items = tuple(replace(item, split="val") for item in source.split("test"))
            if not items:
                return None
            self.put(name, replace(source, items=items))
        return self.decoded(name, recipe.image_size)

    def put(self, name: str, source: Source) -> None:
        self.sources[name] = source, survey(source, self.folder, self.progress("reading"))

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
