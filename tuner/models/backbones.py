"""torchvision's backbones with a feature pyramid, as in its detectors."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import gcd
from typing import Any

from torch import nn

from tuner.models.pretrained import Pretrained, fill_encoder, torchvision_weights

RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
WIDER = ("resnext50_32x4d", "resnext101_32x8d", "resnext101_64x4d", "wide_resnet50_2", "wide_resnet101_2")
MOBILENETS = ("mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small")
BACKBONES = RESNETS + WIDER + MOBILENETS
NORMS = ("batch", "group", "frozen")
LEVELS = ("0", "1", "2", "3")  # of the pyramid, at strides 4 to 32


def make_backbone(name: str, norm: str, k: int) -> tuple[Any, Pretrained]:
    """Return an encoder (`body`) with a pyramid (`fpn`) of strides 4 to 32, and the encoder's weights."""
    from torchvision import models
    from torchvision.models.detection.backbone_utils import BackboneWithFPN

    net = models.get_model(name, weights=None, norm_layer=norm_layer(norm, 1e-3 if "v3" in name else 1e-5))
    if name in MOBILENETS:
        net, prefix = net.features, "features."
        ends = stage_ends(net)
        widths = [net.get_submodule(end).out_channels for end in ends]
    else:
        prefix, ends = "", [f"layer{level}" for level in (1, 2, 3, 4)]
        widths = [net.inplanes // 8 * 2**level for level in range(4)]
    backbone = BackboneWithFPN(net, dict(zip(ends, LEVELS, strict=True)), widths, k)
    pretrained = torchvision_weights(models.get_model_weights(name).__name__, partial(fill_encoder, prefix=prefix))
    if norm == "group":
        pretrained = Pretrained(f"'{name}' with norm='group'", "", "", pretrained.adapt)
    return backbone, pretrained


def stage_ends(features: nn.Sequential) -> list[str]:
    """Return the last layer of a MobileNet at each stride from 4 on: the one before the next stride."""
    starts = [at for at, layer in enumerate(features) if getattr(layer, "_is_cn", False)]
    return [str(start - 1) for start in [*starts[1:], len(features)]]


def norm_layer(norm: str, eps: float) -> Callable[[int], nn.Module]:
    """Return the constructor of a norm layer; `eps` is the value the backbone was trained with."""
    from torchvision.ops import FrozenBatchNorm2d

    if norm == "group":
        return lambda width: nn.GroupNorm(gcd(max(1, width // 4), 32), width)
    return partial(FrozenBatchNorm2d if norm == "frozen" else nn.BatchNorm2d, eps=eps)
