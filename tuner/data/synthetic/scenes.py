"""Generated images for rehearsals and tests: label maps of sky, ground, discs and boxes.

Sky and ground meet at a wavy horizon; discs and boxes lie on both. Their color ranges overlap, so a color is only
a hint. Texture separates ground from sky; outline and core, brighter in a disc and darker in a box, identify an
object. A thin rim around some objects is ignored. Each image depends only on its number.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from tuner.data.source import IGNORED, Image, Item, Source, Target
from tuner.data.split import hold_out
from tuner.data.synthetic.shapes import Spot, fill_rim_and_core, find_free_spot, polar_outline

SIDE = 128  # pixels
COUNT = 120
REVISION = "scenes-1"  # part of the cache key: change it whenever a pixel changes
CLASSES = ("sky", "ground", "disc", "box")
SKY, GROUND, DISC, BOX = range(4)
HUES = {DISC: np.array([180, 125, 105]), BOX: np.array([165, 105, 115])}  # plus or minus 45
RIM = 3  # pixels, half of them inside
DISC_ANGLES = np.linspace(0, 2 * np.pi, 48, endpoint=False)


def scenes(*, image_size: int = 64, val: float = 0.2, split_seed: int = 0, split: str = "stable") -> Source:
    """Generated: label maps of sky, ground, discs and boxes, 120 images, no download."""
    items = hold_out(tuple(Item(f"scene{number:03d}", "train") for number in range(COUNT)), val, split_seed, split)
    return Source("scenes", "generated", "labels", items, read_item, CLASSES, REVISION)


def read_item(item: Item) -> tuple[Image, Target]:
    return draw_scene(np.random.default_rng([int(item.key.removeprefix("scene")), 11]))


def draw_scene(rng: np.random.Generator) -> tuple[Image, Image]:
    labels = draw_land(rng)
    shades = np.array([[100, 120, 155], [120, 115, 95]]) + rng.uniform(-30, 30, (2, 3))
    picture = (
        shades[labels].astype(np.float32)
        + make_shading(rng, 7, 8)
        + make_shading(rng, 32, 20) * (labels[..., None] == GROUND)
    )
    taken: list[Spot] = []
    for kind in rng.permutation([DISC, BOX, *rng.integers(DISC, BOX + 1, 3)]):
        if place := find_free_spot(rng, taken):
            taken.append(place)
            draw_object(rng, picture, labels, int(kind), place)
    noisy = picture + rng.normal(0, 8, picture.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8), labels


def draw_land(rng: np.random.Generator) -> Image:
    across = np.linspace(0, 2 * np.pi, SIDE)
    horizon = SIDE * rng.uniform(0.3, 0.7) + rng.uniform(2, 12) * np.sin(
        across * rng.uniform(0.5, 2) + rng.uniform(0, 6)
    )
    return np.where(np.arange(SIDE)[:, None] < horizon[None], SKY, GROUND).astype(np.uint8)


def make_shading(rng: np.random.Generator, number: int, strength: float) -> NDArray[np.float32]:
    """Return random shading, `number` patches across."""
    small = rng.normal(0, strength, (number, number, 1)).astype(np.float32)
    return cv2.resize(small, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)[..., None].astype(np.float32)


def draw_object(
    rng: np.random.Generator, picture: NDArray[np.float32], labels: Image, kind: int, spot: Spot
) -> None:
    """Draw a disc or a rotated box; half of them get an ignored rim."""
    outline = polar_outline(*spot, DISC_ANGLES if kind == DISC else box_angles(rng))
    colour = HUES[kind] + rng.uniform(-45, 45, 3)
    fill_rim_and_core(rng, picture, outline, colour, colour + (40 if kind == DISC else -40))
    cv2.fillPoly(labels, [outline], kind)
    if rng.random() < 0.5:
        cv2.polylines(labels, [outline], True, IGNORED, RIM)


def box_angles(rng: np.random.Generator) -> NDArray[np.float64]:
    """Return the angles of four corners, of a nearly square box at a random angle."""
    half = rng.uniform(0.6, 0.95)
    return rng.uniform(0, 2 * np.pi) + np.array([-half, half, np.pi - half, np.pi + half])
