"""A U-Net with transposed convolutions and batch norm."""

from __future__ import annotations

from functools import partial
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

from tuner.models.blocks import Decoder, Segmenter, check_widths, convs, decoder_widths, init_weights


def unet_transposed(
    channels: int, classes: int, *, k: int = 64, depth: int = 4, batch_norm: bool = True
) -> nn.Module:
    """U-Net of width k with transposed convolutions: `depth` levels of k, 2k, ... channels and a bottleneck."""
    check_widths(k=k, depth=depth)
    block = partial(convs, norm=batch_norm)
    *widths, deepest = decoder_widths(k, depth + 1)[::-1]
    encoder = ContractingPath([channels, *widths, deepest], batch_norm)
    decoder = Decoder([*widths, deepest], widths[::-1], block, transposed=True)
    head = nn.Conv2d(k, classes, kernel_size=1)
    model = Segmenter("unet_transposed", encoder, decoder, head, multiple=2**depth)
    model.apply(init_weights)
    return model


class ContractingPath(nn.Module):
    """Two convolutions per level with max-pools in between; returns every level's feature, finest first."""

    def __init__(self, widths: list[int], batch_norm: bool) -> None:
        super().__init__()
        self.levels = nn.ModuleList(convs(*pair, norm=batch_norm) for pair in pairwise(widths))

    def forward(self, image: Tensor) -> list[Tensor]:
        features = [self.levels[0](image)]
        for level in list(self.levels)[1:]:
            features.append(level(F.max_pool2d(features[-1], 2)))
        return features
