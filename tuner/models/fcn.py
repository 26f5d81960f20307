"""The fully convolutional network of torchvision."""

from __future__ import annotations

from torch import nn

from tuner.models.blocks import Segmenter, check_dropout, set_in_channels
from tuner.models.pretrained import torchvision_weights

STRIDE = 8  # of the feature map: the smallest image


def fcn_resnet50(channels: int, classes: int, *, dropout: float = 0.1) -> nn.Module:
    """torchvision's FCN: a dilated ResNet-50 with stride 8 and a head of two convolutions."""
    from torchvision.models import resnet50
    from torchvision.models.segmentation.fcn import FCNHead

    check_dropout(dropout)
    resnet = resnet50(weights=None, replace_stride_with_dilation=[False, True, True])
    del resnet.avgpool, resnet.fc
    encoder = nn.Sequential()
    for name, module in resnet.named_children():
        encoder.add_module(name, module)
    set_in_channels(encoder, channels)
    head = FCNHead(2048, classes)
    head[3].p = dropout
    pretrained = torchvision_weights("ResNet50_Weights")
    explained = {"layer3": "encoder.layer3", "layer4": "encoder.layer4", "head": "head.2"}
    return Segmenter(
        "fcn_resnet50", encoder, None, head, smallest=STRIDE, pretrained=pretrained, explained=explained
    )
