"""U-Nets with a ResNet encoder."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import cast

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from tuner.models.blocks import Decoder, check_widths, convs, decoder_widths, pretrained_unet
from tuner.models.pretrained import Tensors, fill_encoder, torchvision_weights

SKIPS = (64, 64, 128, 256)  # channels at strides 2 to 16
DEEPEST = 512


def resnet34_unet(channels: int, classes: int, *, k: int = 16, batch_norm: bool = True) -> nn.Module:
    """ResNet-34 encoder, a bottleneck of 32k channels, transposed convolutions with skips: 16k to k channels.

    `batch_norm` applies to the decoder; the encoder always has its own.
    """
    from segmentation_models_pytorch.encoders import get_encoder

    check_widths(k=k)
    encoder = get_encoder("resnet34", in_channels=channels, weights=None)
    block = partial(convs, norm=batch_norm)
    decoder = Decoder([*SKIPS, DEEPEST], decoder_widths(k, 5), block, transposed=True, bottleneck=32 * k)
    pretrained = torchvision_weights("ResNet34_Weights")
    return pretrained_unet("resnet34_unet", encoder, decoder, k, classes, pretrained)


def resnet18_unet(channels: int, classes: int, *, k: int = 16, batch_norm: bool = True) -> nn.Module:
    """ResNet-18 encoder with a U-Net decoder of 16k to k channels; batch norm in both or in neither.

    Without batch norm, the encoder's are folded into its convolutions: ImageNet weights then give the same
    network, and results do not depend on the other images of a batch.
    """
    from segmentation_models_pytorch.encoders import get_encoder

    check_widths(k=k)
    encoder = get_encoder("resnet18", in_channels=channels, weights=None)
    if not batch_norm:
        fold_norms(encoder)
    decoder = Decoder([*SKIPS, DEEPEST], decoder_widths(k, 5), partial(convs, norm=batch_norm))
    pretrained = torchvision_weights("ResNet18_Weights", fill_encoder if batch_norm else fill_folded)
    return pretrained_unet("resnet18_unet", encoder, decoder, k, classes, pretrained)


def fold_norms(module: nn.Module) -> None:
    """Fold each batch norm into the convolution before it; in eval mode, the network stays the same."""
    module.eval()
    for parent in list(module.modules()):
        for (name, conv), (norm_name, norm) in pairwise(list(parent.named_children())):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(parent, name, fuse_conv_bn_eval(conv, norm))
                setattr(parent, norm_name, nn.Identity())
    module.train()


def fill_folded(encoder: nn.Module, tensors: Tensors) -> Tensors:
    """Return the tensors of a ResNet-18 with batch norm for an encoder with folded batch norm."""
    from segmentation_models_pytorch.encoders import get_encoder

    conv = encoder.get_submodule("conv1")
    normed = get_encoder("resnet18", in_channels=cast(nn.Conv2d, conv).in_channels, weights=None)
    normed.load_state_dict(dict(fill_encoder(normed, tensors)))
    fold_norms(normed)
    return normed.state_dict()
