"""The values of the losses, against their formulas written out."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tuner.losses import bce, dice, focal


@pytest.fixture
def guess() -> Tensor:
    return 2 * torch.randn(4, 1, 12, 10, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def mask() -> Tensor:
    return (torch.rand(4, 1, 12, 10, generator=torch.Generator().manual_seed(1)) > 0.6).float()


def test_bce_is_the_mean_negative_log_likelihood(guess: Tensor, mask: Tensor) -> None:
    p = guess.double().sigmoid()
    expected = -(mask * p.log() + (1 - mask) * (1 - p).log()).mean()
    torch.testing.assert_close(bce("binary")(guess, mask).double(), expected, rtol=1e-5, atol=1e-6)


def test_dice_is_one_minus_the_overlap_of_the_whole_batch(guess: Tensor, mask: Tensor) -> None:
    p = guess.double().sigmoid()
    both = (p * mask).sum()
    expected = 1 - (both + 1) / ((p.sum() + mask.sum()) / 2 + 1)  # smooth is added to half of each side
    torch.testing.assert_close(dice("binary")(guess, mask).double(), expected, rtol=1e-5, atol=1e-6)


def test_smooth_softens_dice(guess: Tensor, mask: Tensor) -> None:
    assert dice("binary", smooth=100.0)(guess, mask) < dice("binary", smooth=0.0)(guess, mask)


def test_dice_asks_nothing_of_a_batch_without_an_object(guess: Tensor) -> None:
    """It measures overlap with something; bce and focal are the losses for mostly empty masks."""
    assert dice("binary")(guess, torch.zeros_like(guess)) == 0


@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.0, 5.0])
def test_focal_weighs_easy_pixels_down(guess: Tensor, mask: Tensor, gamma: float) -> None:
    p = guess.double().sigmoid()
    right = torch.where(mask > 0, p, 1 - p)
    expected = (-((1 - right) ** gamma) * right.log()).mean()
    torch.testing.assert_close(focal("binary", gamma=gamma)(guess, mask).double(), expected, rtol=1e-4, atol=1e-5)


def test_focal_without_gamma_is_bce(guess: Tensor, mask: Tensor) -> None:
    torch.testing.assert_close(focal("binary", gamma=0.0)(guess, mask), bce("binary")(guess, mask))
