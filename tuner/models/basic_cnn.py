"""Plain convolutions: a U-Net without skip connections."""

from __future__ import annotations

from torch import nn

from tuner.models.blocks import Segmenter, check_dropout, check_widths, convs, init_weights


def basic_cnn(
    channels: int, classes: int, *, k: int = 32, batch_norm: bool = True, dropout: float = 0.0
) -> nn.Module:
    """Six convolutions of k, 2k and 4k channels at full, half and quarter size, without skip connections."""
    check_widths(k=k)
    check_dropout(dropout)
    encoder = nn.Sequential(
        convs(channels, k, norm=batch_norm),
        nn.MaxPool2d(2),
        convs(k, 2 * k, norm=batch_norm),
        nn.MaxPool2d(2),
        convs(2 * k, 4 * k, norm=batch_norm),
    )
    head = nn.Sequential(nn.Dropout2d(dropout), nn.Conv2d(4 * k, classes, kernel_size=1))
    explained = {"x1": "encoder.0", "x2": "encoder.2", "x3": "encoder.4"}
    model = Segmenter("basic_cnn", encoder, None, head, multiple=4, explained=explained)
    model.apply(init_weights)
    return model
