"""The checks of a run that need its data: every file, and recipes with the classes that the files show."""

from __future__ import annotations

import logging

from tuner.artifacts.attempts import AttemptFiles
from tuner.console import progress_bar
from tuner.data.remarks import dataset_remarks
from tuner.data.source import Source
from tuner.data.survey import survey
from tuner.errors import format_names
from tuner.paths import Home
from tuner.recipe import Recipe
from tuner.search.warm_start import find_weights
from tuner.space.child import SpaceProcess
from tuner.space.drawing import DrawnSpace, check_again
from tuner.study import database, tables

log = logging.getLogger("tuner")


def survey_sources(sources: list[Source], home: Home) -> tuple[str, ...]:
    """Check each file of the datasets once and log remarks; return the names of the classes."""
    classes: tuple[str, ...] = ()
    told: set[str] = set()  # recipes may read one folder in several ways
    for source in sources:
        with progress_bar(f"reading {source.name}") as progress:
            found = survey(source, home.cache, progress)
        classes = found.classes
        for remark in (*found.remarks, *dataset_remarks(source, found)):
            if (line := f"{source.name}: {remark}") not in told:
                log.warning("%s", line)
            told.add(line)
        if found.unlearnable:
            names = format_names([f"'{name}'" for name in found.unlearnable])
            log.warning("%s: validation asks for %s, of which no training image shows any", source.name, names)
    return classes


def check_with_data(
    recipes: list[Recipe], space: DrawnSpace, process: SpaceProcess, url: str, attempts: AttemptFiles
) -> None:
    """Check what is known only with the data: the number of classes and what depends on it, initial weights."""
    if recipes[0].classes:
        check_again(process, recipes, space.goal)
    if all(recipe.weights.name == "none" for recipe in recipes):
        return
    from tuner.space.check import check_weights  # loads torch

    engine = None if database.is_absent(url) else tables.open_to_read(url)
    try:
        check_weights(recipes, lambda name: find_weights(name, engine, attempts, None), str(space.path))
    finally:
        if engine:
            engine.dispose()
