"""The training loop: epochs of training and validation, the best weights kept, resumable at any step."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from itertools import count
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from tuner.data.batches import Batches
from tuner.data.cache import CachedDataset
from tuner.errors import FailureKind, PartError, TrialFailed
from tuner.goal import Goal
from tuner.paths import Run
from tuner.recipe import Recipe
from tuner.train import checkpoint, memory
from tuner.train.details import choose_examples, unique_positions
from tuner.train.predictions import ExamplePredictions, add_frame
from tuner.train.schedules import step_schedule
from tuner.train.totals import Totals, list_scores
from tuner.train.trainer import Trainer
from tuner.train.validation import make_batches, predict_images, validate
from tuner.train.weights import load_initial_weights

StopCheck = Callable[[], Literal["", "stopped", "pruned", "paused"]]
log = logging.getLogger("tuner")


@dataclass(frozen=True)
class EpochReport:
    """The results of one epoch. `metrics` are named 'train_loss', 'val_iou', ..."""

    epoch: int  # from 1
    value: float | None  # the goal's metric; None in an epoch without validation
    metrics: dict[str, float]
    seconds: float
    images_per_second: float
    peak_memory: int  # bytes
    lr: float


@dataclass
class Progress:
    """The state of a trial that a checkpoint holds beside the trainer's. Field names are stored."""

    epoch: int = 1  # the current epoch
    step: int = 0  # steps of it done
    best_value: float | None = None
    best_epoch: int = 0
    last_value: float | None = None
    partial: tuple[float, float] | None = None  # a part of the first epoch, and the goal's metric after it
    confusion: list[list[int]] | None = None  # at the best epoch: a row for each true class
    each: Tensor | None = None  # at the best epoch: the score of each validation image
    histogram: Tensor | None = None  # at the best epoch: counts of right and wrong by probability
    ranking: dict[str, Any] | None = None  # at the best epoch: of predicted instances
    answers: dict[int, Tensor] | None = None  # at the best epoch: predictions for the example images, by position
    frames: dict[int, Tensor] = field(default_factory=dict)  # predictions for the first validation image, by epoch
    carried: str = ""  # summary of the initial weights
    totals: dict[str, Any] | None = None  # of the current epoch
    spent: float = 0.0  # seconds of the current epoch before an interruption
    history: list[dict[str, Any]] = field(default_factory=list)  # every finished epoch's report

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Progress:
        """Restore from a checkpoint of any version; unknown fields are ignored."""
        return cls(**{each.name: state[each.name] for each in fields(cls) if each.name in state})

    @property
    def scores(self) -> list[float | None]:
        """The score of each validation image at the best epoch; None where it has none."""
        return [] if self.each is None else list_scores(self.each)

    @property
    def best_mark(self) -> str:
        return f"{self.best_epoch} {self.best_value!r}"


@dataclass
class CheckpointSchedule:
    """When to write checkpoints: after every epoch, or every so many minutes, also within epochs."""

    minutes: float | None = None
    on_saved: Callable[[], None] = lambda: None  # called after each checkpoint
    last: float = field(default_factory=time.monotonic)

    def is_due(self, between: bool = False) -> bool:
        """Return whether to save now, `between` two epochs or within one."""
        if self.minutes is None:
            return between
        return time.monotonic() - self.last >= 60 * self.minutes

    def mark_saved(self) -> None:
        self.last = time.monotonic()
        self.on_saved()


@dataclass(frozen=True)
class TrainingOutcome:
    """How a trial ended: "finished" or as `check_stop` said; `model` has the best weights unless stopped."""

    end: str
    progress: Progress = field(repr=False)
    dtype: str
    micro: int
    model: nn.Module | None = field(default=None, repr=False)
    examples: ExamplePredictions | None = field(default=None, repr=False)


def train(
    recipe: Recipe,
    goal: Goal,
    data: CachedDataset,
    run: Run,
    *,
    device: torch.device,
    micro_batches: memory.MicroBatches,
    on_epoch: Callable[[EpochReport], None],
    check_stop: StopCheck = lambda: "",
    initial_weights: Path | None = None,
    must_resume: bool = False,
    on_resume: Callable[[list[EpochReport]], None] = lambda reports: None,
    saving: CheckpointSchedule | None = None,
    on_frame: Callable[[Progress], None] = lambda progress: None,
    part: float = 0.0,
    on_partial: Callable[[float], None] = lambda value: None,
    on_step: Callable[[int, int], None] = lambda done, of: None,
) -> TrainingOutcome:
    """Train from scratch or from the run's checkpoint; `on_epoch` is called after every epoch.

    `check_stop` is called before every step: "" continues, "stopped" saves everything and ends, "pruned" ends
    with the results so far, "paused" does both; an exception it raises ends the training without saving.
    `initial_weights` is the file for the recipe's `weights` where these name one. With `must_resume`, a checkpoint
    that cannot be resumed fails the trial. `on_resume` gets the reports of the epochs in the checkpoint, since not
    all of them may be recorded yet. `on_frame` is called for each new frame, before `on_epoch`. After that `part`
    of the steps of the first epoch, the model is validated, which changes nothing else, and `on_partial` is called
    with the goal's metric; again when the training is resumed. `on_step` is called after each training batch of an
    epoch, and before each of its validation batches, with the number of both that are done and that there are.
    """
    batches = make_batches(recipe, data, device)
    memory.reset_peak(device)
    with memory.fail_trial_on_oom(recipe):
        trainer = Trainer(recipe, device, micro_batches, lambda: data.shares())
        settings = recipe.with_epochs(0).to_json()  # without the number of epochs: a trial can be extended
        trainer.origin = f"{data.fingerprint} {json.dumps(settings, sort_keys=True)}"
        progress = resume(trainer, run, initial_weights, must_resume)
        if progress.partial:
            on_partial(progress.partial[1])
        on_resume([EpochReport(**report) for report in progress.history])
        training = TrainingRun(
            trainer,
            batches,
            progress,
            goal,
            run,
            check_stop,
            saving or CheckpointSchedule(),
            part,
            on_partial,
            on_step,
        )
        end = training.run_epochs(on_epoch, on_frame)
        shown = load_best_examples(training) if end != "stopped" else None
    model = trainer.model if shown else None
    return TrainingOutcome(end, progress, str(trainer.dtype).removeprefix("torch."), trainer.micro, model, shown)


