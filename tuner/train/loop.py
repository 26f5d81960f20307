"""The loop: epochs of training and validation, the best weights kept, every stop survived."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tuner.data.batches import Batches
from tuner.data.cache import Cached
from tuner.errors import PartError, TrialFailed
from tuner.goal import Goal
from tuner.optims import advance
from tuner.parts import locate
from tuner.recipe import Recipe
from tuner.runs import Run
from tuner.train import checkpoint, memory
from tuner.train.scoring import Totals
from tuner.train.trainer import Trainer
from tuner.train.weights import begin_from

log = logging.getLogger("tuner")
NUM_SAMPLES = 6  # validation images whose prediction is kept at the best epoch


@dataclass(frozen=True)
class EpochReport:
    """What one epoch gave. `metrics` are named 'train_loss', 'val_iou', ..."""

    epoch: int  # 1 is the first
    value: float | None  # the goal's metric; None in an epoch that was not validated
    metrics: dict[str, float]
    seconds: float
    images_per_second: float
    peak_memory: int  # bytes
    lr: float


@dataclass
class Progress:
    """Where a trial stands: what a checkpoint holds beside the trainer's own state."""

    epoch: int = 1  # the epoch that is under way
    step: int = 0  # steps of it already made
    best_value: float | None = None
    best_epoch: int = 0
    last_value: float | None = None
    samples: Tensor | None = None  # what was predicted for the samples at the best epoch
    confusion: list[list[int]] | None = None  # at the best epoch: a row for each true class
    carried: str = ""  # what came over from earlier weights
    totals: dict[str, Any] | None = None  # of the epoch under way
    spent: float = 0.0  # seconds of the epoch under way before an interruption


@dataclass(frozen=True)
class Outcome:
    """How a trial ended: "finished", "pruned" or "stopped" (to go on later)."""

    end: str
    progress: Progress = field(repr=False)
    dtype: str
    micro: int


def train(
    recipe: Recipe,
    goal: Goal,
    data: Cached,
    run: Run,
    *,
    device: torch.device,
    micro_batches: memory.MicroBatches,
    on_epoch: Callable[[EpochReport], bool],
    stopped: Callable[[], bool] = lambda: False,
    start: Path | None = None,
    must_go_on: bool = False,
) -> Outcome:
    """Train from scratch or from the run's checkpoint. `on_epoch` may answer True: prune here.

    `stopped` is asked before every step; then all is saved and the outcome is "stopped". `start` is the file
    of the recipe's `weights`, where they are neither ImageNet's nor none. With `must_go_on`, a checkpoint that
    cannot be gone on from fails the trial.
    """
    batches = batches_of(recipe, data, device)
    memory.reset_peak(device)
    with memory.told(recipe):
        trainer = Trainer(recipe, device, micro_batches, lambda: data.shares())
        trainer.origin = origin(recipe, data)
        progress = resume(trainer, run, start, must_go_on)
        end = epochs(trainer, batches, progress, goal, run, on_epoch, stopped)
    return Outcome(end, progress, str(trainer.dtype).removeprefix("torch."), trainer.micro)


def batches_of(recipe: Recipe, data: Cached, device: torch.device) -> Batches:
    return Batches(
        data,
        recipe.batch_size,
        recipe.seed,
        recipe.augment,
        copies=recipe.copies,
        pin=device.type == "cuda",
    )


def origin(recipe: Recipe, data: Cached) -> str:
    """What is trained on what. How long does not matter: a finished trial can be trained longer."""
    return f"{data.fingerprint} {json.dumps(recipe.lasting(0).to_json(), sort_keys=True)}"


def epochs(
    trainer: Trainer,
    batches: Batches,
    progress: Progress,
    goal: Goal,
    run: Run,
    on_epoch: Callable[[EpochReport], bool],
    stopped: Callable[[], bool],
) -> str:
    """Epoch after epoch, a checkpoint after each; how it ended."""
    while progress.epoch <= trainer.recipe.epochs:
        report = one_epoch(trainer, batches, progress, goal, run, stopped)
        if report is None:
            return "stopped"
        if on_epoch(report):
            return "pruned"
        progress.epoch, progress.step, progress.totals, progress.spent = progress.epoch + 1, 0, None, 0.0
        save(trainer, progress, run)
    return "finished"


def one_epoch(
    trainer: Trainer,
    batches: Batches,
    progress: Progress,
    goal: Goal,
    run: Run,
    stopped: Callable[[], bool],
) -> EpochReport | None:
    """One epoch from where it stands; None when it was stopped, with all saved."""
    began = time.perf_counter() - progress.spent
    trainer.enter(progress.epoch)
    totals = Totals(trainer.task, trainer.device, trainer.recipe.classes)
    if progress.totals:
        totals.restore(progress.totals)
    trainer.begin_training()
    for images, targets in batches.train(progress.epoch, progress.step):
        if stopped():
            interrupted(trainer, progress, totals, began, run)
            return None
        trainer.step(images, targets, totals)
        progress.step += 1
    scored = validate(trainer, batches, stopped) if is_validated(trainer.recipe, progress.epoch) else NOTHING
    if scored is None:
        interrupted(trainer, progress, totals, began, run)
        return None
    metrics = totals.scores("train") | scored.metrics
    seconds = time.perf_counter() - began
    check_finite(trainer.recipe, progress.epoch, metrics)
    lr = float(trainer.optimizer.param_groups[0]["lr"])  # the one this epoch was trained with
    advance(trainer.schedule, metrics.get("val_loss"))
    value = metrics.get(f"val_{goal.metric}")
    if value is not None:
        keep_best(trainer, progress, goal, value, scored, run)
    seen = totals.images + scored.images
    return EpochReport(
        epoch=progress.epoch,
        value=value,
        metrics=metrics,
        seconds=seconds,
        images_per_second=seen / seconds,
        peak_memory=memory.peak_bytes(trainer.device),
        lr=lr,
    )


