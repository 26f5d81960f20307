"""From boxes with a small mask each to a label map: what stands in a pixel is the surest whose mask has it."""

from __future__ import annotations

from math import ceil, floor

import numpy as np
from numpy.typing import NDArray

from tuner.data.instances import Instances

MIN_VISIBLE = 0.5  # of a mask; where surer ones have more of it, it is one of them found twice
Array = NDArray[np.float32]


def paste_masks(
    boxes: Array, scores: Array, masks: Array, seen: tuple[int, int], size: tuple[int, int], least: float
) -> Instances:
    """The instances of one image, the surest first, at `size`.

    `boxes` are (left, top, right, bottom) in pixels of the image as it was `seen`, a height and a width; a
    pixel is inside where its mask is above `least`. An instance of no pixel vanishes.
    """
    labels = np.zeros(size, np.int32)
    kept: list[np.float32] = []
    for at in np.argsort(-scores, kind="stable"):
        left, top, right, bottom = boxes[at].tolist()
        rows, down = place_on_axis(top, bottom, seen[0], size[0], masks.shape[-2])
        columns, across = place_on_axis(left, right, seen[1], size[1], masks.shape[-1])
        inside = down @ masks[at] @ across.T > least
        here = labels[rows, columns]
        free = inside & (here == 0)
        if free.any() and free.sum() >= MIN_VISIBLE * inside.sum():
            kept.append(scores[at])
            here[free] = len(kept)
    return Instances(labels, np.array(kept, np.float32))


def place_on_axis(low: float, high: float, seen: int, size: int, number: int) -> tuple[slice, Array]:
    """One side of a box: the pixels whose centres are in it, and what each takes of the mask's `number` values.

    As torchvision cuts the masks that are learned from, a pixel's value stands at its upper left corner and
    not in its centre. A box between two centres has the pixel under its own.
    """
    scale = size / seen
    first, end = max(0, ceil(low * scale - 0.5)), min(size, floor(high * scale - 0.5) + 1)
    if end <= first:
        first = min(size - 1, max(0, floor((low + high) / 2 * scale)))
        end = first + 1
    corners = (np.arange(first, end) + 0.5) / scale - 0.5
    places = ((corners - low) / max(high - low, 1e-6) * number - 0.5).clip(0, number - 1)
    shares = 1 - np.abs(places[:, None] - np.arange(number))
    return slice(first, end), np.maximum(shares, 0).astype(np.float32)
