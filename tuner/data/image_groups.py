"""Groups of images that belong together: frames of one film, slices of one patient, copies of one picture.

Scores of such images are alike, so a mean over them is less certain than one over as many independent images.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

SIDE = 16  # pixels of a thumbnail
MOST_COMPARED = 2000  # images, for all pairs to be compared; of more, each with the next
NUM_PAIRS = 4000  # random pairs that show how much images differ
NEXT_TO, ANYWHERE = 0.5, 0.25  # of the median difference: images below are alike, next to each other or anywhere


def name_groups(keys: Sequence[str]) -> list[int]:
    """Return a group for each name: names without their last number and extension are the same in a group."""
    stems = [str(PurePath(key).with_suffix("")) if key else "" for key in keys]
    return number_groups([re.sub(r"[-_ .]*[0-9]+$", "", stem) or stem for stem in stems])


def likeness_groups(images: Sequence[Any]) -> list[int]:
    """Return a group for each image, in the order of their names: alike neighbours, and near copies anywhere.

    Images are alike if they differ by less than half of what two random ones of them differ by in the median.
    """
    number = len(images)
    if number < 3:
        return list(range(number))
    small = np.stack([make_thumbnail(image) for image in images])
    rng = np.random.default_rng(0)
    first = rng.integers(0, number, NUM_PAIRS)
    second = (first + rng.integers(1, number, NUM_PAIRS)) % number
    usual = float(np.median(distances(small[first], small[second])))
    links = [(int(at), int(at) + 1) for at in np.flatnonzero(distances(small[:-1], small[1:]) < NEXT_TO * usual)]
    if number <= MOST_COMPARED:
        squares = (small * small).sum(axis=1)
        for at in range(number - 1):
            apart = squares[at + 1 :] + squares[at] - 2 * small[at + 1 :] @ small[at]
            near = np.flatnonzero(np.sqrt(np.maximum(apart, 0.0)) < ANYWHERE * usual)
            links += [(at, at + 1 + int(other)) for other in near]
    return join_groups(number, links)


def make_thumbnail(image: Any) -> NDArray[np.float32]:
    """Return the image as a few grey pixels, from at most four rows and columns of each."""
    height, width = image.shape[:2]
    plain = np.asarray(image[:: max(1, height // (4 * SIDE)), :: max(1, width // (4 * SIDE))], np.float32)
    grey = plain.mean(axis=2) if plain.ndim == 3 else plain
    rows, columns = (np.array_split(np.arange(size), SIDE) for size in grey.shape)
    bands = np.stack([grey[some].mean(axis=0) if len(some) else grey[-1] for some in rows])
    cells = np.stack([bands[:, some].mean(axis=1) if len(some) else bands[:, -1] for some in columns])
    return np.asarray(cells.ravel() / 255, np.float32)


def distances(some: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.asarray(np.sqrt(((some - others) ** 2).sum(axis=1)), np.float64)


def join_groups(number: int, links: Sequence[tuple[int, int]]) -> list[int]:
    """Return the group of each item, where linked items are in one group, numbered in order of occurrence."""
    parent = list(range(number))

    def root(at: int) -> int:
        while parent[at] != at:
            parent[at] = parent[parent[at]]
            at = parent[at]
        return at

    for one, other in links:
        parent[root(int(one))] = root(int(other))
    return number_groups([root(at) for at in range(number)])


def number_groups(labels: Sequence[Any]) -> list[int]:
    numbers = {label: at for at, label in enumerate(dict.fromkeys(labels))}
    return [numbers[label] for label in labels]
