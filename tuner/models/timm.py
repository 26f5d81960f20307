"""Any classifier of timm."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import Any, cast

from torch import Tensor, nn

from tuner.models.blocks import check_dropout, run_checked
from tuner.models.pretrained import timm_weights
from tuner.models.smp import check_timm

# Arguments that let a vision transformer take images of any size; not every kind has them.
ANY_SIZE: tuple[dict[str, Any], ...] = (
    {"dynamic_img_size": True, "dynamic_img_pad": True},
    {"dynamic_img_size": True},
    {"strict_img_size": False},
)


def timm(channels: int, classes: int, *, name: str = "resnet18", dropout: float = 0.0) -> nn.Module:
    """Any classifier of timm by its name, with a new head."""
    check_timm(name, "model")
    check_dropout(dropout)
    return TimmClassifier(name, channels, classes, dropout)


class TimmClassifier(nn.Module):
    """timm's model without its head, and a linear head."""

    def __init__(self, name: str, channels: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.name = name
        self.encoder, args = create_encoder(name, channels)
        width = getattr(self.encoder, "head_hidden_size", None) or self.encoder.num_features
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(cast(int, width), classes))
        self.pretrained = timm_weights(name, {**args, "in_chans": channels, "num_classes": 0})
        self.explained = explained_stages(self.encoder)
        patches: Any = getattr(self.encoder, "patch_embed", None)
        self.multiple = patches.patch_size[0] if "dynamic_img_pad" in args else 1  # images are padded to it

    def forward(self, image: Tensor) -> Tensor:
        return run_checked(self, self.name, self.scores, image)

    def scores(self, image: Tensor) -> Tensor:
        return cast(Tensor, self.head(self.encoder(image)))


def create_encoder(name: str, channels: int) -> tuple[nn.Module, dict[str, Any]]:
    """Return the encoder and the arguments with which it takes images of any size, if it can."""
    from timm import create_model, get_pretrained_cfg

    known = get_pretrained_cfg(name)
    create = partial(create_model, name, in_chans=channels, num_classes=0)
    for args in ANY_SIZE if known is not None and known.fixed_input_size else ():
        with suppress(TypeError):
            return create(**args), args
    return create(), {}


def explained_stages(encoder: nn.Module) -> dict[str, str]:
    """Return the last two stages by timm's names; of a transformer, the input of the last attention.

    After the last attention, only the class token affects the output.
    """
    known = dict(encoder.named_modules())
    stages = [stage["module"] for stage in getattr(encoder, "feature_info", [])][-2:]
    for at, stage in enumerate(stages):
        if f"{stage}.norm1" in known and f"{stage}.attn" in known:
            stages[at] = f"{stage}.norm1"
    return {stage: f"encoder.{stage}" for stage in stages if stage in known}
