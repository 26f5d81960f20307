"""Schedules step once an epoch; plateau looks at the validation loss."""

from __future__ import annotations

import pytest
import torch
from torch import nn, optim

from tuner.optims import Schedule, adam, advance, none, plateau


def optimizer(lr: float = 0.1) -> optim.Optimizer:
    weights = nn.Parameter(torch.ones(2))
    made = adam([weights], lr=lr)
    weights.sum().backward()
    return made


def rates(schedule: Schedule, losses: list[float]) -> list[float]:
    """The learning rate after each epoch."""
    seen = []
    for loss in losses:
        schedule.optimizer.step()
        advance(schedule, loss)
        seen.append(float(schedule.optimizer.param_groups[0]["lr"]))
    return seen


def test_adam_moves_each_weight_by_the_learning_rate_at_first() -> None:
    made = optimizer(lr=0.01)
    made.step()
    torch.testing.assert_close(made.param_groups[0]["params"][0].detach(), torch.full((2,), 0.99))


def test_weight_decay_pulls_towards_zero() -> None:
    weights = nn.Parameter(torch.full((2,), 5.0))
    made = adam([weights], lr=0.1, weight_decay=0.1)
    weights.grad = torch.zeros(2)
    made.step()
    assert (weights < 5.0).all()


def test_none_keeps_the_rate() -> None:
    assert rates(none(optimizer(), 5), [1.0, 2.0, 0.5, float(9)]) == [0.1] * 4


def test_plateau_waits_for_its_patience_and_then_halves() -> None:
    assert rates(plateau(optimizer(), 9, patience=2), [1.0] * 4) == pytest.approx([0.1, 0.1, 0.1, 0.05])


def test_plateau_keeps_the_rate_while_the_loss_falls() -> None:
    assert rates(plateau(optimizer(), 9, patience=0), [1.0, 0.9, 0.8, 0.7]) == [0.1] * 4


def test_plateau_stops_at_its_least_rate() -> None:
    seen = rates(plateau(optimizer(), 9, patience=0, factor=0.1, min_lr=0.004), [1.0] * 5)
    assert seen[-1] == 0.004
