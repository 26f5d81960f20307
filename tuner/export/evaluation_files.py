"""The files of an evaluation: pictures, curves, and the score of each image.

examples.png     the worst, median and best images: truth, prediction, errors
sample.png       random images, in the same way
quality.png      confusion, ROC, precision and recall, calibration; of instances, what they have instead
images.csv       the score of each image       confusion.csv  a row for each true class; instances have none
metrics.json     the scores over the split     details.json   the numbers behind quality.png
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from tuner.data.batches import Batches
from tuner.data.cache import CachedDataset
from tuner.errors import FilesError
from tuner.export.bundle import atomic_folder, resolve_folder, write_json
from tuner.paths import read_json
from tuner.plots.examples import draw_examples, make_examples
from tuner.plots.quality import quality_charts
from tuner.plots.render_png import charts_to_png
from tuner.recipe import Recipe
from tuner.study.format import write_confusion
from tuner.tasks import BINARY_CLASSES, Task, find_task
from tuner.train import details
from tuner.train.details import Details
from tuner.train.totals import Totals, list_scores
from tuner.train.trainer import Trainer
from tuner.train.validation import predict_images

if TYPE_CHECKING:
    from tuner.export.evaluate import Evaluation

METRICS = "metrics.json"
MARK = "evaluation"  # key of metrics.json by which a folder is known to be an evaluation
SAMPLE = "random"


@dataclass(frozen=True)
class EvaluationPictures:
    """What the pictures of an evaluation are drawn from; `chosen` are positions by kind, with their `guesses`."""

    data: CachedDataset
    task: Task
    numbers: Details
    chosen: Mapping[str, Sequence[int]]
    guesses: Mapping[int, Tensor]

    def draw(self, kinds: Sequence[str], path: Path) -> None:
        """Draw the chosen images of some kinds, unless there are none."""
        guesses = {at: guess.numpy() for at, guess in self.guesses.items()}
        chosen = {kind: self.chosen.get(kind, []) for kind in kinds}
        examples = make_examples(self.data, chosen, guesses, self.numbers, self.task.targets)
        if examples:
            draw_examples(examples, path, self.task.targets, self.numbers.classes)


def check_replaceable(folder: Path) -> None:
    """Raise FilesError unless a folder is new, empty, or holds an earlier evaluation."""
    resolve_folder(folder)
    if not folder.exists() or is_evaluation(folder) or (folder.is_dir() and not any(folder.iterdir())):
        return
    raise FilesError(f"{folder} exists and is not an evaluation, the only thing replaced. Choose another folder.")


def is_evaluation(folder: Path) -> bool:
    try:
        written = read_json(folder / METRICS)
    except FilesError:
        return False
    return isinstance(written, dict) and MARK in written


def collect_details(scored: Totals, recipe: Recipe, epoch: int) -> Details:
    """Return the numbers behind the pictures from a full count of a split."""
    task, scores, ranking = find_task(recipe.task), list_scores(scored.image_scores()), scored.ranking()
    if ranking is not None:
        return details.make_instance_details(epoch, task.image_score, scores, ranking)
    histogram, confusion = scored.histogram(), scored.confusion()
    assert histogram is not None and confusion is not None  # only instances have none
    classes, has_pixels = recipe.classes or BINARY_CLASSES, task.targets != "classes"
    return details.make_details(epoch, task.image_score, classes, scores, confusion, histogram.numpy(), has_pixels)


def collect_pictures(
    scored: Totals, trainer: Trainer, batches: Batches, epoch: int, sample: int, seed: int
) -> EvaluationPictures:
    """Choose the worst, median and best images, and random ones among all, with their predictions."""
    numbers = collect_details(scored, trainer.recipe, epoch)
    scores = numbers.scores
    chosen = {**details.choose_examples(scores), SAMPLE: details.choose_sample(len(scores), sample, seed)}
    positions = details.unique_positions(chosen)
    guesses = scored.predictions.select(positions) or predict_images(trainer, batches, positions)
    return EvaluationPictures(batches.data, trainer.task, numbers, chosen, guesses)


def write_evaluation(
    folder: Path, found: Evaluation, pictures: EvaluationPictures, made_with: Mapping[str, Any]
) -> None:
    """Write every file of an evaluation, replacing an earlier one when all are complete."""
    numbers = pictures.numbers
    with atomic_folder(resolve_folder(folder)) as aside:
        pictures.draw(["worst", "median", "best"], aside / "examples.png")
        pictures.draw([SAMPLE], aside / "sample.png")
        if charts := quality_charts(numbers.to_json()):
            (aside / "quality.png").write_bytes(charts_to_png(charts))
        if numbers.confusion:
            write_confusion(numbers.confusion, numbers.classes, aside / "confusion.csv")
        write_image_scores(aside / "images.csv", pictures.data, found.split, numbers.scores)
        details.write_details(numbers, aside / "details.json")
        about = {**made_with, "sample": len(pictures.chosen[SAMPLE]), "image_score": numbers.metric}
        write_json(aside / METRICS, {**asdict(found), MARK: about})


def write_image_scores(path: Path, data: CachedDataset, split: str, scores: Sequence[float | None]) -> None:
    """Write the score of each image as CSV, empty where it has none."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "split", "score"])
        for position, score in zip(data.val, scores, strict=True):
            writer.writerow([data.keys[position], split, "" if score is None else score])
