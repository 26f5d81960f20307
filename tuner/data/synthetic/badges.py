"""Generated images for rehearsals and tests: which of six signs is on the badge?

A sign is brighter than its badge. All signs draw colors and sizes from the same range, slightly rotated and
shifted, so only the outline determines the class. Each image depends only on its number.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from tuner.data.source import Image, Item, Source, Target
from tuner.data.split import hold_out

SIDE = 96  # pixels
COUNT = 180  # 30 per class
REVISION = "badges-1"  # part of the cache key: change it whenever a pixel changes
CLASSES = ("bar", "cross", "disc", "ring", "star", "triangle")


def badges(*, image_size: int = 64, val: float = 0.2, split_seed: int = 0, split: str = "stable") -> Source:
    """Generated: badges with one of six signs, 180 images, no download."""
    items = tuple(
        Item(f"{CLASSES[number % len(CLASSES)]}/badge{number:03d}", "train", target=number % len(CLASSES))
        for number in range(COUNT)
    )
    return Source(
        "badges", "generated", "classes", hold_out(items, val, split_seed, split), read_item, CLASSES, REVISION
    )


def read_item(item: Item) -> tuple[Image, Target]:
    assert isinstance(item.target, int)
    number = int(item.key.rpartition("badge")[2])
    return draw_badge(np.random.default_rng([number, 13]), CLASSES[item.target]), item.target


def draw_badge(rng: np.random.Generator, sign: str) -> Image:
    """Draw a round badge with a sign on patches of color."""
    patches = rng.uniform(20, 120, (4, 4, 3)).astype(np.float32)
    picture = cv2.resize(patches, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC).astype(np.float32)
    radius = rng.uniform(0.4, 0.46) * SIDE
    centre = rng.uniform(radius, SIDE - radius, 2)
    base = rng.uniform(40, 120, 3)
    step = rng.uniform(80, 120)
    cv2.circle(picture, tuple(centre.round().astype(int).tolist()), round(radius), base.tolist(), -1)
    size, angle = radius * rng.uniform(0.75, 0.85), rng.uniform(-0.2, 0.2)
    for outline, part in sign_outlines(sign):
        corners = (centre + size * rotate_outline(outline, angle)).round().astype(np.int32)
        cv2.fillPoly(picture, [corners], (base + step * part).tolist())
    return np.clip(picture + rng.normal(0, 8, picture.shape), 0, 255).astype(np.uint8)


def sign_outlines(sign: str) -> list[tuple[NDArray[np.float64], int]]:
    """Return the polygons of a sign in the unit circle, with 1 for the sign's color and 0 for the badge's."""
    thin = np.array([[-1, -0.28], [1, -0.28], [1, 0.28], [-1, 0.28]])
    shapes = {
        "bar": [(thin, 1)],
        "cross": [(thin, 1), (thin[:, ::-1], 1)],
        "disc": [(regular_polygon(32), 1)],
        "ring": [(regular_polygon(32), 1), (0.5 * regular_polygon(32), 0)],
        "star": [(regular_polygon(10) * np.where(np.arange(10) % 2, 0.42, 1)[:, None], 1)],
        "triangle": [(regular_polygon(3), 1)],
    }
    return shapes[sign]


def regular_polygon(corners: int) -> NDArray[np.float64]:
    """Return a regular polygon with one corner at the top."""
    angles = np.linspace(0, 2 * np.pi, corners, endpoint=False) - np.pi / 2
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def rotate_outline(outline: NDArray[np.float64], angle: float) -> NDArray[np.float64]:
    cos, sin = np.cos(angle), np.sin(angle)
    return outline @ np.array([[cos, sin], [-sin, cos]])
