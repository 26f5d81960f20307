"""The evaluation of a model on a split that is not trained on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from tuner.data.batches import Batches
from tuner.data.cache import CachedDataset
from tuner.recipe import Recipe
from tuner.registry import find_builder
from tuner.tasks import find_task
from tuner.train import checkpoint, memory
from tuner.train.answers import PredictionBuffer, make_frame
from tuner.train.totals import Totals
from tuner.train.trainer import Trainer

StopCheck = Callable[[], Literal["", "stopped", "pruned"]]


@dataclass(frozen=True)
class ValidationResult:
    """The results of a pass over a split.

    Metrics, confusion matrix, score of each image, histogram of probabilities, ranking of instances, the
    prediction for the first image, and a buffer of all predictions.
    """

    metrics: dict[str, float]
    confusion: list[list[int]] | None = None
    images: int = 0
    each: Tensor | None = None
    histogram: Tensor | None = None
    ranking: dict[str, Any] | None = None
    frame: Tensor | None = None
    answers: PredictionBuffer = field(default_factory=PredictionBuffer, repr=False)


NOT_VALIDATED = ValidationResult({})


@torch.inference_mode()
def validate(
    trainer: Trainer, batches: Batches, check_stop: StopCheck = lambda: "", prefix: str = "val"
) -> ValidationResult | Literal["stopped", "pruned"]:
    """Evaluate the validation split; return why it was left, if it was."""
    trainer.model.eval()
    totals = Totals(trainer.task, trainer.device, trainer.recipe.classes, full=True)
    guess = find_builder("guess", {}, trainer.task.to_prediction)
    frame, answers = None, PredictionBuffer()
    for images, targets in batches.val():
        if said := check_stop():
            return said
        for loss, said, target in trainer.validate(images, targets):
            totals.add(loss, said, target)
            if answers.is_over:
                continue
            guessed = guess(said)
            answers.add(guessed)
            frame = make_frame(guessed[0]) if frame is None else frame
    outputs = trainer.task.num_outputs(trainer.recipe)
    return ValidationResult(
        metrics=totals.scores(prefix),
        confusion=totals.confusion(outputs),
        images=totals.images,
        each=torch.cat(totals.each).cpu(),
        histogram=totals.histogram(outputs),
        ranking=totals.ranking(),
        frame=None if frame is None else frame.cpu(),
        answers=answers,
    )


def evaluate(
    recipe: Recipe,
    data: CachedDataset,
    weights: Path,
    device: torch.device,
    micro_batches: memory.MicroBatches,
    shares: Callable[[], Sequence[float]],
    alive: Callable[[], object] = lambda: None,
) -> ValidationResult:
    """Evaluate saved weights on a split that is given as the validation split of `data`.

    `shares` are those of the training split, so that the loss is the one of the training. `alive` is called for
    each batch.
    """
    with memory.fail_trial_on_oom(recipe):
        trainer = Trainer(recipe, device, micro_batches, shares)
        checkpoint.load_weights(trainer.model, weights)
        scored = validate(trainer, make_batches(recipe, data, device), lambda: (alive(), "")[1], prefix="")
    assert not isinstance(scored, str)  # it is never stopped
    return scored


def make_batches(recipe: Recipe, data: CachedDataset, device: torch.device) -> Batches:
    return Batches(
        data,
        recipe.batch_size,
        recipe.seed,
        recipe.augment,
        copies=recipe.copies,
        pin=device.type == "cuda",
        prepare=find_task(recipe.task).prepare,
    )
