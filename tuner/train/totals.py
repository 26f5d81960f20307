"""Running totals of a pass over a split: kept on the device, read once at the end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from tuner.registry import find_builder
from tuner.tasks import Task
from tuner.train.metrics import confusion_matrix, reduce_histogram

Counts = Callable[[Any, Tensor, bool, list[Tensor] | None], Tensor]


class Totals:
    """The summed loss and counts, and the number of images.

    `full` counts for every metric and curve, and keeps the score of each image.
    """

    def __init__(self, task: Task, device: torch.device, classes: Sequence[str] = (), full: bool = False) -> None:
        self.counts_of: Counts = find_builder("scoring", {}, task.counts)
        self.scores_of = find_builder("scoring", {}, task.scores)
        self.task, self.classes, self.full = task, classes, full
        self.loss = torch.zeros((), dtype=torch.float64, device=device)
        self.counts: Tensor | None = None
        self.images = 0
        self.each: list[Tensor] = []
        self.ranked = find_builder("scoring", {}, task.ranking)() if full and task.ranking else None

    def add(self, loss: Tensor, said: Any, target: Tensor) -> None:
        """Count one batch without synchronizing the device.

        `loss` is its mean; `said` is the model's output, or the instances found in it.
        """
        number = len(target)
        counts = self.counts_of(said, target, self.full, self.each if self.full else None)
        if self.ranked:
            self.ranked.add(said, target)
        self.loss += loss.detach().double() * number
        self.counts = counts if self.counts is None else self.counts + counts
        self.images += number

    def scores(self, prefix: str) -> dict[str, float]:
        """Return the loss and every metric, named 'val_iou' and so on. Synchronizes the device."""
        counts = self.counts.tolist() if self.counts is not None else []
        scores = self.scores_of(counts, self.classes, self.full)
        ranked = self.ranked.scores() if self.ranked else {}
        values = {"loss": float(self.loss) / max(self.images, 1), **ranked, **scores}
        start = f"{prefix}_" if prefix else ""
        return {start + name: float(value) for name, value in values.items()}

    def confusion(self, num_classes: int) -> list[list[int]] | None:
        """Return a row for each true class; None for instances. It is first in the counts, so only it is read."""
        if self.task.has_instances:
            return None
        cells = [] if self.counts is None else self.counts[: max(num_classes, 2) ** 2].tolist()
        return confusion_matrix(cells, num_classes)

    def histogram(self, outputs: int) -> Tensor | None:
        """Return the counts of right and wrong by probability, of a full count."""
        if self.counts is None or not self.full or self.task.has_instances:
            return None
        return reduce_histogram(self.counts, outputs, self.task.targets == "masks").cpu()

    def ranking(self) -> dict[str, Any] | None:
        """Return what plots of predicted instances need."""
        return self.ranked.result() if self.ranked else None

    def state(self) -> dict[str, Any]:
        return {"loss": self.loss, "counts": self.counts, "images": self.images}

    def restore(self, state: dict[str, Any]) -> None:
        self.loss, self.counts, self.images = state["loss"], state["counts"], state["images"]
