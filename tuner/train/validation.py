"""The evaluation of a model on a split that is not trained on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from tuner.data.batches import Batches
from tuner.data.cache import CachedDataset
from tuner.recipe import Recipe
from tuner.registry import find_builder
from tuner.tasks import find_task
from tuner.train import checkpoint, memory
from tuner.train.own_metrics import OwnMetrics
from tuner.train.totals import Totals
from tuner.train.trainer import Trainer


@torch.inference_mode()
def validate(trainer: Trainer, batches: Batches, before_batch: Callable[[], object] = lambda: None) -> Totals:
    """Evaluate the validation split; `before_batch` may leave it with an exception."""
    trainer.model.eval()
    totals = Totals(trainer.task, trainer.device, trainer.recipe.classes, full=True)
    totals.own = OwnMetrics(trainer.recipe.metrics, trainer.task)
    for images, targets in batches.val():
        before_batch()
        for loss, output, target in trainer.validate(images, targets):
            totals.add(loss, output, target)
            totals.own.add(output, target)
        totals.end_batch()
    return totals


@torch.inference_mode()
def predict_images(trainer: Trainer, batches: Batches, positions: Iterable[int]) -> dict[int, Tensor]:
    """Return the model's predictions for some images of the validation split by position."""
    to_prediction = find_builder("prediction", {}, trainer.task.to_prediction)
    guesses = {}
    for at in positions:  # one by one: needs no more memory than a validation batch
        ((_, output, _),) = trainer.validate(*batches.val_batch(at))
        guesses[at] = to_prediction(output)[0].cpu()
    return guesses


def evaluate(
    recipe: Recipe,
    data: CachedDataset,
    weights: Path,
    device: torch.device,
    micro_batches: memory.MicroBatches,
    shares: Callable[[], Sequence[float]],
    alive: Callable[[], object] = lambda: None,
) -> Totals:
    """Evaluate saved weights on a split that is given as the validation split of `data`.

    `shares` are those of the training split, so that the loss is the one of the training. `alive` is called for
    each batch.
    """
    with memory.fail_trial_on_oom(recipe):
        trainer = load_trainer(recipe, weights, device, micro_batches, shares)
        return validate(trainer, make_batches(recipe, data, device), alive)


def load_trainer(
    recipe: Recipe,
    weights: Path,
    device: torch.device,
    micro_batches: memory.MicroBatches,
    shares: Callable[[], Sequence[float]],
) -> Trainer:
    """Return a trainer with saved weights, to evaluate them."""
    trainer = Trainer(recipe, device, micro_batches, shares)
    checkpoint.load_weights(trainer.model, weights)
    return trainer


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