def load_best_examples(training: TrainingRun) -> ExamplePredictions | None:
    """Load the best weights and return their example predictions; None if no image has a score."""
    progress = training.progress
    if progress.each is None:
        return None
    checkpoint.load_weights(training.trainer.model, training.run.best)
    training.trainer.model.eval()
    chosen = choose_examples(progress.scores)
    positions = unique_positions(chosen)
    answers = progress.answers or {}
    if missing := [at for at in positions if at not in answers]:  # too large to keep, or of an earlier checkpoint
        answers = {**answers, **predict_images(training.trainer, training.batches, missing)}
    return ExamplePredictions(chosen, {at: answers[at].numpy() for at in positions})


class StopTraining(Exception):
    """End a training within an epoch; `end` is "stopped", "pruned" or "paused"."""

    def __init__(self, end: str) -> None:
        super().__init__(end)
        self.end = end


@dataclass
class TrainingRun:
    """The parts of one running training, and its current epoch."""

    trainer: Trainer
    batches: Batches
    progress: Progress
    goal: Goal
    run: Run
    check_stop: StopCheck
    saving: CheckpointSchedule
    part: float = 0.0  # of the first epoch, after which it is scored
    on_partial: Callable[[float], None] = lambda value: None
    on_step: Callable[[int, int], None] = lambda done, of: None
    totals: Totals = field(init=False)  # of the training batches
    began: float = 0.0
    saved_at: tuple[int, int] = (0, 0)  # epoch and step of the last checkpoint

    def run_epochs(self, on_epoch: Callable[[EpochReport], None], on_frame: Callable[[Progress], None]) -> str:
        """Run epoch after epoch, with checkpoints; return how it ended."""
        progress, last = self.progress, self.trainer.recipe.epochs
        while progress.epoch <= last:
            try:
                report = self.run_epoch()
            except StopTraining as stop:
                is_saved = self.saved_at == (progress.epoch, progress.step) == (progress.epoch, 0)
                if stop.end in ("stopped", "paused") and not is_saved:  # the trial is to continue later
                    self.save_within_epoch()
                return stop.end
            progress.history.append(asdict(report))
            if report.epoch in progress.frames:
                on_frame(progress)
            on_epoch(report)
            progress.epoch, progress.step, progress.totals, progress.spent = progress.epoch + 1, 0, None, 0.0
            if progress.epoch > last or self.saving.is_due(between=True):
                self.save_checkpoint()
        return "finished"

    def run_epoch(self) -> EpochReport:
        """Run one epoch from its current step, and validate every n-th epoch and the last."""
        trainer, progress, epoch = self.trainer, self.progress, self.progress.epoch
        self.began = time.perf_counter() - progress.spent
        trainer.enter_stage(epoch)
        self.totals = Totals(trainer.task, trainer.device, trainer.recipe.classes)
        if progress.totals:
            self.totals.restore(progress.totals)
        trainer.set_train_mode()
        is_validated = epoch % trainer.recipe.validate_every == 0 or epoch == trainer.recipe.epochs
        steps = self.batches.num_steps() + self.batches.num_val_steps() * is_validated
        for images, targets in self.batches.train(epoch, progress.step):
            self.raise_if_stopped()
            if self.is_partial_due():
                self.score_part()
            if self.saving.is_due():
                self.save_within_epoch()
            trainer.step(images, targets, self.totals)
            progress.step += 1
            self.on_step(progress.step, steps)
        if self.is_partial_due():  # the epoch has one step
            self.score_part()
        scored = validate(trainer, self.batches, self.count_validation(steps)) if is_validated else None
        metrics = self.totals.scores("train_") | (scored.scores("val_") if scored else {})
        seconds = time.perf_counter() - self.began
        check_finite(trainer.recipe, epoch, metrics)
        lr = float(trainer.optimizer.param_groups[0]["lr"])  # of this epoch, before the schedule's step
        step_schedule(trainer.schedule, metrics.get("val_loss"))
        value = metrics.get(f"val_{self.goal.metric}")
        if scored and value is not None:
            self.update_best(value, scored)
        if scored and scored.predictions.frame is not None:
            progress.frames = add_frame(progress.frames, epoch, scored.predictions.frame, progress.best_epoch)
        return EpochReport(
            epoch=epoch,
            value=value,
            metrics=metrics,
            seconds=seconds,
            images_per_second=(self.totals.images + (scored.images if scored else 0)) / seconds,
            peak_memory=memory.peak_bytes(trainer.device),
            lr=lr,
        )

    def is_partial_due(self) -> bool:
        """Return whether the part of the first epoch is trained that is to be scored, and was not yet."""
        progress = self.progress
        if not self.part or progress.partial or progress.epoch > 1:
            return False
        steps = self.batches.num_steps()
        return progress.step >= max(1, min(round(self.part * steps), steps - 1))

    def score_part(self) -> None:
        """Validate within the first epoch. It changes nothing of the training, nor the seconds of the epoch."""
        began, states = time.perf_counter(), checkpoint.get_random_states()
        try:
            scores = validate(self.trainer, self.batches, self.raise_if_stopped).scores("val_")
        finally:  # a stop meanwhile saves the random states
            checkpoint.restore_random(states)
            self.trainer.set_train_mode()
            self.began += time.perf_counter() - began
        self.progress.partial = self.part, scores.get(f"val_{self.goal.metric}", math.nan)
        self.on_partial(self.progress.partial[1])

    def count_validation(self, steps: int) -> Callable[[], None]:
        """Return what is called before each validation batch of an epoch of so many batches."""
        done = count(self.progress.step)

        def before_batch() -> None:
            self.raise_if_stopped()
            self.on_step(next(done), steps)

        return before_batch

    def raise_if_stopped(self) -> None:
        if end := self.check_stop():
            raise StopTraining(end)

    def update_best(self, value: float, totals: Totals) -> None:
        """Keep weights and scores of the best epoch of the current stage.

        A stage is compared with itself only: against earlier stages, a later one could never give a worse result.
        """
        trainer, progress = self.trainer, self.progress
        progress.last_value = value
        is_first = not progress.best_epoch or trainer.stage_of(progress.best_epoch) != trainer.stage
        if is_first or self.goal.is_better(value, progress.best_value):
            progress.best_value, progress.best_epoch = value, progress.epoch
            progress.confusion, progress.histogram = totals.confusion(), totals.histogram()
            progress.each, progress.ranking = totals.image_scores(), totals.ranking()
            shown = unique_positions(choose_examples(progress.scores))
            progress.answers = totals.predictions.select(shown)
            checkpoint.save_weights(trainer.model, self.run.best, progress.best_mark)

    def save_within_epoch(self) -> None:
        self.progress.totals, self.progress.spent = self.totals.state(), time.perf_counter() - self.began
        self.save_checkpoint()

    def save_checkpoint(self) -> None:
        trainer = self.trainer
        progress = vars(self.progress).copy()
        checkpoint.save(self.run, {**trainer.state(), "origin": trainer.origin, "progress": progress})
        self.saved_at = self.progress.epoch, self.progress.step
        self.saving.mark_saved()