def is_validated(recipe: Recipe, epoch: int) -> bool:
    """Every n-th epoch as the recipe says, and the last one always."""
    return epoch % recipe.validate_every == 0 or epoch == recipe.epochs


@dataclass(frozen=True)
class Scored:
    """What a pass over a split gave: metrics, the samples' predictions, the confusion matrix."""

    metrics: dict[str, float]
    samples: Tensor | None = None
    confusion: list[list[int]] | None = None
    images: int = 0


NOTHING = Scored({})


@torch.inference_mode()
def validate(
    trainer: Trainer, batches: Batches, stopped: Callable[[], bool] = lambda: False, prefix: str = "val"
) -> Scored | None:
    """Score the validation split; None when stopped."""
    trainer.model.eval()
    totals = Totals(trainer.task, trainer.device, trainer.recipe.classes, full=True)
    guess = locate("guess", {}, trainer.task.guess)
    wanted, kept, seen = set(sample_positions(len(batches.data.val))), [], 0
    for images, targets in batches.val():
        if stopped():
            return None
        for loss, logits, target in trainer.validate(images, targets):
            totals.add(loss, logits, target)
            here = [at for at in range(len(logits)) if seen + at in wanted]
            if here:
                kept.append(guess(logits[here]))
            seen += len(logits)
    matrix = totals.confusion(trainer.task.outputs(trainer.recipe))
    return Scored(totals.scores(prefix), torch.cat(kept).cpu(), matrix, seen)


def evaluate(
    recipe: Recipe,
    data: Cached,
    weights: Path,
    device: torch.device,
    micro_batches: memory.MicroBatches,
    shares: Callable[[], Sequence[float]],
) -> Scored:
    """Score saved weights on a split that is given as the validation split of `data`.

    `shares` are those of the classes in the training split: the loss is to be the one that was trained with.
    """
    with memory.told(recipe):
        trainer = Trainer(recipe, device, micro_batches, shares)
        checkpoint.load_weights(trainer.model, weights)
        scored = validate(trainer, batches_of(recipe, data, device), prefix="test")
    assert scored is not None  # nobody stops it
    return Scored(unprefixed(scored.metrics), scored.samples, scored.confusion, scored.images)


def unprefixed(metrics: dict[str, float]) -> dict[str, float]:
    return {name.partition("_")[2]: value for name, value in metrics.items()}


def sample_positions(number: int) -> list[int]:
    """Which validation images are shown: a few, spread evenly."""
    return sorted({int(at) for at in np.linspace(0, number - 1, min(number, NUM_SAMPLES))})


def keep_best(trainer: Trainer, progress: Progress, goal: Goal, value: float, scored: Scored, run: Run) -> None:
    """Keep the weights and predictions of the best epoch so far, of the stage at hand.

    A stage is judged by what it gives: were it measured against the one before, no second stage could ever
    come out worse than the first.
    """
    progress.last_value = value
    is_first = not progress.best_epoch or trainer.stage_of(progress.best_epoch) != trainer.stage
    if is_first or goal.better(value, progress.best_value):
        progress.best_value, progress.best_epoch = value, progress.epoch
        progress.samples, progress.confusion = scored.samples, scored.confusion
        checkpoint.save_weights(trainer.model, run.best)


def check_finite(recipe: Recipe, epoch: int, metrics: dict[str, float]) -> None:
    """A loss that is not a number ends the trial, with what led to it."""
    for name in ("train_loss", "val_loss"):
        if not math.isfinite(metrics.get(name, 0.0)):
            raise TrialFailed(
                f"{name} is {metrics[name]} at epoch {epoch} with {recipe.optimizer}, loss {recipe.loss}, "
                f"model {recipe.model}, {recipe.image_size} px"
            )


def interrupted(trainer: Trainer, progress: Progress, totals: Totals, began: float, run: Run) -> None:
    """Save in the middle of an epoch."""
    progress.totals, progress.spent = totals.state(), time.perf_counter() - began
    save(trainer, progress, run)


def save(trainer: Trainer, progress: Progress, run: Run) -> None:
    checkpoint.save(run, {**trainer.state(), "origin": trainer.origin, "progress": vars(progress).copy()})


def resume(trainer: Trainer, run: Run, start: Path | None, must_go_on: bool) -> Progress:
    """Continue from the run's checkpoint, or begin."""
    state = checkpoint.load(run, trainer.device)
    if state and state.get("origin") == trainer.origin:
        trainer.restore(state)
        return Progress(**state["progress"])
    if must_go_on:
        why = "the recipe or the data is no longer the one it was written for" if state else "it cannot be read"
        raise TrialFailed(f"it goes on from a checkpoint, and cannot: {why} ({run.checkpoint})")
    if state:
        log.warning("the recipe or the data is not the checkpoint's: beginning anew")
    try:
        return Progress(carried=begin_from(trainer.model, trainer.recipe, start))
    except PartError as error:
        raise TrialFailed(str(error)) from error
