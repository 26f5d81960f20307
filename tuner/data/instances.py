"""Label maps of instances, how two of them are matched, and the energy targets of Deep Watershed."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.int32]  # height x width; 0 is background, n the n-th instance

MAX_INSTANCES = 65535  # per image; the range of 16 bits
MIN_PART_PIXELS = 4  # smallest part of a cut instance that becomes a new instance
MATCH_IOU = 0.5  # IoU above which two instances match; at 0.5 a match is unique


@dataclass(frozen=True)
class Instances:
    """The instances 1 to n found in one image, and the score of each, from 0 to 1.

    Each pixel belongs to at most one instance.
    """

    labels: Labels
    scores: NDArray[np.float32]


@dataclass(frozen=True)
class Matches:
    """Predicted against true instances, by number; each list is sorted.

    `merged`: predicted instances that contain most of two or more true ones. `split`: true instances that contain
    most of two or more predicted ones.
    """

    pairs: tuple[tuple[int, int, float], ...]  # predicted, true, IoU
    wrong: tuple[int, ...]  # predicted without a match
    missed: tuple[int, ...]
    merged: tuple[int, ...]
    split: tuple[int, ...]


def renumber(labels: NDArray[np.integer]) -> Labels:
    """Return the same instances numbered 1 to n without gaps."""
    there = np.bincount(np.ravel(labels)) > 0
    there[0] = False
    return np.where(there, np.cumsum(there), 0).astype(np.int32)[labels]


def connected_pieces(labels: NDArray[np.integer]) -> tuple[Labels, Labels]:
    """Return a map of the connected pieces of all instances, numbered from 1, and each piece's instance."""
    from skimage.measure import label

    apart = np.asarray(label(labels, background=0, connectivity=2), np.int32)
    owners = np.zeros(int(apart.max(initial=0)) + 1, np.int32)
    owners[apart.ravel()] = labels.ravel()
    return apart, owners


def merge_pieces(moved: NDArray[np.integer], owners: Labels) -> Labels:
    """Return the instances of transformed `connected_pieces`; a piece that was cut becomes several instances.

    The largest part keeps the number of the instance. An instance that was in several pieces before, such as a
    person behind a pole, stays one. Gaps of a pixel or two do not count as cuts, since rotation breaks thin
    structures; parts of fewer than MIN_PART_PIXELS pixels are dropped.
    """
    grown = np.where(moved > 0, moved, cv2.dilate(moved.astype(np.uint16), np.ones((3, 3), np.uint8)))
    parts, of = connected_pieces(grown)
    parts = np.where(moved > 0, parts, 0)
    sizes = np.bincount(parts.ravel(), minlength=len(of))
    order = np.argsort(-sizes[1:], kind="stable") + 1  # the largest of each piece comes first
    _, first = np.unique(of[order], return_index=True)
    names = np.zeros(len(of), np.int32)
    names[order[first]] = owners[of[order[first]]]
    new = np.flatnonzero((names == 0) & (sizes >= MIN_PART_PIXELS))[1:]  # the first is the background
    new = new[: max(0, MAX_INSTANCES - int(owners.max(initial=0)))]
    names[new] = int(owners.max(initial=0)) + 1 + np.arange(len(new))
    return names[parts]


def find_touching(labels: NDArray[np.integer]) -> Labels:
    """Return the numbers of the instances that have a 4-neighbour in another instance."""
    met = [np.empty(0, np.int64)]
    for one, other in ((labels[1:], labels[:-1]), (labels[:, 1:], labels[:, :-1])):
        meets = (one != other) & (one > 0) & (other > 0)
        met += [one[meets], other[meets]]
    return np.unique(np.concatenate(met)).astype(np.int32)


def overlap_matrix(found: NDArray[np.integer], true: NDArray[np.integer]) -> NDArray[np.int64]:
    """Return the pixels that each predicted instance (row) shares with each true one (column); 0 is background."""
    rows, columns = int(found.max(initial=0)) + 1, int(true.max(initial=0)) + 1
    cells = np.ravel(found).astype(np.int64) * columns + np.ravel(true)
    return np.bincount(cells, minlength=rows * columns).reshape(rows, columns)


