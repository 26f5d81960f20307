"""Whether a space still makes the recipes with which its study began; a user decides what follows if not."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from tuner.errors import BULLET, SpaceChanged
from tuner.space.child import SpaceProcess
from tuner.space.fixed_points import RecipeSample, describe_changes
from tuner.study import database, tables
from tuner.study.info import StudyInfo
from tuner.study.recipe_samples import StoredSample, add_sample, read_samples
from tuner.study.study import JoinedStudy

log = logging.getLogger("tuner")


def sample_recipes(process: SpaceProcess, points: Sequence[dict[str, Any]]) -> RecipeSample:
    """Return the recipes that the space makes at these points."""
    recipes = process.call("tuner.space.fixed_points:recipes_at", "make recipes again", points=list(points))
    return RecipeSample(tuple(points), tuple(recipes))


def find_changes(stored: Sequence[StoredSample], process: SpaceProcess) -> list[str]:
    """Return how the recipes differ from the last ones of a study, nothing if it has trials of such recipes."""
    changes: list[str] = []
    for each in stored:
        changes = describe_changes(each.sample, sample_recipes(process, each.sample.points))
        if not changes:
            return []
    return changes


def check_same_recipes(info: StudyInfo, url: str, process: SpaceProcess, mix: bool) -> None:
    """Raise SpaceChanged if the study exists and began with other recipes, unless the user mixes them."""
    if not info.id or mix:
        return
    engine = tables.open_to_read(url)
    try:
        with database.convert_errors(url), engine.connect() as db:
            stored = read_samples(db, info.id)
    finally:
        engine.dispose()
    if changes := find_changes(stored, process):
        raise SpaceChanged(describe_mixture(info.name, changes))


def describe_mixture(name: str, changes: Sequence[str]) -> str:
    return (
        f"the code of the space makes other recipes than those of study '{name}':"
        + "".join(f"\n{BULLET}{line}" for line in changes)
        + "\nIts trials would be compared with those of the new recipes. Restore the code, start a new study with "
        "--study NEWNAME, or go on in the same one with --mix."
    )


def keep_sample(
    joined: JoinedStudy, url: str, process: SpaceProcess, points: Sequence[dict[str, Any]], mix: bool
) -> None:
    """Compare a joined study, which another command may just have created; store the recipes that the user mixes.

    SpaceChanged if it began with other recipes, and they are not to be mixed.
    """
    with database.convert_errors(url):
        if not (changes := find_changes(read_stored_samples(joined), process)):
            return
        if not mix:
            raise SpaceChanged(describe_mixture(joined.info.name, changes))
        new = sample_recipes(process, points)
        with database.creation_lock(joined.engine, url):
            stored = read_stored_samples(joined)
            if not any(each.sample == new for each in stored):  # of another host at the same time
                sample = StoredSample(new, len(joined.study.get_trials(deepcopy=False)), tuple(changes))
                add_sample(joined.storage, joined.id, len(stored), sample)
                log.warning("study '%s' goes on %s", joined.info.name, sample)


def read_stored_samples(joined: JoinedStudy) -> list[StoredSample]:
    with joined.engine.connect() as db:
        return read_samples(db, joined.id)
