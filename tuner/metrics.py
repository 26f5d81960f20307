"""Counts first, then scores: sums of counts are exact however the images fall into batches."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def binary_counts(logits: Tensor, target: Tensor) -> Tensor:
    """(tp, fp, fn, tn) of all pixels of a batch, on its device and without waiting for it."""
    predicted, true = logits > 0, target > 0.5
    tp = (predicted & true).sum()
    positive, real = predicted.sum(), true.sum()
    rest = true.numel() - positive - real + tp
    return torch.stack([tp, positive - tp, real - tp, rest])


def binary_scores(counts: Sequence[int]) -> dict[str, float]:
    """Scores over the whole data set; a ratio of nothing to nothing counts as 0."""
    tp, fp, fn, tn = counts
    return {
        "iou": ratio(tp, tp + fp + fn),
        "accuracy": ratio(tp + tn, tp + fp + fn + tn),
        "precision": ratio(tp, tp + fp),
        "recall": ratio(tp, tp + fn),
        "f1": ratio(2 * tp, 2 * tp + fp + fn),
    }


def ratio(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
