"""Building blocks of several models: convolution stacks, a U-Net decoder, and support for any image size."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tuner.deprecated import renamed_names
from tuner.registry import COUNT, FRACTION

if TYPE_CHECKING:
    from tuner.models.pretrained import Pretrained

# pixels: sizes to suggest for a model that rejects one
SIDES = (32, 48, 64, 96, 128, 160, 192, 224, 256, 288, 299, 320, 384, 448, 512)


class Segmenter(nn.Module):
    """An encoder, a decoder and a head, for images of any size.

    The image is padded at the right and bottom to a multiple of the encoder's stride, and the mask is cropped. A
    mask coarser than the image is enlarged.
    """

    def __init__(
        self,
        name: str,
        encoder: nn.Module,
        decoder: nn.Module | None,
        head: nn.Module,
        *,
        multiple: int = 1,
        smallest: int = 0,
        pretrained: Pretrained | None = None,
        explained: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        self.name, self.multiple, self.smallest = name, multiple, smallest or multiple
        self.encoder = encoder
        if decoder is not None:
            self.decoder = decoder
        self.head = head
        self.pretrained = pretrained
        self.explained = explained or {"encoder": "encoder", **decoder_levels(self)}

    def forward(self, image: Tensor) -> Tensor:
        check_size(self.name, image, self.smallest)
        return run_checked(self, self.name, self.masks, image)

    def masks(self, image: Tensor) -> Tensor:
        height, width = image.shape[-2:]
        padded = F.pad(image, (0, -width % self.multiple, 0, -height % self.multiple), mode="replicate")
        features = self.encoder(padded)
        mask = self.head(self.decoder(features) if hasattr(self, "decoder") else features)
        if mask.shape[-2:] != padded.shape[-2:]:
            mask = F.interpolate(mask, size=padded.shape[-2:], mode="bilinear", align_corners=False)
        return cast(Tensor, mask[..., :height, :width])


def decoder_levels(model: nn.Module) -> dict[str, str]:
    """Return the decoder's levels, coarsest first, as up1, up2, ...; without a list of levels, its output."""
    for name, part in model.named_modules():
        if isinstance(part, nn.ModuleList) and re.fullmatch(r"decoder(\.\d+)?\.blocks", name):
            return {f"up{level + 1}": f"{name}.{level}" for level in range(len(part))}
    return {"decoder": "decoder"}


class Decoder(nn.Module):
    """A U-Net decoder: at each level, upsample to twice the size, concatenate the skip, convolve.

    `channels` are those of the encoder's features, finest first; `widths` those of the levels, coarsest first.
    With more levels than skips, the last levels have no skip. The last of the given features are used: encoders of
    other libraries return the image as the first one.
    """

    def __init__(
        self,
        channels: Sequence[int],
        widths: Sequence[int],
        block: Callable[[int, int], nn.Module],
        *,
        transposed: bool = False,
        bottleneck: int = 0,
    ) -> None:
        super().__init__()
        *skips, below = channels
        self.num_features = len(channels)
        self.bottleneck = block(below, bottleneck) if bottleneck else nn.Identity()
        self.ups, self.blocks = nn.ModuleList(), nn.ModuleList()
        below = bottleneck or below
        for width, skip in zip_longest(widths, reversed(skips), fillvalue=0):
            self.ups.append(
                nn.ConvTranspose2d(below, width, 2, stride=2) if transposed else nn.Upsample(scale_factor=2)
            )
            self.blocks.append(block((width if transposed else below) + skip, width))
            below = width

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        *skips, below = features[-self.num_features :]
        x: Tensor = self.bottleneck(below)
        for up, block, skip in zip_longest(self.ups, self.blocks, reversed(skips)):
            x = up(x)
            x = block(x if skip is None else torch.cat([x, skip], dim=1))
        return x


def convs(
    channels: int, width: int, *, number: int = 2, norm: bool = False, dropout: float = 0.0
) -> nn.Sequential:
    """Return 3 x 3 convolutions, each followed by batch norm if `norm` and ReLU, and dropout between them."""
    layers: list[nn.Module] = []
    for before in (channels, *[width] * (number - 1)):
        layers += [nn.Dropout2d(dropout)] if dropout and layers else []
        layers.append(nn.Conv2d(before, width, 3, padding=1, bias=not norm))
        layers += [nn.BatchNorm2d(width)] if norm else []
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


def decoder_widths(k: int, levels: int) -> list[int]:
    """Return the widths of a decoder, coarsest first, down to k."""
    return [k * 2**level for level in reversed(range(levels))]


