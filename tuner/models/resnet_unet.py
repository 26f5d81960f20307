"""U-Nets whose way down is a ResNet."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import cast

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from tuner.models.blocks import Decoder, Segmenter, check_widths, convs, decoder_widths, init_weights
from tuner.models.pretrained import Pretrained, Tensors, fill_encoder, torchvision_weights

STRIDE = 32  # of the deepest feature
SKIPS = (64, 64, 128, 256)  # channels at a half to a sixteenth of the image's size
DEEPEST = 512


def resnet34_unet(channels: int, classes: int, *, k: int = 16, batch_norm: bool = True) -> nn.Module:
    """ResNet-34, a bottleneck of 32k channels, and transposed convolutions up with skips: 16k to k channels.

    `batch_norm` is the decoder's; the encoder always has its own.
    """
    from segmentation_models_pytorch.encoders import get_encoder

    check_widths(k=k)
    encoder = get_encoder("resnet34", in_channels=channels, weights=None)
    block = partial(convs, norm=batch_norm)
    decoder = Decoder([*SKIPS, DEEPEST], decoder_widths(k, 5), block, transposed=True, bottleneck=32 * k)
    pretrained = torchvision_weights("ResNet34_Weights")
    return resnet_unet("resnet34_unet", encoder, decoder, nn.Conv2d(k, classes, kernel_size=1), pretrained)


def resnet18_unet(channels: int, classes: int, *, k: int = 16, batch_norm: bool = True) -> nn.Module:
    """ResNet-18 with a U-Net's decoder of 16k to k channels; without batch norm, none is in the encoder either.

    Where the encoder's are left out, they are folded into its convolutions: ImageNet weights then start the
    same network, and nothing depends on the other images of a batch.
    """
    from segmentation_models_pytorch.encoders import get_encoder

    check_widths(k=k)
    encoder = get_encoder("resnet18", in_channels=channels, weights=None)
    if not batch_norm:
        fold_norms(encoder)
    decoder = Decoder([*SKIPS, DEEPEST], decoder_widths(k, 5), partial(convs, norm=batch_norm))
    pretrained = torchvision_weights("ResNet18_Weights", fill_encoder if batch_norm else fill_folded)
    return resnet_unet("resnet18_unet", encoder, decoder, nn.Conv2d(k, classes, kernel_size=1), pretrained)


def resnet_unet(
    name: str, encoder: nn.Module, decoder: nn.Module, head: nn.Module, pretrained: Pretrained
) -> nn.Module:
    decoder.apply(init_weights)
    head.apply(init_weights)
    return Segmenter(name, encoder, decoder, head, multiple=STRIDE, pretrained=pretrained)


def fold_norms(module: nn.Module) -> None:
    """Make each batch norm a part of the convolution before it: in eval mode the same network."""
    module.eval()
    for parent in list(module.modules()):
        for (name, conv), (norm_name, norm) in pairwise(list(parent.named_children())):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(parent, name, fuse_conv_bn_eval(conv, norm))
                setattr(parent, norm_name, nn.Identity())
    module.train()


def fill_folded(encoder: nn.Module, tensors: Tensors) -> Tensors:
    """The tensors of a ResNet-18 with batch norm, for an encoder without."""
    from segmentation_models_pytorch.encoders import get_encoder

    conv = encoder.get_submodule("conv1")
    normed = get_encoder("resnet18", in_channels=cast(nn.Conv2d, conv).in_channels, weights=None)
    normed.load_state_dict(dict(fill_encoder(normed, tensors)))
    fold_norms(normed)
    return normed.state_dict()
