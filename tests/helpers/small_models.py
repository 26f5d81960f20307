"""Models of the table at toy size."""

from __future__ import annotations

from copy import deepcopy
from functools import lru_cache
from typing import Any

import torch
from torch import nn

from tuner.models import MODELS
from tuner.recipe import Part
from tuner.registry import build, find_builder, searchable_args

SMALL: dict[str, dict[str, Any]] = {  # arguments that make a model small, where it has them
    "resnet18_unet": {"k": 2},
    "resnet34_unet": {"k": 2},
    "mobilenet_unet": {"k": 2},
    "mobilenet_segnet_attention": {"k": 2},
    "mobilenet_segnet_attention_atrous": {"k": 2},
    "segformer": {"width": 16},
    "smp": {"encoder": "tu-test_resnet"},
    "pixel_frequency": {"side": 8},
    "sport_vgg": {"reduced": 16, "hidden": 16, "dropout": 0.0},
    "fcn_resnet50": {"dropout": 0.0},
    "timm": {"name": "test_resnet"},
    "watershed_cascade": {"width": 8},
    "mask_rcnn": {"backbone": "mobilenet_v3_small", "anchor": 8, "num_regions": 32, "num_found": 20},
}
CLASSIFIERS = ("sport_vgg", "timm")
ARCHITECTURES = ("unet", "unetplusplus", "manet", "linknet", "fpn", "pspnet", "deeplabv3", "deeplabv3plus", "pan")
ARCHITECTURES += ("upernet", "segformer", "dpt")


def small(
    name: str, /, channels: int = 3, classes: int = 1, seed: int = 0, fresh: bool = False, **args: Any
) -> nn.Module:
    """A small model of the table; built once unless it shall be `fresh`, and a copy of its own for each test."""
    takes = searchable_args(find_builder("model", MODELS, name))
    chosen = {key: value for key, value in {"k": 4, **SMALL.get(name, {}), **args}.items() if key in takes}
    built = made.__wrapped__ if fresh else made
    return deepcopy(built(name, channels, classes, seed, tuple(chosen.items())))


@lru_cache
def made(name: str, channels: int, classes: int, seed: int, args: tuple[tuple[str, Any], ...]) -> nn.Module:
    torch.manual_seed(seed)
    model: nn.Module = build("model", MODELS, Part(name, dict(args)), channels, classes)
    return model


def assert_gradients(model: nn.Module) -> None:
    """Every weight has a finite gradient, and not all of them are nothing."""
    for weight, value in model.named_parameters():
        assert value.grad is not None and value.grad.isfinite().all(), weight
    assert sum(float(p.grad.abs().sum()) for p in model.parameters() if p.grad is not None) > 0