def init_weights(module: nn.Module) -> None:
    """Initialize with He's method: PyTorch's default shrinks the signal at each ReLU without batch norm."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    if isinstance(module, nn.ConvTranspose2d):  # one kernel tap per output pixel, and no ReLU after it
        nn.init.normal_(module.weight, std=module.in_channels**-0.5)
    if isinstance(module, nn.Conv2d | nn.Linear | nn.ConvTranspose2d) and module.bias is not None:
        nn.init.zeros_(module.bias)


def check_widths(**given: object) -> None:
    """Raise ValueError unless each value is a whole number of at least 1."""
    for name, value in given.items():
        if value not in COUNT:
            raise ValueError(f"{name} is {value!r}; {COUNT} is needed")


def check_dropout(dropout: float) -> None:
    """Raise ValueError unless the probability is at least 0 and below 1."""
    if dropout not in FRACTION:
        raise ValueError(f"dropout is {dropout!r}; {FRACTION} is needed")


def check_size(name: str, image: Tensor, smallest: int) -> None:
    """Raise ValueError with the minimum size for an image that is too small."""
    height, width = image.shape[-2:]
    if min(height, width) < smallest:
        least = f"at least {smallest} x {smallest} is needed"
        raise ValueError(f"an image of {height} x {width} is too small for '{name}': {least}")


def run_checked(model: nn.Module, name: str, run: Callable[[Tensor], Tensor], image: Tensor) -> Tensor:
    """Run a batch; when it fails, find out whether the image size is the cause and suggest another.

    Batch norm in training cannot normalize a single value per channel. A single image that leads to one is run
    twice as a batch, which changes neither its output nor its gradients.
    """
    try:
        return run(image)
    except (RuntimeError, ValueError, AssertionError) as error:
        if len(image) != 1 or "more than 1 value per channel" not in str(error):
            is_of_size = "memory" not in str(error) and not can_run(model, run, image)
            side = find_working_side(model, run, image) if is_of_size else 0
            if not side:
                raise
            size = " x ".join(map(str, image.shape[-2:]))
            raise ValueError(f"an image of {size} does not fit '{name}': {side} x {side} fits") from error
    return run_checked(model, name, run, torch.cat([image, image]))[:1]


def find_working_side(model: nn.Module, run: Callable[[Tensor], Tensor], image: Tensor) -> int:
    """Return the first side at which the model runs, larger ones first; 0 for none."""
    least = min(image.shape[-2:])
    sides = [side for side in SIDES if side > least] + [side for side in SIDES if side <= least]
    return next((side for side in sides if can_run(model, run, image[..., :1, :1].expand(-1, -1, side, side))), 0)


class UncheckedModel(nn.Module):
    """A model whose forward pass is `run`, without the analysis of failures."""

    def __init__(self, model: nn.Module, run: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.model, self.run = model, run

    def forward(self, image: Tensor) -> Tensor:
        return self.run(image)


def can_run(model: nn.Module, run: Callable[[Tensor], Tensor], image: Tensor) -> bool:
    """Return whether a batch of two images of this size runs; shapes only, on the meta device."""
    plain = UncheckedModel(model, run)
    tensors = {**dict(plain.named_parameters()), **dict(plain.named_buffers())}
    empty = {key: torch.empty_like(value, device="meta") for key, value in tensors.items()}
    try:
        with torch.no_grad():
            torch.func.functional_call(plain, empty, torch.empty((2, *image.shape[1:]), device="meta"))
    except (RuntimeError, ValueError, AssertionError):
        return False
    return True


def pretrained_unet(
    name: str, encoder: nn.Module, decoder: nn.Module, k: int, classes: int, pretrained: Pretrained
) -> nn.Module:
    """Return a segmenter of an encoder of stride 32 and a new decoder to k channels, with a head."""
    head = nn.Conv2d(k, classes, kernel_size=1)
    decoder.apply(init_weights)
    head.apply(init_weights)
    return Segmenter(name, encoder, decoder, head, multiple=32, pretrained=pretrained)


def set_in_channels(module: nn.Module, channels: int) -> None:
    """Replace the first convolution by one for so many input channels."""
    name, conv = next((name, m) for name, m in module.named_modules() if isinstance(m, nn.Conv2d))
    if conv.in_channels != channels:
        kernel, stride, padding = (cast(tuple[int, int], p) for p in (conv.kernel_size, conv.stride, conv.padding))
        bias = conv.bias is not None
        module.set_submodule(name, nn.Conv2d(channels, conv.out_channels, kernel, stride, padding, bias=bias))


__getattr__ = renamed_names(__name__)
