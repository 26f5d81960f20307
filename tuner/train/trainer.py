"""The moving parts of one trial: model, loss, optimizer, schedule, and how a step is made of them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from tuner.errors import TrialFailed
from tuner.losses import LOSSES
from tuner.models import MODELS
from tuner.optims import OPTIMIZERS, SCHEDULES, Schedule
from tuner.parts import build
from tuner.recipe import Recipe
from tuner.tasks import Task, find_task
from tuner.train import checkpoint
from tuner.train.memory import MicroBatches, is_out_of_memory, release, said
from tuner.train.precision import resolve
from tuner.train.scoring import Totals

CHANNELS = 3
MEAN = (123.675, 116.28, 103.53)  # of ImageNet, in bytes: what pretrained encoders expect
STD = (58.395, 57.12, 57.375)
Scored = tuple[Tensor, Tensor, Tensor]  # loss, logits, target
log = logging.getLogger("tuner")


class Trainer:
    """Built from a recipe and its seed; the same recipe gives the same weights and the same steps."""

    def __init__(self, recipe: Recipe, device: torch.device, micro_batches: MicroBatches) -> None:
        checkpoint.seed_all(recipe.seed)
        self.recipe, self.device, self.micro_batches = recipe, device, micro_batches
        self.task: Task = find_task(recipe.task)
        self.dtype = resolve(recipe.precision, device)
        self.model = build_model(recipe, self.task).to(device).to(memory_format=torch.channels_last)
        self.loss = build("loss", LOSSES, recipe.loss, self.task.name)
        self.optimizer: torch.optim.Optimizer = build(
            "optimizer", OPTIMIZERS, recipe.optimizer, self.model.parameters()
        )
        self.schedule: Schedule = build("schedule", SCHEDULES, recipe.schedule, self.optimizer, recipe.epochs)
        self.micro = micro_batches.known(recipe, device)
        self.normalise = normaliser(device)
        self.origin = ""  # what is trained on what: a checkpoint of another origin is not taken up

    def step(self, images: Tensor, targets: Tensor, totals: Totals) -> None:
        """One optimizer step on a batch of bytes; in smaller pieces when it does not fit."""
        done = self.fitted(lambda: self.forward_backward(images, targets))
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        for loss, logits, target in done:
            totals.add(loss, logits, target)

    def validate(self, images: Tensor, targets: Tensor) -> list[Scored]:
        """Loss and logits of a validation batch, piece by piece."""
        return self.fitted(lambda: [self.score(*piece) for piece in self.pieces(images, targets)])

    def fitted(self, work: Callable[[], list[Scored]]) -> list[Scored]:
        """What `work` gives, from the start again with smaller pieces each time that it runs out of memory."""
        while True:
            try:
                return work()
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                failed = said(error)
            self.optimizer.zero_grad(set_to_none=True)  # outside the handler: the traceback holds tensors
            self.halve(failed)

    def forward_backward(self, images: Tensor, targets: Tensor) -> list[Scored]:
        """Gradients of the whole batch, piece by piece; each piece weighs as much as it has images."""
        done = []
        for piece, truth in self.pieces(images, targets):
            loss, logits, target = self.score(piece, truth)
            (loss * (len(piece) / len(images))).backward()
            done.append((loss.detach(), logits.detach(), target))
        return done

    def pieces(self, images: Tensor, targets: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        return zip(images.split(self.micro), targets.split(self.micro), strict=True)

    def score(self, images: Tensor, targets: Tensor) -> Scored:
        logits, target = self.forward(images, targets)
        return self.loss(logits, target), logits, target

    def forward(self, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Logits in fp32 and their target, on the device."""
        batch = self.normalise(images.to(self.device, non_blocking=True))
        target = targets.to(self.device, non_blocking=True)
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not torch.float32):
            logits = self.model(batch)
        return logits.float(), target.unsqueeze(1).float()

    def halve(self, failed: str) -> None:
        """Try half the micro-batch from now on, and tell the next trials of this shape."""
        if self.micro == 1:
            raise TrialFailed(f"out of memory with a single image of {self.recipe.image_size} px: {failed}")
        self.micro = -(-self.micro // 2)
        release(self.device)
        self.micro_batches.remember(self.recipe, self.device, self.micro)
        log.warning("out of memory: going on with micro-batches of %d, same effective batch", self.micro)

    def state(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "micro": self.micro,
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.micro = state["micro"]
        checkpoint.restore_random(state["random"])


def build_model(recipe: Recipe, task: Task) -> nn.Module:
    model: nn.Module = build("model", MODELS, recipe.model, CHANNELS, task.outputs)
    return model


def normaliser(device: torch.device) -> Callable[[Tensor], Tensor]:
    """Bytes (number, height, width, 3) to floats (number, 3, height, width), laid out channels last.

    Worked on as rows of pixels: three values at a time, as broadcasting over channels would have it, is
    six times slower on a processor.
    """
    mean = torch.tensor(MEAN, device=device)
    scale = 1 / torch.tensor(STD, device=device)

    def normalise(images: Tensor) -> Tensor:
        width = images.shape[2]
        rows = images.to(torch.float32, copy=True).flatten(2)
        rows.sub_(mean.repeat(width)).mul_(scale.repeat(width))
        return rows.view(images.shape).permute(0, 3, 1, 2)

    return normalise
