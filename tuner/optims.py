"""The tables of optimizers and of schedules.

An optimizer's builder takes the parameters; a schedule's takes the optimizer and the number of epochs.
A schedule steps once after every epoch; "plateau" looks at the validation loss.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn, optim
from torch.optim import lr_scheduler

OPTIMIZERS = {
    "adam": "tuner.optims:adam",
}
SCHEDULES = {
    "none": "tuner.optims:none",
    "plateau": "tuner.optims:plateau",
}
Schedule = lr_scheduler.LRScheduler


def adam(params: Iterable[nn.Parameter], *, lr: float = 1e-3, weight_decay: float = 0.0) -> optim.Optimizer:
    """Adam, in its fused form: one pass over the weights instead of a dozen."""
    return optim.Adam(params, lr=lr, weight_decay=weight_decay, fused=True)


def none(optimizer: optim.Optimizer, epochs: int) -> Schedule:
    """The same learning rate throughout."""
    return lr_scheduler.LambdaLR(optimizer, lambda epoch: 1.0)


def plateau(
    optimizer: optim.Optimizer, epochs: int, *, factor: float = 0.5, patience: int = 5, min_lr: float = 0.0
) -> Schedule:
    """Multiply the learning rate by `factor` after `patience` epochs without a lower validation loss."""
    return lr_scheduler.ReduceLROnPlateau(optimizer, factor=factor, patience=patience, min_lr=min_lr)


def advance(schedule: Schedule, val_loss: float) -> None:
    """Step the schedule at the end of an epoch."""
    if isinstance(schedule, lr_scheduler.ReduceLROnPlateau):
        schedule.step(val_loss)
    else:
        schedule.step()
