"""The small files of trials, as a report reads them: the numbers behind the pictures, and the pictures."""

from __future__ import annotations

from typing import Any

from tuner import details
from tuner.gallery import Gallery
from tuner.overview import FINISHED
from tuner.report.later import DETAILS, Records, opened
from tuner.report.story import Told, finite


def details_of(trial: Told, gallery: Gallery) -> dict[str, Any]:
    """What stands in a trial's details; empty where there are none, or where they are damaged."""
    try:
        found = details.read(bytes_of(trial, DETAILS, gallery))
    except (LookupError, OSError):
        return {}
    return found.to_json() if found else {}


def bytes_of(trial: Told, name: str, gallery: Gallery, goal: str = "") -> bytes:
    """A file of a trial; LookupError where it has none of that name, or where it is gone.

    One that is drawn when it is looked at is drawn now; of its curves, those of `goal` come first.
    """
    from optuna.artifacts.exceptions import ArtifactNotFound

    if name not in trial.files:
        raise LookupError(f"trial {trial.number} has no {name}")

    def records() -> Records:
        ended = trial.state in FINISHED
        return Records(goal, trial.epochs, trial.notes, lambda: bytes_of(trial, DETAILS, gallery), ended)

    try:
        with opened(gallery, trial.files[name], name, records) as file:
            return file.read()
    except ArtifactNotFound:
        raise LookupError(f"{name} of trial {trial.number} is not there any more") from None


def comparable(first: dict[str, Any], second: dict[str, Any]) -> tuple[list[float], list[float]] | None:
    """The scores of two trials image by image; None unless they are of the same measure and as many images."""
    ours, theirs = scores_of(first), scores_of(second)
    same = len(ours) > 1 and len(ours) == len(theirs) and first.get("metric") == second.get("metric")
    return (ours, theirs) if same else None


def is_more_better(found: dict[str, Any]) -> bool:
    """Whether a greater score of an image is a better one."""
    return not any(word in str(found.get("metric", "")) for word in ("loss", "error"))


def scores_of(found: dict[str, Any]) -> list[float]:
    """The score of each validation image that has one; empty if any is no number.

    An image in which all is ignored has none, whatever the model: in each trial on the same images it is missing.
    """
    images = found.get("images")
    scores = images.get("scores") if isinstance(images, dict) else None
    known = [score for score in scores if score is not None] if isinstance(scores, list) else []
    return [] if any(finite(score) is None for score in known) else [float(score) for score in known]
