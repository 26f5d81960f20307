"""SportVGG: the convolutions of a VGG19, a 1 x 1 convolution to fewer channels, and a classifier."""

from __future__ import annotations

from functools import partial
from typing import ClassVar, cast

from torch import Tensor, nn

from tuner.models.blocks import check_dropout, check_size, check_widths, init_weights, set_in_channels
from tuner.models.pretrained import fill_encoder, torchvision_weights

LAYERS = 36  # of VGG19's features: all but the last max-pool
SMALLEST_SIDE = 16  # one pixel after four max-pools
GRID = 7  # side of the classifier's input, as in VGG


def sport_vgg(
    channels: int, classes: int, *, reduced: int = 256, hidden: int = 512, dropout: float = 0.5
) -> nn.Module:
    """VGG19's first 36 layers, a 1 x 1 convolution to `reduced` channels, and a fully connected classifier."""
    check_widths(reduced=reduced, hidden=hidden)
    check_dropout(dropout)
    return SportVGG(channels, classes, reduced, hidden, dropout)


class SportVGG(nn.Module):
    """A classifier of images of at least 16 x 16."""

    explained: ClassVar = {"reduce": "reduce"}

    def __init__(self, channels: int, classes: int, reduced: int, hidden: int, dropout: float) -> None:
        from torchvision.models.vgg import cfgs, make_layers

        super().__init__()
        self.encoder = cast(nn.Sequential, make_layers(cfgs["E"])[:LAYERS])
        set_in_channels(self.encoder, channels)
        self.reduce = nn.Conv2d(512, reduced, kernel_size=1)
        self.head = nn.Sequential(
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(GRID),
            nn.Flatten(),
            nn.Linear(reduced * GRID * GRID, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, classes),
        )
        self.apply(init_weights)
        self.pretrained = torchvision_weights("VGG19_Weights", partial(fill_encoder, prefix="features."))

    def forward(self, image: Tensor) -> Tensor:
        check_size("sport_vgg", image, SMALLEST_SIDE)
        return cast(Tensor, self.head(self.reduce(self.encoder(image))))
