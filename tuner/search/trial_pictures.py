"""The pictures of a trial, saved as artifacts: its strip while it runs, and the others when it ends.

Pictures that can be drawn from stored records are only registered: `report.on_demand` draws them when opened.
"""

from __future__ import annotations

import json
import logging
import mimetypes
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
from optuna.artifacts import ArtifactMeta

from tuner.artifacts.optuna_store import TrialArtifacts
from tuner.data.cache import CachedDataset
from tuner.data.source import Image
from tuner.errors import PartError, atomic_write
from tuner.paths import Run
from tuner.plots.examples import draw_examples, draw_strip, make_examples
from tuner.plots.heatmaps import Cell, draw_cells, explanation_cells
from tuner.recipe import Recipe
from tuner.study.format import write_confusion
from tuner.study.optuna_compat import trial_id
from tuner.study.optuna_tables import ARTIFACT_PREFIX
from tuner.tasks import BINARY_CLASSES, find_task
from tuner.train import details
from tuner.train.details import Details
from tuner.train.loop import Progress, TrainingOutcome

if TYPE_CHECKING:
    from torch import nn

DRAWING_SHARE = 0.005  # of the training time that may be spent on drawing
MIN_PAUSE = 1.0  # seconds between two drawings
CLOSE_SECONDS = 2.0  # that the end of a trial waits for a drawing
MAX_EXPLAINED = 6
log = logging.getLogger("tuner")


@dataclass(frozen=True)
class TrialPictures:
    """What the pictures of a trial show, and where they are saved."""

    trial: optuna.Trial
    recipe: Recipe
    data: CachedDataset
    run: Run
    artifacts: TrialArtifacts

    @property
    def targets(self) -> str:
        return find_task(self.recipe.task).targets

    @property
    def classes(self) -> tuple[str, ...]:
        return self.recipe.classes or BINARY_CLASSES

    def image(self, position: int) -> tuple[Any, Any, str]:
        """Return a validation image, its target, and its name."""
        at = self.data.val[position]
        return np.asarray(self.data.images[at]), np.asarray(self.data.targets[at]), self.data.keys[at]

    def register(self, file: Path) -> str:
        """Return the id of the artifact with a file's name, creating it on the first attempt of the trial."""
        storage, owner = self.trial.storage, trial_id(self.trial)
        for key, record in storage.get_trial(owner).system_attrs.items():
            if key.startswith(ARTIFACT_PREFIX) and json.loads(record)["filename"] == file.name:
                return key.removeprefix(ARTIFACT_PREFIX)
        new_id = str(uuid.uuid4())
        kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
        meta = ArtifactMeta(artifact_id=new_id, filename=file.name, mimetype=kind, encoding=None)
        storage.set_trial_system_attr(owner, ARTIFACT_PREFIX + new_id, json.dumps(asdict(meta)))
        return new_id

    def save(self, file: Path, artifact_id: str = "") -> None:
        """Save a file, if it exists, as an artifact, replacing an earlier one with its name."""
        if file.is_file():
            with file.open("rb") as content:
                self.artifacts.write(artifact_id or self.register(file), content)


@dataclass
class StripThread:
    """Draws the newest state of the strip in a background thread; the first error is logged, none is raised.

    Training calls `show` after each validated epoch; it returns at once.
    """

    pictures: TrialPictures
    newest: tuple[Mapping[int, Any], int] | None = None  # frames and the best epoch
    artifact_id: str = ""
    changed: threading.Event = field(default_factory=threading.Event)
    closing: threading.Event = field(default_factory=threading.Event)
    thread: threading.Thread | None = None

    def show(self, progress: Progress) -> None:
        self.newest = (progress.frames, progress.best_epoch)
        if self.thread is None:
            self.artifact_id = self.pictures.register(self.pictures.run.strip)
            self.thread = threading.Thread(target=self.run, name="strip", daemon=True)
            self.thread.start()
        self.changed.set()

    def run(self) -> None:
        warned = False
        while True:
            self.changed.wait()
            self.changed.clear()
            if self.closing.is_set():
                return
            began = time.thread_time()
            try:
                assert self.newest is not None
                write_strip(self.pictures, *self.newest, self.closing.is_set)
                if not self.closing.is_set():  # the end of the trial draws the whole strip
                    self.pictures.save(self.pictures.run.strip, self.artifact_id)
            except Exception as error:
                if not warned and not self.closing.is_set():
                    log.warning("the strip of trial %d cannot be drawn: %s", self.pictures.trial.number, error)
                warned = True
            self.closing.wait(max(MIN_PAUSE, (time.thread_time() - began) / DRAWING_SHARE))

    def close(self) -> None:
        """Stop drawing, and wait shortly for a drawing that has started."""
        self.closing.set()
        self.changed.set()
        if self.thread is not None:
            self.thread.join(CLOSE_SECONDS)


