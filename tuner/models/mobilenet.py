"""MobileNetV2 with a U-Net decoder, or with a SegNet decoder and attention gates."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from tuner.models.blocks import Decoder, check_widths, convs, decoder_widths, pretrained_unet
from tuner.models.pretrained import torchvision_weights

FEATURES = (16, 24, 32, 96, 1280)  # channels at strides 2 to 32
RATES = (1, 2)  # of the dilated convolutions


def mobilenet_unet(channels: int, classes: int, *, k: int = 16) -> nn.Module:
    """MobileNetV2 with a U-Net decoder: skips and three convolutions per level, 16k to k channels."""
    check_widths(k=k)
    decoder = Decoder(FEATURES, decoder_widths(k, 5), partial(convs, number=3))
    return with_mobilenet("mobilenet_unet", channels, classes, k, decoder)


def mobilenet_segnet_attention(channels: int, classes: int, *, k: int = 16) -> nn.Module:
    """MobileNetV2 with a SegNet decoder, 16k to k channels, and attention gates on the encoder's features."""
    check_widths(k=k)
    decoder = GatedDecoder(FEATURES, decoder_widths(k, 5))
    return with_mobilenet("mobilenet_segnet_attention", channels, classes, k, decoder)


def mobilenet_segnet_attention_atrous(channels: int, classes: int, *, k: int = 16) -> nn.Module:
    """mobilenet_segnet_attention with dilated convolutions of rates 1 and 2 on the encoder's features."""
    check_widths(k=k)
    decoder = nn.Sequential(AtrousFeatures(FEATURES), GatedDecoder(FEATURES, decoder_widths(k, 5)))
    return with_mobilenet("mobilenet_segnet_attention_atrous", channels, classes, k, decoder)


def with_mobilenet(name: str, channels: int, classes: int, k: int, decoder: nn.Module) -> nn.Module:
    from segmentation_models_pytorch.encoders import get_encoder

    encoder = get_encoder("mobilenet_v2", in_channels=channels, weights=None)
    return pretrained_unet(name, encoder, decoder, k, classes, torchvision_weights("MobileNet_V2_Weights"))


class GatedDecoder(nn.Module):
    """At each level: gate the encoder's feature, concatenate it, upsample, and apply three convolutions."""

    def __init__(self, channels: Sequence[int], widths: Sequence[int]) -> None:
        super().__init__()
        coarse_first = list(reversed(channels))
        inputs = [below + skip for below, skip in zip((0, *widths), coarse_first, strict=False)]
        self.gates = nn.ModuleList(attention_gate(skip) for skip in coarse_first)
        self.ups = nn.ModuleList(up_conv(number, width) for number, width in zip(inputs, widths, strict=True))
        self.blocks = nn.ModuleList(convs(width, width, number=3, norm=True) for width in widths)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        x: Tensor | None = None
        skips = reversed(features[-len(self.gates) :])
        for skip, gate, up, block in zip(skips, self.gates, self.ups, self.blocks, strict=True):
            weighed = skip * gate(skip)
            x = block(up(weighed if x is None else torch.cat([x, weighed], dim=1)))
        assert x is not None
        return x


def attention_gate(channels: int) -> nn.Module:
    """Return a gate: one map of weights between 0 and 1 for all channels of a feature."""
    return nn.Sequential(nn.Conv2d(channels, 1, kernel_size=1), nn.Sigmoid())


def up_conv(channels: int, width: int) -> nn.Module:
    return nn.Sequential(nn.ConvTranspose2d(channels, width, 2, stride=2), nn.ReLU(inplace=True))


class AtrousFeatures(nn.Module):
    """Each feature filtered at several dilation rates and concatenated, with as many channels as before."""

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.levels = nn.ModuleList(
            nn.ModuleList(dilated_conv(number, rate) for rate in RATES) for number in channels
        )

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        taken = features[-len(self.levels) :]
        pairs = zip(self.levels, taken, strict=True)
        return [
            torch.cat([rate(feature) for rate in cast(nn.ModuleList, level)], dim=1) for level, feature in pairs
        ]


def dilated_conv(channels: int, rate: int) -> nn.Module:
    width = channels // len(RATES)
    conv = nn.Conv2d(channels, width, 3, padding=rate, dilation=rate, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(width), nn.ReLU(inplace=True))
