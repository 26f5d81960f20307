"""The table of learning rate schedules.

A builder takes the optimizer and the number of epochs. A schedule steps once after every epoch; "plateau" uses the
validation loss. All others are functions of the epoch, so that an extended training continues on the curve of the
longer one.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn, optim
from torch.optim import lr_scheduler

from tuner.recipe import Part
from tuner.registry import BETWEEN_0_AND_1, NOT_NEGATIVE, SHARE, Range, build, check_choice, check_range

SCHEDULES = {
    name: f"tuner.train.schedules:{name}" for name in ("none", "plateau", "exponential", "cosine", "warmup")
}
Schedule = lr_scheduler.LRScheduler
Curve = Callable[[int], float]  # epochs done -> factor of the learning rate
EPOCHS = Range(least=0, whole=True)


def none(optimizer: optim.Optimizer, epochs: int) -> Schedule:
    """Constant learning rate."""
    return lambda_schedule(optimizer, lambda done: 1.0)


def plateau(
    optimizer: optim.Optimizer, epochs: int, *, factor: float = 0.5, patience: int = 5, min_lr: float = 0.0
) -> Schedule:
    """Multiply the learning rate by `factor` after `patience` epochs without a lower validation loss."""
    check_range("schedule 'plateau'", BETWEEN_0_AND_1, factor=factor)
    check_range("schedule 'plateau'", EPOCHS, patience=patience)
    check_range("schedule 'plateau'", NOT_NEGATIVE, min_lr=min_lr)
    return lr_scheduler.ReduceLROnPlateau(optimizer, factor=factor, patience=patience, min_lr=min_lr, eps=0)


def exponential(optimizer: optim.Optimizer, epochs: int, *, gamma: float = 0.98) -> Schedule:
    """Multiply the learning rate by `gamma` after every epoch."""
    return lambda_schedule(optimizer, exponential_curve("exponential", gamma))


def cosine(optimizer: optim.Optimizer, epochs: int, *, min_lr: float = 0.0) -> Schedule:
    """Half a cosine from the learning rate down to `min_lr`, a fraction of it, over all epochs."""
    return lambda_schedule(optimizer, cosine_curve("cosine", epochs, min_lr))


def warmup(
    optimizer: optim.Optimizer,
    epochs: int,
    *,
    warm: int = 5,
    then: str = "none",
    gamma: float = 0.98,
    min_lr: float = 0.0,
) -> Schedule:
    """`warm` epochs of rising learning rate, then constant ("none") or falling ("cosine", "exponential")."""
    check_range("schedule 'warmup'", EPOCHS, warm=warm)
    curves: dict[str, Curve] = {
        "none": lambda done: 1.0,
        "cosine": cosine_curve("warmup", epochs - warm, min_lr),
        "exponential": exponential_curve("warmup", gamma),
    }
    check_choice("then of schedule 'warmup'", then, curves)
    return lambda_schedule(
        optimizer, lambda done: (done + 1) / (warm + 1) if done < warm else curves[then](done - warm)
    )


def step_schedule(schedule: Schedule, val_loss: float | None) -> None:
    """Step the schedule at the end of an epoch; plateau only after a validation."""
    if isinstance(schedule, lr_scheduler.ReduceLROnPlateau):
        if val_loss is not None:
            schedule.step(val_loss)
    else:
        schedule.step()


def apply_schedule(schedule: Schedule) -> None:
    """Set the learning rates to the schedule's curve, for a state from a training of fewer epochs."""
    if isinstance(schedule, lr_scheduler.LambdaLR):
        groups = zip(schedule.optimizer.param_groups, schedule.base_lrs, schedule.lr_lambdas, strict=True)
        for group, base, curve in groups:
            group["lr"] = base * curve(schedule.last_epoch)


def depends_on_end(part: Part, short: int, long: int) -> bool:
    """Return whether the first `short` epochs have other learning rates in a training of `long` epochs."""
    return learning_rates(part, short, short) != learning_rates(part, long, short)


def learning_rates(part: Part, epochs: int, first: int) -> list[float]:
    """Return the factors of the first few epochs of a training, by stepping through them."""
    optimizer = optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule: Schedule = build("schedule", SCHEDULES, part, optimizer, epochs)
    seen = []
    for _ in range(first):
        seen.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        step_schedule(schedule, 1.0)
    return seen


def lambda_schedule(optimizer: optim.Optimizer, curve: Curve) -> Schedule:
    return lr_scheduler.LambdaLR(optimizer, curve)


def exponential_curve(name: str, gamma: float) -> Curve:
    check_range(f"schedule '{name}'", Range(above=0, most=1), gamma=gamma)
    return lambda done: gamma**done


def cosine_curve(name: str, epochs: int, least: float) -> Curve:
    check_range(f"schedule '{name}', a share of lr,", SHARE, min_lr=least)
    return lambda done: least + (1 - least) * (1 + math.cos(math.pi * min(done / max(epochs, 1), 1))) / 2
