"""The loop: epochs of training and validation, the best weights kept, every stop survived."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tuner.data.batches import Batches
from tuner.data.cache import Cached
from tuner.errors import FailureKind, PartError, TrialFailed
from tuner.goal import Goal
from tuner.paths import Run
from tuner.recipe import Recipe
from tuner.train import checkpoint, memory
from tuner.train.answers import Shown, kept, scores_of, show, with_frame
from tuner.train.optimizers import advance
from tuner.train.totals import Totals
from tuner.train.trainer import Trainer
from tuner.train.validation import NOTHING, Says, Scored, batches_of, validate
from tuner.train.weights import begin_from

log = logging.getLogger("tuner")


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
    confusion: list[list[int]] | None = None  # at the best epoch: a row for each true class
    each: Tensor | None = None  # at the best epoch: the score of each validation image
    histogram: Tensor | None = None  # at the best epoch: how often each probability was right and wrong
    ranking: dict[str, Any] | None = None  # at the best epoch: of found instances
    answers: dict[int, Tensor] | None = None  # at the best epoch: to the images that are shown, by position
    frames: dict[int, Tensor] = field(default_factory=dict)  # the first validation image's guess, by epoch
    carried: str = ""  # what came over from earlier weights
    totals: dict[str, Any] | None = None  # of the epoch under way
    spent: float = 0.0  # seconds of the epoch under way before an interruption
    history: list[dict[str, Any]] = field(default_factory=list)  # every finished epoch's report

    @classmethod
    def restored(cls, state: dict[str, Any]) -> Progress:
        """As a checkpoint has it, of an earlier or a later version too: what is not known is left out."""
        known = {name: state[name] for name in (each.name for each in fields(cls)) if name in state}
        frames = {int(epoch): frame.cpu() for epoch, frame in known.pop("frames", {}).items()}
        counted = {name: known.pop(name).cpu() for name in ("each", "histogram") if known.get(name) is not None}
        answers = known.pop("answers", None)
        answers = answers and {int(at): said.cpu() for at, said in answers.items()}
        return cls(**known, **counted, frames=frames, answers=answers)

    @property
    def scores(self) -> list[float | None]:
        """Of each validation image at the best epoch; None where there was nothing to score."""
        return scores_of(self.each)

    @property
    def mark(self) -> str:
        """What the weights of the best epoch so far are marked with."""
        return f"{self.best_epoch} {self.best_value!r}"


@dataclass
class Saving:
    """When to write checkpoints: after every epoch, or every so many minutes, within epochs too."""

    minutes: float | None = None
    kept: Callable[[], None] = lambda: None  # told of each that was written
    last: float = field(default_factory=time.monotonic)

    def is_due(self, between: bool = False) -> bool:
        """Whether to save now, `between` two epochs or within one."""
        if self.minutes is None:
            return between
        return time.monotonic() - self.last >= 60 * self.minutes

    def saved(self) -> None:
        self.last = time.monotonic()
        self.kept()


@dataclass(frozen=True)
class Outcome:
    """How a trial ended: "finished", "pruned" or "stopped" (to go on later); else with its best weights."""

    end: str
    progress: Progress = field(repr=False)
    dtype: str
    micro: int
    model: nn.Module | None = field(default=None, repr=False)
    shown: Shown | None = field(default=None, repr=False)


def train(
    recipe: Recipe,
    goal: Goal,
    data: Cached,
    run: Run,
    *,
    device: torch.device,
    micro_batches: memory.MicroBatches,
    on_epoch: Callable[[EpochReport], None],
    says: Says = lambda: "",
    start: Path | None = None,
    must_go_on: bool = False,
    on_resume: Callable[[list[EpochReport]], None] = lambda reports: None,
    saving: Saving | None = None,
    on_frame: Callable[[Progress], None] = lambda progress: None,
) -> Outcome:
    """Train from scratch or from the run's checkpoint, telling `on_epoch` of every epoch.

    `says` is asked before every step: "" is to go on, "stopped" to save all and end, "pruned" to end with what
    there is. Whatever it raises ends the training as it stands. `start` is the file of the recipe's `weights`,
    where they are neither ImageNet's nor none. With `must_go_on`, a checkpoint that cannot be gone on from fails
    the trial. `on_resume` gets the epochs that the checkpoint holds: not all may have been recorded. `on_frame`
    is told of each new frame, before its epoch is.
    """
    batches = batches_of(recipe, data, device)
    memory.reset_peak(device)
    with memory.told(recipe):
        trainer = Trainer(recipe, device, micro_batches, lambda: data.shares())
        trainer.origin = origin(recipe, data)
        progress = resume(trainer, run, start, must_go_on)
        on_resume([EpochReport(**report) for report in progress.history])
        work = Work(trainer, batches, progress, goal, run, says, saving or Saving(), on_frame)
        end = epochs(work, on_epoch)
        shown = look_back(work) if end != "stopped" else None
    model = trainer.model if shown else None
    return Outcome(end, progress, str(trainer.dtype).removeprefix("torch."), trainer.micro, model, shown)


def look_back(work: Work) -> Shown | None:
    """With the best weights: what they say of a few images. None where no epoch was validated.

    A best epoch of an earlier version kept no scores to choose by.
    """
    progress = work.progress
    if progress.each is None:
        return None
    checkpoint.load_weights(work.trainer.model, work.run.best)
    work.trainer.model.eval()
    if progress.answers is not None:
        return kept(progress.answers, progress.scores)
    return show(work.trainer, work.batches, progress.scores)


def origin(recipe: Recipe, data: Cached) -> str:
    """What is trained on what. How long does not matter: a finished trial can be trained longer."""
    return f"{data.fingerprint} {json.dumps(recipe.with_epochs(0).to_json(), sort_keys=True)}"


@dataclass
class Work:
    """One training under way."""

    trainer: Trainer
    batches: Batches
    progress: Progress
    goal: Goal
    run: Run
    says: Says
    saving: Saving
    on_frame: Callable[[Progress], None]


def epochs(work: Work, on_epoch: Callable[[EpochReport], None]) -> str:
    """Epoch after epoch, with checkpoints; how it ended."""
    progress, last = work.progress, work.trainer.recipe.epochs
    while progress.epoch <= last:
        report = one_epoch(work)
        if isinstance(report, str):
            return report
        progress.history.append(asdict(report))
        if report.epoch in progress.frames:
            work.on_frame(progress)
        on_epoch(report)
        progress.epoch, progress.step, progress.totals, progress.spent = progress.epoch + 1, 0, None, 0.0
        if progress.epoch > last or work.saving.is_due(between=True):
            save(work)
    return "finished"


def one_epoch(work: Work) -> EpochReport | str:
    """One epoch from where it stands, or why it was left: "stopped", with all saved, or "pruned"."""
    trainer, progress = work.trainer, work.progress
    began = time.perf_counter() - progress.spent
    trainer.enter(progress.epoch)
    totals = Totals(trainer.task, trainer.device, trainer.recipe.classes)
    if progress.totals:
        totals.restore(progress.totals)
    trainer.begin_training()
    for images, targets in work.batches.train(progress.epoch, progress.step):
        if said := work.says():
            return left(work, said, totals, began)
        if work.saving.is_due():
            save_within(work, totals, began)
        trainer.step(images, targets, totals)
        progress.step += 1
    scored = (
        validate(trainer, work.batches, work.says) if is_validated(trainer.recipe, progress.epoch) else NOTHING
    )
    if isinstance(scored, str):
        return left(work, scored, totals, began)
    metrics = totals.scores("train") | scored.metrics
    seconds = time.perf_counter() - began
    check_finite(trainer.recipe, progress.epoch, metrics)
    lr = float(trainer.optimizer.param_groups[0]["lr"])  # the one this epoch was trained with
    advance(trainer.schedule, metrics.get("val_loss"))
    value = metrics.get(f"val_{work.goal.metric}")
    if value is not None:
        keep_best(work, value, scored)
    if scored.frame is not None:
        progress.frames = with_frame(progress.frames, progress.epoch, scored.frame, progress.best_epoch)
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


def keep_best(work: Work, value: float, scored: Scored) -> None:
    """Keep the weights and scores of the best epoch so far, of the stage at hand.

    A stage is judged by what it gives: were it measured against the one before, no second stage could ever
    come out worse than the first.
    """
    trainer, progress = work.trainer, work.progress
    progress.last_value = value
    is_first = not progress.best_epoch or trainer.stage_of(progress.best_epoch) != trainer.stage
    if is_first or work.goal.is_better(value, progress.best_value):
        progress.best_value, progress.best_epoch = value, progress.epoch
        progress.confusion, progress.each, progress.histogram = scored.confusion, scored.each, scored.histogram
        progress.ranking, progress.answers = scored.ranking, scored.answers.shown(progress.scores)
        checkpoint.save_weights(trainer.model, work.run.best, progress.mark)


def check_finite(recipe: Recipe, epoch: int, metrics: dict[str, float]) -> None:
    """A loss that is not a number ends the trial, with what led to it."""
    for name in ("train_loss", "val_loss"):
        if not math.isfinite(metrics.get(name, 0.0)):
            raise TrialFailed(
                FailureKind.LOSS_NOT_FINITE,
                f"{name} is {metrics[name]} at epoch {epoch} with {recipe.optimizer}, loss {recipe.loss}, "
                f"model {recipe.model}, {recipe.image_size} px",
            )


def left(work: Work, said: str, totals: Totals, began: float) -> str:
    """Leave in the middle of an epoch: a trial that goes on later is saved."""
    if said == "stopped":
        save_within(work, totals, began)
    return said


def save_within(work: Work, totals: Totals, began: float) -> None:
    """Save in the middle of an epoch."""
    work.progress.totals, work.progress.spent = totals.state(), time.perf_counter() - began
    save(work)


def save(work: Work) -> None:
    trainer, progress = work.trainer, work.progress
    checkpoint.save(work.run, {**trainer.state(), "origin": trainer.origin, "progress": vars(progress).copy()})
    work.saving.saved()


def has_best(run: Run, progress: Progress) -> bool:
    """Whether the best weights of a checkpoint are there; there may be newer ones beside it."""
    return not progress.best_epoch or run.find_best(progress.mark)


def resume(trainer: Trainer, run: Run, start: Path | None, must_go_on: bool) -> Progress:
    """Continue from the run's checkpoint, or begin."""
    state = checkpoint.load(run, trainer.device, lambda state: has_best(run, Progress.restored(state["progress"])))
    if state and state.get("origin") == trainer.origin:
        trainer.restore(state)
        return Progress.restored(state["progress"])
    if must_go_on:
        why = "the recipe or the data is no longer the one it was written for" if state else "it cannot be read"
        message = f"it goes on from a checkpoint, and cannot: {why} ({run.checkpoint})"
        raise TrialFailed(FailureKind.CHECKPOINT, message)
    if state:
        log.warning("the recipe or the data is not the checkpoint's: beginning anew")
    try:
        return Progress(carried=begin_from(trainer.model, trainer.recipe, start))
    except PartError as error:
        raise TrialFailed(FailureKind.WEIGHTS, str(error)) from error
