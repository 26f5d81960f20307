"""Counts and scores against torchmetrics, on random input and at its edges."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torchmetrics import classification

from tuner.metrics import binary_counts, binary_scores, ratio

REFERENCE = {
    "iou": classification.BinaryJaccardIndex,
    "accuracy": classification.BinaryAccuracy,
    "precision": classification.BinaryPrecision,
    "recall": classification.BinaryRecall,
    "f1": classification.BinaryF1Score,
}


def batch(seed: int, share: float, number: int = 3) -> tuple[Tensor, Tensor]:
    """Random logits, and masks in which about `share` of the pixels are the object."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(number, 1, 16, 16, generator=generator)
    return logits, (torch.rand(number, 1, 16, 16, generator=generator) < share).float()


def scores(logits: Tensor, target: Tensor) -> dict[str, float]:
    return binary_scores(binary_counts(logits, target).tolist())


@pytest.mark.parametrize("metric", REFERENCE)
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 1.0], ids=["empty", "rare", "half", "full"])
def test_every_score_is_torchmetrics_own(metric: str, share: float) -> None:
    for seed in range(4):
        logits, target = batch(seed, share)
        expected = REFERENCE[metric](threshold=0.5)(logits.sigmoid(), target.int())
        assert scores(logits, target)[metric] == pytest.approx(float(expected), abs=1e-6)


@pytest.mark.parametrize("metric", REFERENCE)
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0], ids=["empty", "half", "full"])
@pytest.mark.parametrize("found", [-1.0, 1.0], ids=["nothing-found", "all-found"])
def test_a_class_absent_from_target_or_prediction_is_scored_as_torchmetrics_does(
    metric: str, share: float, found: float
) -> None:
    _, target = batch(0, share)
    logits = torch.full_like(target, found)
    expected = REFERENCE[metric](threshold=0.5)(logits.sigmoid(), target.int())
    assert scores(logits, target)[metric] == pytest.approx(float(expected), abs=1e-6)


def test_counts_are_each_pixel_once() -> None:
    logits = torch.tensor([3.0, 2.0, -1.0, -2.0, 0.5, -0.1]).view(1, 1, 2, 3)
    target = torch.tensor([1.0, 0.0, 1.0, 0.0, 1.0, 0.0]).view(1, 1, 2, 3)
    assert binary_counts(logits, target).tolist() == [2, 1, 1, 2]


@pytest.mark.parametrize("seed", range(3))
def test_counts_add_up_however_the_images_fall_into_batches(seed: int) -> None:
    logits, target = batch(seed, 0.3, number=13)
    whole = binary_counts(logits, target)
    for size in (1, 4, 5, 13):
        pieces = zip(logits.split(size), target.split(size), strict=True)
        assert torch.equal(sum((binary_counts(*piece) for piece in pieces), torch.zeros(4)).long(), whole)


def test_counts_stay_exact_where_32_bit_floats_would_round() -> None:
    counts = binary_counts(torch.ones(1, 1, 4097, 4097), torch.ones(1, 1, 4097, 4097))
    assert counts.tolist() == [4097**2, 0, 0, 0]  # odd and above 2^24


def test_a_ratio_of_nothing_to_nothing_is_zero() -> None:
    assert ratio(0, 0) == 0.0
    assert binary_scores([0, 0, 0, 10]) == {"iou": 0, "accuracy": 1, "precision": 0, "recall": 0, "f1": 0}
