"""Optimizers move weights as torch's do, and refuse values that make none."""

from __future__ import annotations

import pytest
import torch
from torch import nn, optim

from tuner.errors import PartError
from tuner.recipe import Part, use
from tuner.registry import build
from tuner.train.optimizers import OPTIMIZERS, adam, adamw, sgd


def test_adam_moves_each_weight_by_the_learning_rate_at_first() -> None:
    weights = nn.Parameter(torch.ones(2))
    made = adam([weights], lr=0.01)
    weights.sum().backward()
    made.step()
    torch.testing.assert_close(weights.detach(), torch.full((2,), 0.99))


def test_weight_decay_pulls_towards_zero() -> None:
    weights = nn.Parameter(torch.full((2,), 5.0))
    made = adam([weights], lr=0.1, weight_decay=0.1)
    weights.grad = torch.zeros(2)
    made.step()
    assert (weights < 5.0).all()


def test_adamw_decays_the_weight_itself() -> None:
    weights = nn.Parameter(torch.full((2,), 5.0))
    made = adamw([weights], lr=0.1, weight_decay=0.5)
    weights.grad = torch.zeros(2)
    made.step()
    torch.testing.assert_close(weights.detach(), torch.full((2,), 5.0 * (1 - 0.1 * 0.5)))


def test_amsgrad_is_torchs() -> None:
    ours, theirs = (nn.Parameter(torch.ones(3)) for _ in range(2))
    made = adamw([ours], lr=0.1, weight_decay=0.0, amsgrad=True)
    reference = optim.AdamW([theirs], lr=0.1, weight_decay=0.0, amsgrad=True, fused=False, foreach=False)
    for scale in (1.0, 10.0, 0.1, 0.1):
        for weights, optimizer in ((ours, made), (theirs, reference)):
            weights.grad = torch.full((3,), scale)
            optimizer.step()
    torch.testing.assert_close(ours, theirs)
    assert "max_exp_avg_sq" in made.state[ours]


def test_sgd_keeps_its_momentum() -> None:
    weights = nn.Parameter(torch.zeros(1))
    made = sgd([weights], lr=1.0, momentum=0.5)
    for expected in (-1.0, -2.5):
        weights.grad = torch.ones(1)
        made.step()
        assert float(weights.detach()) == expected


@pytest.mark.parametrize(
    ("part", "told"),
    [
        (use("adam", lr=0.0), "lr of optimizer 'adam' is 0.0; a number above 0"),
        (use("adamw", lr=float("nan")), "lr of optimizer 'adamw' is nan"),
        (use("sgd", lr="fast"), "lr of optimizer 'sgd' is 'fast'"),
        (use("adamw", weight_decay=-1), "weight_decay of optimizer 'adamw' is -1; a number of at least 0"),
        (use("sgd", momentum=1.0), "momentum of optimizer 'sgd' is 1.0; a number of at least 0 and below 1"),
        (use("sgd", momentum=0, nesterov=True), "nesterov=True needs a momentum"),
    ],
    ids=str,
)
def test_values_that_make_no_optimizer_are_told_in_one_line(part: Part, told: str) -> None:
    with pytest.raises(PartError, match=told):
        build("optimizer", OPTIMIZERS, part, [nn.Parameter(torch.ones(2))])
