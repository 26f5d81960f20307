"""The parts of one trial, model, loss, optimizer and schedule, and how they make a step."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tuner.data.instances import Instances, instance_ids
from tuner.errors import FailureKind, PartError, TrialFailed, first_line
from tuner.models import MODELS
from tuner.recipe import Recipe
from tuner.registry import build, find_builder
from tuner.tasks import Task, find_task
from tuner.train import checkpoint
from tuner.train.losses import LOSSES
from tuner.train.memory import MicroBatches, is_out_of_memory, release
from tuner.train.precision import resolve_dtype
from tuner.train.schedules import SCHEDULES, Schedule, apply_schedule
from tuner.train.stages import freeze, make_optimizer
from tuner.train.totals import Totals
from tuner.wording import pluralize

CHANNELS = 3
MEAN = (123.675, 116.28, 103.53)  # of ImageNet, in bytes, as pretrained encoders expect
STD = (58.395, 57.12, 57.375)
BATCH_NORM_ERROR = "more than 1 value per channel"  # error message of a batch norm trained on a single value
PieceResult = tuple[Tensor, Any, Tensor]  # loss, output (logits or instances), target
log = logging.getLogger("tuner")


class Trainer:
    """Built from a recipe and its seed; the same recipe gives the same weights and steps."""

    def __init__(
        self,
        recipe: Recipe,
        device: torch.device,
        micro_batches: MicroBatches,
        shares: Callable[[], Sequence[float]] = list,  # of each class in the training targets
    ) -> None:
        checkpoint.seed_all(recipe.seed)
        self.recipe, self.device, self.micro_batches = recipe, device, micro_batches
        self.task: Task = find_task(recipe.task)
        self.target = find_builder("target", {}, self.task.target)
        self.dtype = resolve_dtype(recipe.precision, device)
        self.model = build_model(recipe, self.task).to(device).to(memory_format=torch.channels_last)
        self.trainable = {name for name, p in self.model.named_parameters() if p.requires_grad}
        self.learn: Callable[..., None] | None = getattr(self.model, "learn", None)  # replaces the gradient step
        self.own_losses: Callable[..., Any] | None = getattr(self.model, "losses", None)
        self.find: Callable[..., Any] | None = (
            getattr(self.model, "instances", None) if self.task.has_instances else None
        )
        self.loss = build("loss", LOSSES, recipe.loss, self.task.name, shares)
        if isinstance(self.loss, nn.Module):
            self.loss.to(device)
        self.micro = micro_batches.size_for(recipe, device)
        self.normalise = make_normalizer(device)
        self.origin = ""  # a checkpoint of another origin is not used
        self.ends = list(accumulate(stage.epochs for stage in recipe.resolved_stages))
        self.stage = -1
        self.enter_stage(1)

    def enter_stage(self, epoch: int) -> None:
        """Start the stage of an epoch, unless it is the current one: frozen modules, optimizer, schedule."""
        at = self.stage_of(epoch)
        if at == self.stage:
            return
        stage = self.recipe.resolved_stages[at]
        self.stage = at
        self.frozen_modules = freeze(self.model, stage.frozen, self.trainable)
        self.optimizer: torch.optim.Optimizer = make_optimizer(self.model, self.recipe.optimizer, stage)
        self.schedule: Schedule = build(
            "schedule", SCHEDULES, stage.schedule or self.recipe.schedule, self.optimizer, stage.epochs
        )

    def stage_of(self, epoch: int) -> int:
        return next((at for at, end in enumerate(self.ends) if epoch <= end), len(self.ends) - 1)

    def set_train_mode(self) -> None:
        """Set training mode, except for frozen modules, which keep their batch-norm statistics."""
        self.model.train()
        for module in self.frozen_modules:
            module.eval()

    def step(self, images: Tensor, targets: Tensor, totals: Totals) -> None:
        """Make one optimizer step on a batch of bytes, in smaller pieces if it does not fit."""
        done = self.run_in_pieces(lambda: self.forward_backward(images, targets))
        if self.learn:
            self.learn(images, torch.cat([target for _, _, target in done]))
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        for loss, answer, target in done:
            totals.add(loss, answer, target)

    def validate(self, images: Tensor, targets: Tensor) -> list[PieceResult]:
        """Return loss and output of a validation batch, piece by piece; for instances, the instances."""
        return self.run_in_pieces(
            lambda: [self.find_instances(self.compute_loss(*piece)) for piece in self.split_batch(images, targets)]
        )

    def find_instances(self, scored: PieceResult) -> PieceResult:
        loss, answer, target = scored
        if self.find is None:
            return scored
        found = self.find(answer)
        if wrong := instances_problem(found, target):
            given = f"model '{self.recipe.model.name}': instances() returns {wrong}"
            raise TrialFailed(FailureKind.INSTANCES, given)
        return loss, found, target

    def run_in_pieces(self, work: Callable[[], list[PieceResult]]) -> list[PieceResult]:
        """Return the result of `work`, retried with smaller pieces whenever it runs out of memory."""
        while True:
            try:
                return work()
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                failed = first_line(error)
            except ValueError as error:
                if BATCH_NORM_ERROR not in str(error):
                    raise
                raise TrialFailed(
                    FailureKind.BATCH_NORM,
                    f"{self.recipe.model} has a batch norm with one value per channel in a micro-batch of "
                    f"{pluralize(self.micro, 'image')} of {self.recipe.image_size} px; use larger batches or "
                    "images, or another model",
                ) from error
            self.optimizer.zero_grad(set_to_none=True)  # outside the handler, whose traceback holds tensors
            self.halve_micro_batch(failed)

    def forward_backward(self, images: Tensor, targets: Tensor) -> list[PieceResult]:
        """Compute gradients of the whole batch, piece by piece, weighted by the number of images."""
        done = []
        for piece, truth in self.split_batch(images, targets):
            loss, answer, target = self.compute_loss(piece, truth)
            if not self.learn:
                (loss * (len(piece) / len(images))).backward()
            done.append((loss.detach(), answer.detach() if isinstance(answer, Tensor) else answer, target))
        return done

    def split_batch(self, images: Tensor, targets: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Split into pieces of at most the micro-batch, as equal as possible, so that no image is alone."""
        whole = self.micro >= self.recipe.batch_size
        number = 1 if whole else -(-len(images) // self.micro)
        return zip(images.tensor_split(number), targets.tensor_split(number), strict=True)

    def compute_loss(self, images: Tensor, targets: Tensor) -> PieceResult:
        """Return the loss with the output, logits in fp32, and the target it was computed from."""
        batch = self.normalise(images.to(self.device, non_blocking=True))
        target = self.target(targets.to(self.device, non_blocking=True))
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not torch.float32):
            answer = self.own_losses(batch, target) if self.own_losses else self.model(batch)
        if self.own_losses:
            parts, answer = answer
            return self.loss(parts, target), answer, target
        logits = answer.float()
        return self.loss(logits, target), logits, target

    def halve_micro_batch(self, failed: str) -> None:
        """Halve the micro-batch from now on, and store it for later trials of the same kind."""
        if self.micro == 1:
            message = f"out of memory with a single image of {self.recipe.image_size} px: {failed}"
            raise TrialFailed(FailureKind.OUT_OF_MEMORY, message)
        self.micro = -(-self.micro // 2)
        release(self.device)
        self.micro_batches.remember(self.recipe, self.device, self.micro)
        log.warning(
            "out of memory: continuing with micro-batches of %d, the effective batch size is unchanged", self.micro
        )

    def state(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "stage": self.stage,
            "micro": self.micro,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Restore a checkpoint; at the border of two stages, the next one starts with a fresh optimizer."""
        self.model.load_state_dict(state["model"])
        self.enter_stage(state["progress"]["epoch"])
        if state.get("stage", 0) == self.stage:
            self.optimizer.load_state_dict(state["optimizer"])
            self.schedule.load_state_dict(state["schedule"])
            apply_schedule(self.schedule)  # an extended training continues on its own curve
            self.optimizer._opt_called = True  # type: ignore[attr-defined]  # torch did not see the earlier steps
        self.micro = state["micro"]
        checkpoint.restore_random(state["random"])


def instances_problem(found: Any, target: Tensor) -> str:
    """Return what is wrong with the instances of a model, which may be user code, or ""."""
    if not isinstance(found, list) or len(found) != len(target):
        return f"{type(found).__name__}; a list of {len(target)} is needed, one for each image"
    for one in found:
        if not isinstance(one, Instances):
            return f"{type(one).__name__}; tuner.data.instances.Instances is needed for each image"
        if one.labels.shape != tuple(target.shape[-2:]) or one.labels.dtype != np.int32:
            shape = " x ".join(map(str, one.labels.shape))
            return f"labels of {shape} {one.labels.dtype}; {target.shape[-2]} x {target.shape[-1]} int32 is needed"
        if one.labels.min(initial=0) < 0:
            return f"an instance with the number {one.labels.min()}; 0 is background, and instances start at 1"
        scores = one.scores
        if not isinstance(scores, np.ndarray) or scores.ndim != 1 or scores.dtype.kind != "f":
            return f"scores that are {type(scores).__name__}; a one-dimensional numpy array of floats is needed"
        number, highest = len(instance_ids(one.labels)), one.labels.max(initial=0)
        if not len(scores) == number == highest:
            return f"{pluralize(len(scores), 'score')} for {pluralize(number, 'instance')} up to {highest}"
        if not np.isfinite(scores).all():
            return "a score that is not finite"
    return ""


def build_model(recipe: Recipe, task: Task) -> nn.Module:
    model: nn.Module = build("model", MODELS, recipe.model, CHANNELS, task.num_outputs(recipe))
    if not isinstance(model, nn.Module):
        raise PartError(
            f"model '{recipe.model.name}' returns {type(model).__name__}; a torch.nn.Module is needed."
        )
    return model


def make_normalizer(device: torch.device) -> Callable[[Tensor], Tensor]:
    """Return a function from bytes (number, height, width, 3) to floats (number, 3, height, width), channels last.

    It works on rows of pixels: broadcasting over three channels is six times slower on a CPU.
    """
    mean = torch.tensor(MEAN, device=device)
    scale = 1 / torch.tensor(STD, device=device)

    def normalise(images: Tensor) -> Tensor:
        width = images.shape[2]
        rows = images.to(torch.float32, copy=True).flatten(2)
        rows.sub_(mean.repeat(width)).mul_(scale.repeat(width))
        return rows.view(images.shape).permute(0, 3, 1, 2)

    return normalise
