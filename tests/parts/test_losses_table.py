"""One base test over every loss of the table."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tuner.losses import LOSSES, Loss
from tuner.parts import build
from tuner.recipe import Part

every_loss = pytest.mark.parametrize("name", LOSSES)
SHAPE = (3, 1, 16, 16)


def loss_of(name: str, **args: float) -> Loss:
    loss: Loss = build("loss", LOSSES, Part(name, args), "binary")
    return loss


def target(fill: float | None = None) -> Tensor:
    """A mask with a square in it, or of one value."""
    if fill is not None:
        return torch.full(SHAPE, fill)
    mask = torch.zeros(SHAPE)
    mask[:, :, 4:11, 3:12] = 1
    return mask


def logits(scale: float = 1.0, seed: int = 0) -> Tensor:
    return scale * torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))


def perfect(mask: Tensor) -> Tensor:
    return (mask * 2 - 1) * 30


@every_loss
@pytest.mark.parametrize("scale", [0.01, 1.0, 10.0, 1000.0])
@pytest.mark.parametrize("fill", [None, 0.0, 1.0], ids=["square", "empty", "full"])
def test_it_is_one_finite_number_and_never_negative(name: str, scale: float, fill: float | None) -> None:
    for seed in range(3):
        loss = loss_of(name)(logits(scale, seed), target(fill))
        assert loss.shape == () and loss.isfinite() and loss >= 0


@every_loss
@pytest.mark.parametrize("fill", [None, 0.0, 1.0], ids=["square", "empty", "full"])
def test_perfect_logits_cost_nothing(name: str, fill: float | None) -> None:
    mask = target(fill)
    assert float(loss_of(name)(perfect(mask), mask)) < 1e-4


@every_loss
def test_the_opposite_of_the_truth_costs_the_most(name: str) -> None:
    loss, mask = loss_of(name), target()
    worst = float(loss(-perfect(mask), mask))
    assert worst > float(loss(logits(), mask)) > float(loss(perfect(mask), mask))


@every_loss
def test_its_gradient_is_finite_and_leads_downhill(name: str) -> None:
    loss, mask = loss_of(name), target()
    guess = logits().requires_grad_()
    before = loss(guess, mask)
    before.backward()
    assert guess.grad is not None and guess.grad.isfinite().all() and guess.grad.abs().sum() > 0
    step = guess.detach() - 0.1 * guess.grad / guess.grad.norm()
    assert loss(step, mask) < before


@every_loss
@pytest.mark.parametrize("scale", [100.0, 1e4])
def test_a_very_sure_wrong_guess_has_a_finite_gradient(name: str, scale: float) -> None:
    guess = (-scale * (target() * 2 - 1)).requires_grad_()
    loss_of(name)(guess, target()).backward()
    assert guess.grad is not None and guess.grad.isfinite().all()


@every_loss
def test_the_same_input_gives_the_same_loss(name: str) -> None:
    assert torch.equal(loss_of(name)(logits(), target()), loss_of(name)(logits(), target()))


@every_loss
def test_neither_logits_nor_target_are_changed(name: str) -> None:
    guess, mask = logits(), target()
    loss_of(name)(guess, mask)
    assert torch.equal(guess, logits()) and torch.equal(mask, target())