def check_finite(recipe: Recipe, epoch: int, metrics: dict[str, float]) -> None:
    """Fail the trial if a loss is not finite, with the settings that led to it."""
    for name in ("train_loss", "val_loss"):
        if not math.isfinite(metrics.get(name, 0.0)):
            raise TrialFailed(
                FailureKind.LOSS_NOT_FINITE,
                f"{name} is {metrics[name]} at epoch {epoch} with {recipe.optimizer}, loss {recipe.loss}, "
                f"model {recipe.model}, {recipe.image_size} px",
            )


def resume(trainer: Trainer, run: Run, initial_weights: Path | None, must_resume: bool) -> Progress:
    """Continue from the run's checkpoint, or start from the initial weights."""

    def has_best(state: dict[str, Any]) -> bool:
        """Return whether the best weights of a checkpoint exist; the file may hold newer ones."""
        progress = Progress.from_state(state["progress"])
        return not progress.best_epoch or run.restore_best(progress.best_mark)

    state = checkpoint.load(run, has_best)
    if state and state.get("origin") == trainer.origin:
        trainer.restore(state)
        return Progress.from_state(state["progress"])
    if must_resume:
        why = "the recipe or the data has changed" if state else "it is missing or cannot be read"
        message = f"cannot continue from the checkpoint {run.checkpoint}: {why}"
        raise TrialFailed(FailureKind.CHECKPOINT, message)
    if state:
        log.warning("the recipe or the data differs from the checkpoint's: starting from scratch")
    try:
        return Progress(carried=load_initial_weights(trainer.model, trainer.recipe, initial_weights))
    except PartError as error:
        raise TrialFailed(FailureKind.WEIGHTS, str(error)) from error
