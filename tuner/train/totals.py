"""Running totals of a pass over a split: kept on the device, read once at the end."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from tuner.registry import find_builder
from tuner.tasks import Task
from tuner.train.metrics import ImageScores, confusion_matrix, reduce_histogram
from tuner.train.own_metrics import OwnMetrics
from tuner.train.predictions import PredictionBuffer

Counts = Callable[[Any, Tensor, ImageScores], Tensor]


class Totals:
    """The summed loss and counts, and the number of images.

    `full` counts for every metric and curve, and keeps the score of each image and the predictions for pictures.
    """

    def __init__(self, task: Task, device: torch.device, classes: Sequence[str] = (), full: bool = False) -> None:
        self.counts_of: Counts = find_builder("scoring", {}, task.counts)
        self.scores_of = find_builder("scoring", {}, task.scores)
        self.task, self.classes = task, classes
        self.loss = torch.zeros((), dtype=torch.float64, device=device)
        self.counts: Tensor | None = None
        self.images = 0
        self.each: ImageScores = [] if full else None
        self.predictions = PredictionBuffer(find_builder("prediction", {}, task.to_prediction))
        self.ranked = find_builder("scoring", {}, task.ranking)() if full and task.ranking else None
        self.batch_scores_of = (
            find_builder("scoring", {}, task.batch_scores) if full and task.batch_scores else None
        )
        self.own: OwnMetrics | None = None  # of the recipe
        self.batches: list[dict[str, Tensor]] = []  # the scores of each
        self.ended: Tensor | float = 0.0  # the counts at the end of the last batch

    def add(self, loss: Tensor, output: Any, target: Tensor) -> None:
        """Count one batch without synchronizing the device.

        `loss` is its mean; `output` is the model's output, or the instances found in it.
        """
        number = len(target)
        counts = self.counts_of(output, target, self.each)
        if self.ranked:
            self.ranked.add(output, target)
        if self.each is not None:
            self.predictions.add(output)
        self.loss += loss.detach().double() * number
        self.counts = counts if self.counts is None else self.counts + counts
        self.images += number

    def end_batch(self) -> None:
        """Score the batch whose pieces were added since the last call, without synchronizing the device."""
        if self.batch_scores_of and self.counts is not None:
            self.batches.append(self.batch_scores_of(self.counts - self.ended))
            self.ended = self.counts

    def scores(self, prefix: str = "") -> dict[str, float]:
        """Return the loss and every metric, by prefix and name. Synchronizes the device."""
        counts = self.counts.tolist() if self.counts is not None else []
        scores = self.scores_of(counts, self.classes)
        ranked = self.ranked.scores() if self.ranked else {}
        names = self.batches[0] if self.batches else {}
        by_batch = {name: torch.stack([one[name] for one in self.batches]).mean() for name in names}
        own = self.own.scores() if self.own else {}
        values = {"loss": float(self.loss) / max(self.images, 1), **ranked, **scores, **by_batch, **own}
        return {prefix + name: float(value) for name, value in values.items()}

    def image_scores(self) -> Tensor:
        """Return the score of each image, of a full count; NaN where it has none."""
        return torch.cat(self.each or []).cpu()

    def confusion(self) -> list[list[int]] | None:
        """Return a row for each true class; None for instances. It is first in the counts, so only it is read."""
        if self.counts is None or self.task.has_instances:
            return None
        number = max(len(self.classes), 2)
        return confusion_matrix(self.counts[: number**2].tolist(), number)

    def histogram(self) -> Tensor | None:
        """Return the counts of right and wrong by probability, of a full count; None for instances."""
        if self.counts is None or self.task.has_instances:
            return None
        return reduce_histogram(self.counts, len(self.classes), self.task.targets == "masks").cpu()

    def ranking(self) -> dict[str, Any] | None:
        """Return what plots of predicted instances need."""
        return self.ranked.summary if self.ranked else None

    def state(self) -> dict[str, Any]:
        return {"loss": self.loss, "counts": self.counts, "images": self.images}

    def restore(self, state: dict[str, Any]) -> None:
        self.loss = state["loss"].to(self.loss.device)
        self.counts = None if state["counts"] is None else state["counts"].to(self.loss.device)
        self.images = state["images"]


def list_scores(each: Tensor) -> list[float | None]:
    """Return the scores of images as a list, None where an image has none."""
    return [None if math.isnan(score) else score for score in each.tolist()]
