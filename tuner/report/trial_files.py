"""The small files of trials, as a report reads them: the numbers behind the pictures, and the pictures."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import Any

from tuner.artifacts.optuna_store import TrialArtifacts
from tuner.report.on_demand import DETAILS, DrawRequest, open_artifact
from tuner.report.study_data import TrialData, finite
from tuner.study.trial_queries import FINISHED
from tuner.train import details


def read_details(trial: TrialData, artifacts: TrialArtifacts) -> dict[str, Any]:
    """What stands in a trial's details; empty where there are none, or where they are damaged."""
    try:
        found = details.read_details(read_trial_file(trial, DETAILS, artifacts))
    except (LookupError, OSError):
        return {}
    return found.to_json() if found else {}


def read_trial_file(trial: TrialData, name: str, artifacts: TrialArtifacts, goal: str = "") -> bytes:
    """A file of a trial; LookupError where it has none of that name, or where it is gone.

    One that is drawn when it is looked at is drawn now; of its curves, those of `goal` come first.
    """
    from optuna.artifacts.exceptions import ArtifactNotFound

    if name not in trial.files:
        raise LookupError(f"trial {trial.number} has no {name}")

    def records() -> DrawRequest:
        ended = trial.state in FINISHED
        return DrawRequest(
            goal, trial.epochs, trial.notes, lambda: read_trial_file(trial, DETAILS, artifacts), ended
        )

    try:
        with open_artifact(artifacts, trial.files[name], name, records) as file:
            return file.read()
    except ArtifactNotFound:
        raise LookupError(f"{name} of trial {trial.number} is not there any more") from None


def paired_scores(first: dict[str, Any], second: dict[str, Any]) -> tuple[list[float], list[float]] | None:
    """The scores of two trials image by image; None unless they are of the same measure and as many images."""
    ours, theirs = image_scores(first), image_scores(second)
    same = len(ours) > 1 and len(ours) == len(theirs) and first.get("metric") == second.get("metric")
    return (ours, theirs) if same else None


def is_higher_better(found: dict[str, Any]) -> bool:
    """Whether a greater score of an image is a better one."""
    return not any(word in str(found.get("metric", "")) for word in ("loss", "error"))


def image_scores(found: dict[str, Any]) -> list[float]:
    """The score of each validation image that has one; empty if any is no number.

    An image in which all is ignored has none, whatever the model: in each trial on the same images it is missing.
    """
    images = found.get("images")
    scores = images.get("scores") if isinstance(images, dict) else None
    known = [score for score in scores if score is not None] if isinstance(scores, list) else []
    return [] if any(finite(score) is None for score in known) else [float(score) for score in known]


WIDEST = 1100  # pixels
LARGEST = 160_000  # bytes of one picture, after it was made small
MOST_PIXELS = 60_000_000  # beyond, a small file may be a flood
QUALITIES = (82, 70, 55, 40)
OF_INSTANCES = {  # to be seen where a trial finds instances
    "predictions.png": "examples in which what is there and what was found of it have one colour, and the errors",
    "quality.png": "precision by how well outlines must fit, precision and recall, and how many are found",
}
KINDS = {  # what is shown of a trial, in this order: title, and what is to be seen
    "predictions.png": ("Predictions", "examples with truth, prediction and errors side by side"),
    "strip.png": ("How it learnt", "one validation example after every epoch"),
    "quality.png": ("Quality", "confusion matrix, curves and calibration on the validation images"),
    "explanation.png": ("Where it looks", "heat maps over the examples: what the model's answer rests on"),
    "curves.png": ("Curves", "metrics after every epoch, training and validation"),
}


@dataclass(frozen=True)
class TrialPicture:
    """A picture as an address that needs no network, or why there is none."""

    name: str
    title: str
    alt: str
    source: str = ""
    width: int = 0
    height: int = 0
    why: str = ""


def load_picture(trial: TrialData, name: str, artifacts: TrialArtifacts, goal: str = "") -> TrialPicture:
    """A picture of a trial; `goal` is the metric that its curves begin with."""
    about, alt = KINDS[name]
    alt = OF_INSTANCES.get(name, alt) if trial.recipe.get("task") == "instance" else alt
    title = f"{about}: trial {trial.number}"
    alt = f"{about} of trial {trial.number}: {alt}"
    try:
        source, width, height = shrink_picture(read_trial_file(trial, name, artifacts, goal))
    except LookupError as error:
        return TrialPicture(name, title, alt, why=str(error.args[0]))
    except (OSError, ValueError, SyntaxError) as error:
        return TrialPicture(name, title, alt, why=f"{name} of trial {trial.number} cannot be read: {error}")
    return TrialPicture(name, title, alt, source, width, height)


def shrink_picture(body: bytes) -> tuple[str, int, int]:
    """As a data: address in WebP, with its size. ValueError or OSError for what is no picture."""
    from PIL import Image, UnidentifiedImageError

    try:
        opened = Image.open(io.BytesIO(body))
    except Image.DecompressionBombError as error:  # neither of the errors of a damaged file
        raise ValueError(str(error)) from None
    except UnidentifiedImageError:  # its own words name a place in memory
        raise ValueError("it is no picture, or damaged") from None
    with opened as found:
        if found.width * found.height > MOST_PIXELS:
            raise ValueError(f"{found.width} x {found.height} pixels are too many")
        whole = found.convert("RGB")
    if whole.width > WIDEST:
        whole = whole.resize((WIDEST, max(1, whole.height * WIDEST // whole.width)), Image.Resampling.LANCZOS)
    for quality in QUALITIES:
        file = io.BytesIO()
        whole.save(file, "WEBP", quality=quality, method=4)
        if file.tell() <= LARGEST:
            break
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode(), whole.width, whole.height