class OutdatedStrip(Exception):
    """A later strip was asked for while this one was drawn."""


def write_strip(
    pictures: TrialPictures, frames: Mapping[int, Any], best: int, is_late: Callable[[], bool] = lambda: False
) -> None:
    """Draw the strip into a temporary file, and move it into place unless `is_late` then."""
    image, truth, _ = pictures.image(0)
    plain = {epoch: frame.numpy() for epoch, frame in frames.items()}
    with suppress(OutdatedStrip), atomic_write(pictures.run.strip) as beside:
        draw_strip(image, truth, plain, best, beside, pictures.targets, pictures.classes)
        if is_late():
            raise OutdatedStrip


def write_pictures(pictures: TrialPictures, outcome: TrainingOutcome, is_explained: bool) -> None:
    """Draw the pictures of a finished trial that need its model or data, and save all in the order of display.

    Those that its records are enough for are only registered. `is_explained`: also draw where the model looks.
    """
    run, progress = pictures.run, outcome.progress
    if progress.frames:
        write_strip(pictures, progress.frames, progress.best_epoch)
    numbers = make_details(pictures, progress)
    if numbers:
        details.write_details(numbers, run.details)
        if numbers.confusion:
            write_confusion(numbers.confusion, pictures.classes, run.confusion)
    if outcome.examples and numbers:
        write_examples(pictures, outcome, numbers)
    if is_explained:
        write_explanation(pictures, outcome)
    for file in run.pictures:
        if file == run.curves or (file == run.quality and numbers):
            pictures.register(file)
        pictures.save(file)


def make_details(pictures: TrialPictures, progress: Progress) -> Details | None:
    """Return the numbers of the best epoch, or None for a checkpoint of an earlier version without them."""
    epoch, metric, scores = progress.best_epoch, find_task(pictures.recipe.task).image_score, progress.scores
    groups = pictures.data.val_groups
    if progress.each is not None and progress.ranking is not None:
        return details.make_instance_details(epoch, metric, scores, progress.ranking, groups)
    if progress.each is None or progress.histogram is None or progress.confusion is None:
        return None
    histogram, has_pixels = progress.histogram.numpy(), pictures.targets != "classes"
    counts = progress.confusion, histogram
    return details.make_details(epoch, metric, pictures.classes, scores, *counts, has_pixels, groups)


def write_examples(pictures: TrialPictures, outcome: TrainingOutcome, numbers: Details) -> None:
    assert outcome.examples
    shown = outcome.examples
    examples = make_examples(pictures.data, shown.positions, shown.guesses, numbers, pictures.targets)
    draw_examples(examples, pictures.run.predictions, pictures.targets, pictures.classes)


def write_explanation(pictures: TrialPictures, outcome: TrainingOutcome) -> None:
    """Draw where the model looks in a few example images; log errors, because they must not fail the trial."""
    if outcome.examples is None or outcome.model is None:
        return
    by_rank = zip_longest(*outcome.examples.positions.values())  # the first of each kind; then the next
    positions = list(dict.fromkeys(at for rank in by_rank for at in rank if at is not None))[:MAX_EXPLAINED]
    try:
        images, truths, _ = zip(*map(pictures.image, positions), strict=True)
        draw_explanations(outcome.model, pictures.recipe, list(images), list(truths), pictures.run.explanation)
    except Exception as error:
        log.warning("trial %d cannot be explained: %s", pictures.trial.number, error)


def draw_explanations(
    model: nn.Module, recipe: Recipe, images: Sequence[Image], truths: Sequence[Any], path: Path
) -> bool:
    """Draw a row for each image: the image, its target, the prediction, and the maps of the model's layers.

    Return False without a file if the model has no layer that can be explained.
    """
    from tuner.export.gradcam import explain as explain_images

    try:
        seen = explain_images(model, images)
    except PartError:
        return False
    rows: list[list[Cell]] = [
        explanation_cells(image, one, recipe, truth)
        for image, one, truth in zip(images, seen, truths, strict=True)
    ]
    if rows:
        draw_cells(rows, path)
    return bool(rows)