def iou_matrix(shared: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the IoU of each pair, without background; 0 where both are empty."""
    both = shared[1:, 1:]
    union = shared.sum(1)[1:, None] + shared.sum(0)[None, 1:] - both
    return both / np.maximum(union, 1)


def match_instances(found: NDArray[np.integer], true: NDArray[np.integer]) -> Matches:
    """Match predicted to true instances. Numbers without pixels are ignored."""
    names, of_true = instance_ids(found), instance_ids(true)
    shared = overlap_matrix(renumber(found), renumber(true))  # small, even if the numbers are large
    iou = iou_matrix(shared)
    rows, columns = np.nonzero(iou > MATCH_IOU)
    true_sizes, found_sizes = shared.sum(0)[1:], shared.sum(1)[1:]
    held = shared[1:, 1:] > true_sizes[None] / 2  # contains most of a true one
    parts = shared[1:, 1:] > found_sizes[:, None] / 2  # contains most of a predicted one
    return Matches(
        pairs=tuple(
            (int(names[at]), int(of_true[to]), float(iou[at, to])) for at, to in zip(rows, columns, strict=True)
        ),
        wrong=tuple(names[~np.isin(np.arange(len(found_sizes)), rows)].tolist()),
        missed=tuple(of_true[~np.isin(np.arange(len(true_sizes)), columns)].tolist()),
        merged=tuple(names[held.sum(1) > 1].tolist()),
        split=tuple(of_true[parts.sum(0) > 1].tolist()),
    )


def instance_ids(labels: NDArray[np.integer]) -> NDArray[np.int64]:
    """Return the numbers of the instances that have pixels, in order."""
    return np.flatnonzero(np.bincount(np.ravel(labels))[1:]) + 1


FIELDS = 4  # instance numbers, energy, direction of rising energy (down, across)
Map = NDArray[np.float32]


def make_energy_targets(targets: NDArray[np.uint16]) -> Map:
    """Return images x 4 x height x width from images x height x width."""
    made = np.empty((len(targets), FIELDS, *targets.shape[1:]), np.float32)
    for labels, fields in zip(targets, made, strict=True):
        fields[0] = labels
        fields[1] = compute_energy(labels)
        fields[2:] = energy_direction(fields[1], labels > 0)
    return made


def compute_energy(labels: NDArray[np.integer]) -> Map:
    """Return the distance to the boundary of the instance, divided by its maximum in that instance.

    The edge of the image is not a boundary: an instance is cut there.
    """
    inside = ((labels > 0) & ~find_boundary(labels)).astype(np.uint8)
    distance = (cv2.distanceTransform(inside, cv2.DIST_L2, cv2.DIST_MASK_5) + 1) * (labels > 0)
    deepest = np.ones(int(labels.max(initial=0)) + 1, np.float32)
    np.maximum.at(deepest, np.ravel(labels), np.ravel(distance))
    return np.asarray(distance / deepest[labels], np.float32)


def find_boundary(labels: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Return the pixels with a 4-neighbour that is not of the same instance.

    scikit-image's find_boundaries is equal, but takes 250 times as long.
    """
    found = np.zeros(labels.shape, bool)
    down, across = labels[1:] != labels[:-1], labels[:, 1:] != labels[:, :-1]
    found[1:] |= down
    found[:-1] |= down
    found[:, 1:] |= across
    found[:, :-1] |= across
    return found


def energy_direction(energy: Map, inside: NDArray[np.bool_]) -> Map:
    """Return unit vectors (down, across) towards more energy; 0 outside instances and where it is flat."""
    slopes = np.stack([cv2.Sobel(energy, cv2.CV_32F, 0, 1), cv2.Sobel(energy, cv2.CV_32F, 1, 0)])
    length = np.hypot(*slopes)
    return np.asarray(slopes / np.maximum(length, 1e-6) * (inside & (length > 1e-6)), np.float32)
