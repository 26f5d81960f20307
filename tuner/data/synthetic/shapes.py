"""Generated images for rehearsals and tests: blobs with a bright rim among those with a dark rim.

Objects and distractors share colors, sizes and outlines, on a background of the same colors. Only the order of rim
and core distinguishes them, so a model needs context and several epochs. Each image depends only on its number.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from tuner.data.source import Image, Item, Source, Target
from tuner.data.split import hold_out

SIDE = 128  # pixels
COUNT = 120
REVISION = "shapes-2"  # part of the cache key: change it whenever a pixel changes
Spot = tuple[float, float, float]  # across, down, radius
Colour = NDArray[np.floating]


def shapes(*, image_size: int = 64, val: float = 0.2, split_seed: int = 0, split: str = "stable") -> Source:
    """Generated: blobs with a bright rim among similar ones, 120 images, no download."""
    items = tuple(Item(f"shape{number:03d}", "train") for number in range(COUNT))
    return Source(
        "shapes", "generated", "masks", hold_out(items, val, split_seed, split), read_item, revision=REVISION
    )


def read_item(item: Item) -> tuple[Image, Target]:
    return draw_picture(np.random.default_rng([int(item.key.removeprefix("shape")), 7]))


def draw_picture(rng: np.random.Generator) -> tuple[Image, Image]:
    picture = draw_background(rng)
    mask = np.zeros((SIDE, SIDE), np.uint8)
    kinds = [True] * int(rng.integers(1, 4)) + [False] * int(rng.integers(1, 4))
    taken: list[Spot] = []
    for is_object in kinds:  # objects first, so that a crowded image has at least one
        place = find_free_spot(rng, taken)
        if place is None:
            continue
        taken.append(place)
        outline = blob_outline(rng, *place)
        base = rng.uniform(70, 185, 3)
        step = rng.uniform(45, 65) * (1 if is_object else -1)  # the rim of an object is brighter than its core
        fill_rim_and_core(rng, picture, outline, base + step, base - step)
        if is_object:
            cv2.fillPoly(mask, [outline], 1)
    noisy = picture + rng.normal(0, 6, picture.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8), mask


def draw_background(rng: np.random.Generator) -> NDArray[np.float32]:
    patches = rng.uniform(40, 215, (5, 5, 3)).astype(np.float32)
    return cv2.resize(patches, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC).astype(np.float32)


def find_free_spot(rng: np.random.Generator, taken: list[Spot]) -> Spot | None:
    """Return a spot that touches no other, or None after a few tries."""
    for _ in range(12):
        radius = rng.uniform(14, 27)
        x, y = rng.uniform(radius, SIDE - radius, 2)
        if all((x - a) ** 2 + (y - b) ** 2 > (radius + r + 3) ** 2 for a, b, r in taken):
            return float(x), float(y), float(radius)
    return None


def blob_outline(rng: np.random.Generator, x: float, y: float, radius: float) -> NDArray[np.int32]:
    """Return a closed outline, between a circle and a star."""
    angles = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    waves = 1 + rng.uniform(0, 0.22) * np.sin(rng.integers(2, 6) * angles + rng.uniform(0, 6.28))
    return polar_outline(x, y, radius * waves / waves.max(), angles)


def polar_outline(x: float, y: float, reach: Any, angles: NDArray[np.float64]) -> NDArray[np.int32]:
    """Return the corners at these angles around a centre, `reach` away from it."""
    return np.stack([x + reach * np.cos(angles), y + reach * np.sin(angles)], axis=1).round().astype(np.int32)


def fill_rim_and_core(
    rng: np.random.Generator, picture: NDArray[np.float32], outline: NDArray[np.int32], rim: Colour, core: Colour
) -> None:
    cv2.fillPoly(picture, [outline], rim.tolist())
    centre = outline.mean(axis=0)
    inner = (centre + (outline - centre) * rng.uniform(0.5, 0.65)).round().astype(np.int32)
    cv2.fillPoly(picture, [inner], core.tolist())
