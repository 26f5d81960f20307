"""Paste the masks of boxes into a label map: each pixel belongs to the best-scored instance that covers it."""

from __future__ import annotations

from math import ceil, floor

import numpy as np
from numpy.typing import NDArray

from tuner.data.instances import Instances

MIN_VISIBLE = 0.5  # fraction of a mask; with less, it duplicates better ones and is dropped
Array = NDArray[np.float32]


def paste_masks(
    boxes: Array, scores: Array, masks: Array, seen: tuple[int, int], size: tuple[int, int], least: float
) -> Instances:
    """Return the instances of one image, best first, at `size`.

    `boxes` are (left, top, right, bottom) in pixels of the model's input of size `seen`, a height and a width;
    pixels with a mask above `least` are inside. Instances without pixels are dropped.
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
    """Return the pixels of one side of a box, and the weight of each of the mask's `number` values for them.

    As in torchvision's training masks, a pixel's value is at its upper left corner and not at its centre. A box
    between two pixel centres gets the pixel under its own centre.
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
