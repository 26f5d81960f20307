"""Generated images for rehearsals and tests: blobs with a bright rim among those with a dark rim.

Objects and distractors share colors, sizes and outlines, on a background of the same colors. Only the order of rim
and core distinguishes them, so a model needs context and several epochs. Each image depends only on its number.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from tuner.data.source import Image, Item, Source, Target, hold_out

SIDE = 128  # pixels
COUNT = 120
REVISION = "shapes-2"  # part of the cache key: change it whenever a pixel changes


def shapes(*, image_size: int = 64, val: float = 0.2, split_seed: int = 0) -> Source:
    """Generated: blobs with a bright rim among similar ones, 120 images, no download."""
    items = tuple(Item(f"shape{number:03d}", "train") for number in range(COUNT))
    return Source("shapes", "generated", "masks", hold_out(items, val, split_seed), read_item, revision=REVISION)


def read_item(item: Item) -> tuple[Image, Target]:
    return draw_picture(np.random.default_rng([int(item.key.removeprefix("shape")), 7]))


def draw_picture(rng: np.random.Generator) -> tuple[Image, Image]:
    picture = draw_background(rng)
    mask = np.zeros((SIDE, SIDE), np.uint8)
    kinds = [True] * int(rng.integers(1, 4)) + [False] * int(rng.integers(1, 4))
    taken: list[tuple[float, float, float]] = []
    for is_object in kinds:  # objects first, so that a crowded image has at least one
        place = find_free_spot(rng, taken)
        if place is None:
            continue
        taken.append(place)
        outline = blob_outline(rng, *place)
        draw_blob(rng, picture, outline, is_object)
        if is_object:
            cv2.fillPoly(mask, [outline], 1)
    noisy = picture + rng.normal(0, 6, picture.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8), mask


def draw_background(rng: np.random.Generator) -> NDArray[np.float32]:
    patches = rng.uniform(40, 215, (5, 5, 3)).astype(np.float32)
    return cv2.resize(patches, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC).astype(np.float32)


def find_free_spot(
    rng: np.random.Generator, taken: list[tuple[float, float, float]]
) -> tuple[float, float, float] | None:
    """Return centre and radius of a spot that touches no other, or None after a few tries."""
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
    reach = radius * waves / waves.max()
    return np.stack([x + reach * np.cos(angles), y + reach * np.sin(angles)], axis=1).round().astype(np.int32)


def draw_blob(
    rng: np.random.Generator, picture: NDArray[np.float32], outline: NDArray[np.int32], is_object: bool
) -> None:
    """Fill core and rim; the rim of an object is the brighter of the two, that of a distractor the darker."""
    base = rng.uniform(70, 185, 3)
    step = rng.uniform(45, 65) * (1 if is_object else -1)
    cv2.fillPoly(picture, [outline], (base + step).tolist())
    centre = outline.mean(axis=0)
    core = (centre + (outline - centre) * rng.uniform(0.5, 0.65)).round().astype(np.int32)
    cv2.fillPoly(picture, [core], (base - step).tolist())
