"""Any architecture of segmentation-models-pytorch with any of its encoders, and its SegFormer."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from tuner.errors import did_you_mean, first_line, format_names
from tuner.models.blocks import Segmenter, check_widths
from tuner.models.pretrained import smp_weights
from tuner.registry import unknown_choice

SIZES = ("b0", "b1", "b2", "b3", "b4", "b5")


def smp(channels: int, classes: int, *, architecture: str = "unet", encoder: str = "resnet34") -> nn.Module:
    """Any architecture of segmentation-models-pytorch with any of its encoders; "tu-NAME" for timm's."""
    check_names(architecture, encoder)
    flexible = {"dynamic_img_size": True} if architecture == "dpt" else {}
    return build_smp(f"smp({architecture}, {encoder})", architecture, encoder, channels, classes, **flexible)


def segformer(channels: int, classes: int, *, size: str = "b0", width: int = 256) -> nn.Module:
    """SegFormer: a Mix Transformer of size b0 to b5 and a decoder with `width` channels."""
    check_widths(width=width)
    if size not in SIZES:
        raise ValueError(unknown_choice("size", size, SIZES))
    more = {"decoder_segmentation_channels": width}
    return build_smp("segformer", "segformer", f"mit_{size}", channels, classes, **more)


def build_smp(name: str, architecture: str, encoder: str, channels: int, classes: int, **more: Any) -> nn.Module:
    """Build the library's model as a Segmenter, which supports images of any size."""
    import segmentation_models_pytorch as library

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = library.create_model(architecture, encoder, None, channels, classes, **more)
    except (KeyError, ValueError, TypeError, AssertionError) as error:
        raise ValueError(
            f"architecture {architecture!r} cannot be built on encoder {encoder!r}: {first_line(error)}"
        ) from error
    decoder: nn.Module = UnpackFeatures(model.decoder) if architecture == "dpt" else model.decoder
    multiple = 2 * model.encoder.output_stride if architecture == "dpt" else model.encoder.output_stride
    pretrained = smp_weights(encoder, channels)
    return Segmenter(
        name, model.encoder, decoder, model.segmentation_head, multiple=multiple, pretrained=pretrained
    )


class UnpackFeatures(nn.Module):
    """A decoder that takes the encoder's outputs as separate arguments."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, given: Sequence[Any]) -> Tensor:
        output: Tensor = self.inner(*given)
        return output


def check_names(architecture: str, encoder: str) -> None:
    """Raise ValueError with a similar name for an unknown architecture or encoder."""
    import segmentation_models_pytorch as library

    architectures = library.MODEL_ARCHITECTURES_MAPPING
    if architecture not in architectures:
        hint = did_you_mean(architecture, architectures)
        raise ValueError(f"no architecture {architecture!r}.{hint} Known: {', '.join(architectures)}")
    if architecture == "dpt" and not encoder.startswith("tu-"):
        raise ValueError(
            f"architecture 'dpt' needs a vision transformer of timm, not {encoder!r}; "
            "write for example encoder='tu-vit_base_patch16_224'"
        )
    if encoder.startswith("tu-"):
        check_timm(encoder.removeprefix("tu-"), "encoder", "tu-")
    elif encoder not in library.encoders.encoders:
        known = library.encoders.encoders
        raise ValueError(
            f"no encoder {encoder!r}.{did_you_mean(encoder, known)} Known: "
            f"{format_names(known, 12)}, and tu-NAME for timm's"
        )


def check_timm(name: str, what: str, prefix: str = "") -> None:
    """Raise ValueError with a similar name for a model that timm does not have."""
    import timm

    if not timm.is_model(name):
        hint = did_you_mean(prefix + name.partition(".")[0], [prefix + known for known in timm.list_models()])
        raise ValueError(f"no {what} '{prefix}{name}'.{hint} timm.list_models() in Python lists all of timm's")
    tag = name.partition(".")[2]
    if tag and name not in timm.list_pretrained(f"{name.partition('.')[0]}.*"):
        raise ValueError(f"no {what} '{prefix}{name}': timm has '{name.partition('.')[0]}', but not with '{tag}'")
