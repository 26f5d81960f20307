"""Read the files of trials for reports: details, which are the numbers of the pictures, and pictures."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy.engine import Engine

from tuner.artifacts.optuna_store import TrialArtifacts
from tuner.artifacts.store import open_store
from tuner.paths import Home
from tuner.report.on_demand import DETAILS, DrawRequest, open_artifact
from tuner.report.resampling import ImageGroups, choose_groups
from tuner.report.study_data import TrialData, finite
from tuner.study import queries
from tuner.study.trial_queries import FINISHED
from tuner.train import details


def open_artifacts(engine: Engine, home: Home, artifacts: str | None) -> TrialArtifacts:
    """Return the artifacts of all studies: in the home, in the given store, and in the stores of studies."""
    noted = [info.artifacts for info in queries.read_studies(engine)]
    return TrialArtifacts(home, [open_store(url) for url in dict.fromkeys([artifacts, *noted]) if url])


def read_details(trial: TrialData, artifacts: TrialArtifacts) -> dict[str, Any]:
    """Return the details of a trial, {} if they are missing or damaged."""
    try:
        content = details.read_details(read_trial_file(trial, DETAILS, artifacts))
    except (LookupError, OSError):
        return {}
    return content.to_json() if content else {}


def read_trial_file(trial: TrialData, name: str, artifacts: TrialArtifacts, goal: str = "") -> bytes:
    """Return the content of a file of a trial; LookupError if it has none of that name, or it was deleted.

    A picture that is drawn on demand is drawn now; among its curves, those of the metric `goal` come first.
    """
    from optuna.artifacts.exceptions import ArtifactNotFound

    if name not in trial.files:
        raise LookupError(f"trial {trial.number} has no {name}")

    read_numbers = partial(read_trial_file, trial, DETAILS, artifacts)
    request = DrawRequest(goal, trial.epochs, trial.notes, read_numbers, trial.state in FINISHED)
    try:
        with open_artifact(artifacts, trial.files[name], name, lambda: request) as file:
            return file.read()
    except ArtifactNotFound:
        raise LookupError(f"{name} of trial {trial.number} was deleted") from None


def paired_scores(first: dict[str, Any], second: dict[str, Any]) -> tuple[list[float], list[float]] | None:
    """Return the scores of two trials by image, None unless they have the same metric and number of images."""
    ours, theirs = image_scores(first), image_scores(second)
    same = len(ours) > 1 and len(ours) == len(theirs) and first.get("metric") == second.get("metric")
    return (ours, theirs) if same else None


def image_groups(details: dict[str, Any]) -> dict[str, list[int]] | None:
    """Return the groups of the images that have a score, by what they were found by; None if not recorded."""
    images = details.get("images")
    if not isinstance(images, dict) or not isinstance(found := images.get("groups"), dict):
        return None
    has_score = [score is not None for score in images.get("scores", [])]
    return {
        name: [label for label, known in zip(labels, has_score, strict=True) if known]
        for name, labels in found.items()
        if len(labels) == len(has_score)
    }


def draw_groups(details: dict[str, Any]) -> ImageGroups | None:
    """Return the groups in which the images that have a score are drawn, None without such images."""
    scores = image_scores(details)
    return choose_groups(scores, image_groups(details) or {}) if scores else None


def is_higher_better(details: dict[str, Any]) -> bool:
    return not any(word in str(details.get("metric", "")) for word in ("loss", "error"))


def image_scores(details: dict[str, Any]) -> list[float]:
    """Return the score of each validation image that has one, [] if any is not a number.

    An image whose pixels are all ignored has no score in any trial, so scores of the same images correspond.
    """
    images = details.get("images")
    scores = images.get("scores") if isinstance(images, dict) else None
    known = [score for score in scores if score is not None] if isinstance(scores, list) else []
    return [] if any(finite(score) is None for score in known) else [float(score) for score in known]


MAX_WIDTH = 1100  # pixels
MAX_BYTES = 160_000  # of a picture after compression
MAX_PIXELS = 60_000_000  # against decompression bombs
QUALITIES = (82, 70, 55, 40)
INSTANCE_ALTS = {  # of trials of instance segmentation
    "predictions.png": "examples in which matching true and predicted instances have one colour, and the errors",
    "quality.png": "precision by IoU threshold, precision and recall, and the number of instances",
}
PAGE_WIDTH, TALL = 1080, 600  # pixels
PICTURES = {  # of a trial, in this order: title and alternative text
    "predictions.png": ("Predictions", "examples with truth, prediction and errors side by side"),
    "strip.png": ("How it learnt", "one validation example after every epoch"),
    "quality.png": ("Quality", "confusion matrix, curves and calibration on the validation images"),
    "explanation.png": ("Where it looks", "heat maps over the examples: what the prediction depends on"),
    "curves.png": ("Curves", "metrics after every epoch, training and validation"),
}


@dataclass(frozen=True)
class TrialPicture:
    """A picture as a data: URL, or the reason why there is none."""

    title: str
    alt: str
    source: str = ""
    width: int = 0
    height: int = 0
    why: str = ""

    @property
    def is_folded(self) -> bool:
        """Return whether it is so tall that the page shows it on demand: what follows would be far below it."""
        return self.height * min(1.0, PAGE_WIDTH / max(1, self.width)) > TALL


def load_picture(trial: TrialData, name: str, artifacts: TrialArtifacts, goal: str = "") -> TrialPicture:
    """Return a picture of a trial; `goal` is the metric whose curves come first."""
    heading, alt = PICTURES[name]
    alt = INSTANCE_ALTS.get(name, alt) if trial.recipe.get("task") == "instance" else alt
    title = f"{heading}: trial {trial.number}"
    alt = f"{heading} of trial {trial.number}: {alt}"
    try:
        source, width, height = shrink_picture(read_trial_file(trial, name, artifacts, goal))
    except LookupError as error:
        return TrialPicture(title, alt, why=str(error.args[0]))
    except (OSError, ValueError, SyntaxError) as error:
        return TrialPicture(title, alt, why=f"{name} of trial {trial.number} cannot be read: {error}")
    return TrialPicture(title, alt, source, width, height)


def shrink_picture(body: bytes) -> tuple[str, int, int]:
    """Return a picture as a data: URL in WebP, its width and height; ValueError or OSError for other content."""
    from PIL import Image, UnidentifiedImageError

    try:
        opened = Image.open(io.BytesIO(body))
    except Image.DecompressionBombError as error:  # neither OSError nor ValueError
        raise ValueError(str(error)) from None
    except UnidentifiedImageError:  # its message has an address in memory
        raise ValueError("not a picture, or damaged") from None
    with opened as picture:
        if picture.width * picture.height > MAX_PIXELS:
            raise ValueError(f"{picture.width} x {picture.height} pixels are too many")
        whole = picture.convert("RGB")
    if whole.width > MAX_WIDTH:
        whole = whole.resize(
            (MAX_WIDTH, max(1, whole.height * MAX_WIDTH // whole.width)), Image.Resampling.LANCZOS
        )
    for quality in QUALITIES:
        file = io.BytesIO()
        whole.save(file, "WEBP", quality=quality, method=4)
        if file.tell() <= MAX_BYTES:
            break
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode(), whole.width, whole.height
