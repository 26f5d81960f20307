"""The U-Net of width k: three levels down, a bottleneck, three levels up."""

from __future__ import annotations

from functools import partial
from typing import ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tuner.models.blocks import check_dropout, check_size, check_widths, convs, init_weights

SMALLEST_SIDE = 8  # one pixel after three max-pools


def unet(channels: int, classes: int, *, k: int = 64, dropout: float = 0.0) -> nn.Module:
    """U-Net of width k: three levels of k, 2k and 4k channels, 8k in the bottleneck."""
    check_widths(k=k)
    check_dropout(dropout)
    return UNet(channels, classes, k, dropout)


class UNet(nn.Module):
    """A U-Net for images of at least 8 x 8; each level is resized to its skip, so odd sizes work too."""

    explained: ClassVar = {  # names of the six features in `forward`
        "x1": "down1",
        "x2": "down2",
        "x3": "down3",
        "x4": "bottleneck",
        "x5": "up3",
        "x6": "up2",
    }

    def __init__(self, channels: int, classes: int, k: int, dropout: float) -> None:
        super().__init__()
        block = partial(convs, dropout=dropout)
        self.down1 = block(channels, k)
        self.down2 = block(k, 2 * k)
        self.down3 = block(2 * k, 4 * k)
        self.bottleneck = block(4 * k, 8 * k)
        self.up3 = block(8 * k + 4 * k, 4 * k)
        self.up2 = block(4 * k + 2 * k, 2 * k)
        self.up1 = block(2 * k + k, k)
        self.head = nn.Conv2d(k, classes, kernel_size=1)
        self.apply(init_weights)

    def forward(self, image: Tensor) -> Tensor:
        check_size("unet", image, SMALLEST_SIDE)
        x1 = self.down1(image)
        x2 = self.down2(F.max_pool2d(x1, 2))
        x3 = self.down3(F.max_pool2d(x2, 2))
        x4 = self.bottleneck(F.max_pool2d(x3, 2))
        x5 = self.up3(upsample_and_concat(x4, x3))
        x6 = self.up2(upsample_and_concat(x5, x2))
        return cast(Tensor, self.head(self.up1(upsample_and_concat(x6, x1))))


def upsample_and_concat(below: Tensor, skip: Tensor) -> Tensor:
    return torch.cat([F.interpolate(below, size=skip.shape[-2:], mode="nearest"), skip], dim=1)
