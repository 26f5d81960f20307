"""The table of losses. A builder takes the mode of the task ("binary", ...), the rest from the space.

Every loss maps (logits, target) to one number, the mean over the batch, and is never negative.
segmentation-models-pytorch is imported inside: it takes seconds, and bce does not need it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from torch import Tensor, nn

Loss = Callable[[Tensor, Tensor], Tensor]

LOSSES = {
    "bce": "tuner.losses:bce",
    "dice": "tuner.losses:dice",
    "focal": "tuner.losses:focal",
}


def bce(mode: str) -> Loss:
    """Binary cross-entropy of each pixel, from logits."""
    return nn.BCEWithLogitsLoss()


def dice(mode: str, *, smooth: float = 1.0) -> Loss:
    """1 - Dice overlap of the batch: does not care how small the object is."""
    from segmentation_models_pytorch.losses import DiceLoss

    return cast(Loss, DiceLoss(mode, smooth=smooth))


def focal(mode: str, *, gamma: float = 2.0) -> Loss:
    """Cross-entropy with easy pixels weighed down by (1 - p)^gamma."""
    from segmentation_models_pytorch.losses import FocalLoss

    return cast(Loss, FocalLoss(mode, gamma=gamma))
