"""Generated images for rehearsals and tests: cells under a microscope, many of which touch or overlap.

Each cell has a dim rim and a brighter middle of its own brightness; the rim of the upper cell separates two that
overlap. Dust specks and dim rings are not cells. Each image depends only on its number.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from tuner.data.instances import renumber
from tuner.data.source import Image, Item, Source, Target
from tuner.data.split import hold_out
from tuner.data.synthetic.shapes import Spot

SIDE = 128  # pixels
COUNT = 120
REVISION = "cells-1"  # part of the cache key: change it whenever a pixel changes
BARE = 15  # one in so many images has no cell
APART = 0.7  # minimum distance of two centres, as a fraction of the sum of their radii
Map = NDArray[np.float32]


def cells(*, image_size: int = 128, val: float = 0.2, split_seed: int = 0, split: str = "stable") -> Source:
    """Generated: touching and overlapping cells with instance numbers, 120 images, no download."""
    items = tuple(Item(f"cells{number:03d}", "train") for number in range(COUNT))
    return Source(
        "cells", "generated", "instances", hold_out(items, val, split_seed, split), read_item, revision=REVISION
    )


def read_item(item: Item) -> tuple[Image, Target]:
    number = int(item.key.removeprefix("cells"))
    return draw_culture(np.random.default_rng([number, 13]), num_groups=0 if number % BARE == BARE - 1 else None)


def draw_culture(rng: np.random.Generator, num_groups: int | None = None) -> tuple[Image, NDArray[np.uint16]]:
    picture, labels = draw_background(rng), np.zeros((SIDE, SIDE), np.uint16)
    groups = int(rng.integers(4, 8)) if num_groups is None else num_groups
    for number, place in enumerate(place_cells(rng, groups), start=1):
        draw_cell(rng, picture, labels, number, place)
    draw_dust(rng, picture)
    blurred = cv2.GaussianBlur(picture, (0, 0), 0.7)
    grey = blurred + rng.normal(0, rng.uniform(4, 9), (SIDE, SIDE))
    stained = np.clip(grey, 0, 255)[..., None] * rng.uniform(0.75, 1.0, 3)
    return stained.astype(np.uint8), renumber(labels).astype(np.uint16)


def draw_background(rng: np.random.Generator) -> Map:
    light = rng.uniform(35, 75) + rng.uniform(-14, 14, (4, 4))
    return np.asarray(cv2.resize(light.astype(np.float32), (SIDE, SIDE), interpolation=cv2.INTER_CUBIC))


def place_cells(rng: np.random.Generator, groups: int) -> list[Spot]:
    """Return groups of cells, in which each next cell touches or overlaps an earlier one."""
    taken: list[Spot] = []
    for _ in range(groups):
        mine: list[Spot] = []
        for _ in range(int(rng.integers(1, 7))):
            radius = float(rng.uniform(7, 13))
            spot = spot_beside(rng, mine, radius) if mine else tuple(rng.uniform(0, SIDE, 2))
            if all(np.hypot(spot[0] - x, spot[1] - y) > APART * (radius + r) for x, y, r in [*taken, *mine]):
                mine.append((float(spot[0]), float(spot[1]), radius))
        taken += mine
    return [place for place in taken if 2 < place[0] < SIDE - 2 and 2 < place[1] < SIDE - 2]


def spot_beside(rng: np.random.Generator, mine: list[Spot], radius: float) -> tuple[float, float]:
    x, y, other = mine[int(rng.integers(len(mine)))]
    angle, reach = rng.uniform(0, 2 * np.pi), (radius + other) * rng.uniform(APART, 0.98)
    return x + reach * np.cos(angle), y + reach * np.sin(angle)


def draw_cell(
    rng: np.random.Generator, picture: Map, labels: NDArray[np.uint16], number: int, place: Spot
) -> None:
    """Draw a bent oval: a dim rim that gets brighter towards the middle."""
    deep = cell_depth(rng, place)
    inside = deep > 0
    bright = rng.uniform(105, 175)
    shade = bright * (0.55 + 0.45 * np.clip(deep / 0.45, 0, 1)) + rng.normal(0, 5, picture.shape)
    picture[inside] = shade[inside]
    labels[inside] = number


def cell_depth(rng: np.random.Generator, place: Spot) -> Map:
    """Return how deep each pixel lies in the oval: 1 in its middle, 0 at its rim, negative outside."""
    x, y, radius = place
    turn, long = rng.uniform(0, np.pi), rng.uniform(1.0, 1.25)
    down, across = np.mgrid[:SIDE, :SIDE].astype(np.float32)
    a = (across - x) * np.cos(turn) + (down - y) * np.sin(turn)
    b = (down - y) * np.cos(turn) - (across - x) * np.sin(turn)
    bend = 1 + rng.uniform(0, 0.08) * np.sin(rng.integers(2, 5) * np.arctan2(b, a) + rng.uniform(0, 6.28))
    return np.asarray(1 - np.hypot(a / long, b * long) / (radius * bend), np.float32)


def draw_dust(rng: np.random.Generator, picture: Map) -> None:
    """Draw bright specks and faint rings, which are not cells."""
    for _ in range(int(rng.integers(2, 8))):
        spot = tuple(int(at) for at in rng.integers(0, SIDE, 2))
        if rng.random() < 0.6:
            cv2.circle(picture, spot, 1, float(rng.uniform(150, 230)), -1)
        else:
            cv2.circle(picture, spot, int(rng.integers(5, 10)), float(rng.uniform(80, 110)), 1)
