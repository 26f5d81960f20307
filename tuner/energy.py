"""What a label map of instances becomes for training: its numbers, the energy inside each, and where it rises.

The energy is the distance to the instance's boundary, 1 at its deepest point: basins that a watershed finds again.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

FIELDS = 4  # numbers, energy, and the direction in which the energy rises, down and across
Map = NDArray[np.float32]


def with_energy(targets: NDArray[np.uint16]) -> Map:
    """images x 4 x height x width, from images x height x width."""
    made = np.empty((len(targets), FIELDS, *targets.shape[1:]), np.float32)
    for labels, fields in zip(targets, made, strict=True):
        fields[0] = labels
        fields[1] = energy_of(labels)
        fields[2:] = rises(fields[1], labels > 0)
    return made


def energy_of(labels: NDArray[np.integer]) -> Map:
    """The distance to whatever is not the same instance, divided by its greatest in that instance.

    The edge of the picture is no boundary: who stands in the door is cut, not thin.
    """
    inside = ((labels > 0) & ~boundary(labels)).astype(np.uint8)
    distance = (cv2.distanceTransform(inside, cv2.DIST_L2, cv2.DIST_MASK_5) + 1) * (labels > 0)
    deepest = np.ones(int(labels.max(initial=0)) + 1, np.float32)
    np.maximum.at(deepest, np.ravel(labels), np.ravel(distance))
    return np.asarray(distance / deepest[labels], np.float32)


def boundary(labels: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Pixels with a neighbour, above, below or beside, that is not of the same instance."""
    found = np.zeros(labels.shape, bool)
    down, across = labels[1:] != labels[:-1], labels[:, 1:] != labels[:, :-1]
    found[1:] |= down
    found[:-1] |= down
    found[:, 1:] |= across
    found[:, :-1] |= across
    return found


def rises(energy: Map, inside: NDArray[np.bool_]) -> Map:
    """Unit vectors (down, across) towards more energy; nothing outside of instances and where it is flat."""
    slopes = np.stack([cv2.Sobel(energy, cv2.CV_32F, 0, 1), cv2.Sobel(energy, cv2.CV_32F, 1, 0)])
    length = np.hypot(*slopes)
    return np.asarray(slopes / np.maximum(length, 1e-6) * (inside & (length > 1e-6)), np.float32)
