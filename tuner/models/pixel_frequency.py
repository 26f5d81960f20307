"""The simplest baseline: the frequency of each class at each place of the training images."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tuner.models.blocks import check_widths

UNSEEN = 1e-4  # the smallest frequency, so that its logarithm is finite


def pixel_frequency(channels: int, classes: int, *, side: int = 64) -> nn.Module:
    """The class frequencies at each place of the training images, the same for every image; no gradients."""
    check_widths(side=side)
    return PixelFrequency(classes, side)


class PixelFrequency(nn.Module):
    """Counts on a grid of `side` x `side`, without weights: `learn` replaces the gradient step."""

    counts: Tensor
    seen: Tensor

    def __init__(self, classes: int, side: int) -> None:
        super().__init__()
        self.side = side
        self.register_buffer("counts", torch.zeros(classes, side, side))
        self.register_buffer("seen", torch.zeros(1, side, side))

    @torch.no_grad()
    def learn(self, images: Tensor, target: Tensor) -> None:
        """Add a batch to the counts; ignored labels are not counted."""
        if target.is_floating_point():
            self.counts += self.on_grid(target)
            self.seen += self.on_grid(torch.ones_like(target))
            return
        for number in range(len(self.counts)):
            here = self.on_grid((target == number).unsqueeze(1).float())
            self.counts[number : number + 1] += here
            self.seen += here

    def on_grid(self, masks: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(masks.float(), self.side).sum(0)

    def forward(self, image: Tensor) -> Tensor:
        """Return logits whose sigmoid (one class) or softmax is the frequency."""
        share = (self.counts + UNSEEN) / (self.seen + UNSEEN * max(2, len(self.counts)))
        share = F.interpolate(share[None], size=image.shape[-2:], mode="bilinear", align_corners=False)
        logits = share.logit(eps=1e-6) if len(self.counts) == 1 else share.log()
        return logits.expand(len(image), -1, -1, -1).contiguous()
