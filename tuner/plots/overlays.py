"""Images with masks laid over them: what the model found, what was there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from tuner.data.instances import Labels, find_boundary, match_instances
from tuner.data.source import IGNORED, Image

TINT = (37, 99, 235)  # blue
RIGHT, WRONG = (22, 163, 74), (220, 38, 38)
CELL = 160  # pixels of a picture in a panel
GAP = 4
BACKDROP = 245


def overlay(image: Image, mask: Image, colour: tuple[int, int, int] = TINT, strength: float = 0.45) -> Image:
    """The mask as a tint with its outline."""
    inside = mask.astype(bool)[..., None]
    tinted = np.where(inside, image * (1 - strength) + np.array(colour) * strength, image).astype(np.uint8)
    outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return np.asarray(cv2.drawContours(tinted, outlines, -1, colour, max(1, image.shape[0] // 128)))


def to_grey(image: Image) -> Image:
    """Grey, so that colours on it are told apart."""
    grey = image.mean(2, keepdims=True) * 0.7 + 60
    return np.repeat(grey, 3, axis=2).astype(np.uint8)


def panel(rows: Sequence[Sequence[Image]], path: Path) -> None:
    """A grid of pictures, one row after the other, each scaled into an equal cell."""
    height = len(rows) * (CELL + GAP) + GAP
    width = max(len(row) for row in rows) * (CELL + GAP) + GAP
    sheet = np.full((height, width, 3), BACKDROP, np.uint8)
    for y, row in enumerate(rows):
        for x, picture in enumerate(row):
            top, left = GAP + y * (CELL + GAP), GAP + x * (CELL + GAP)
            small = fitted(picture)
            sheet[top : top + small.shape[0], left : left + small.shape[1]] = small
    Pillow.fromarray(sheet).save(path, compress_level=1)  # hardly larger, four times as fast


def fitted(picture: Image) -> Image:
    """Scaled to fit a cell, its shape kept."""
    return resize_longer_side(picture, CELL)


def resize_longer_side(picture: Image, side: int, enlarging: int = cv2.INTER_NEAREST) -> Image:
    """Its longer side as long as asked, its shape kept; `enlarging` says how OpenCV makes a small one larger."""
    scale = side / max(picture.shape[:2])
    size = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else enlarging))


def label_overlay(image: Image, labels: Image, strength: float = 0.55) -> Image:
    """Each class in its colour over the image; ignored pixels stay as they are."""
    coloured = label_colours()[labels]
    mixed = (image * (1 - strength) + coloured * strength).astype(np.uint8)
    return np.where((labels == IGNORED)[..., None], image, mixed)


def instance_overlay(image: Image, labels: NDArray[np.integer], strength: float = 0.5) -> Image:
    """Each instance as a tint in its colour, with its outline; where they touch, both outlines are seen."""
    inside, coloured = labels > 0, label_colours()[colour_index(labels)]
    mixed = (image * (1 - strength) + coloured * strength).astype(np.uint8)
    drawn = np.where((inside & find_boundary(labels))[..., None], coloured, mixed)
    return np.where(inside[..., None], drawn, image)


def colour_index(labels: NDArray[np.integer]) -> NDArray[np.integer]:
    """Which of the colours an instance has; beyond 255 they come again."""
    return np.where(labels > 0, (labels.astype(np.int64) - 1) % 255 + 1, 0)


def label_colours() -> NDArray[np.uint8]:
    """A colour for each of 256 labels: hues far apart, so that neighbours in number are not alike."""
    steps = np.arange(256)
    hue = (steps * 0.618 % 1 * 180).astype(np.uint8)
    hsv = np.stack([hue, np.where(steps % 2, 170, 220), np.where(steps // 3 % 2, 190, 240)], axis=1)
    return np.asarray(cv2.cvtColor(hsv[None].astype(np.uint8), cv2.COLOR_HSV2RGB))[0]


def captioned(image: Image, text: str, colour: tuple[int, int, int] = (17, 24, 39)) -> Image:
    """The image scaled to a cell, with a line of text below it."""
    picture = fitted(image)
    strip = np.full((18, picture.shape[1], 3), BACKDROP, np.uint8)
    plain = text.encode("ascii", "replace").decode()[: picture.shape[1] // 7]  # OpenCV's font knows no more
    cv2.putText(strip, plain, (2, 13), cv2.FONT_HERSHEY_SIMPLEX, 0.4, colour, 1, cv2.LINE_AA)
    return np.concatenate([picture, strip])


MERGED, SPLIT = (234, 179, 8), (147, 51, 234)  # amber and violet
MISSED = TINT
CUT = (17, 24, 39)  # the outlines by which a merged or a split one is known
FILL, FAINT = 0.65, 0.2  # how strongly what is wrong, and what is right, is coloured
STRIPE = 6  # pixels from one stripe of a merged or a split one to the next
LEGEND = (
    ("right", RIGHT),
    ("missed", MISSED),
    ("false alarm", WRONG),
    ("merged ///", MERGED),
    ("split \\\\\\", SPLIT),
)
Map = NDArray[np.integer]


def resize_labels(labels: Map, width: int, height: int) -> Labels:
    """A label map at another size; numbers are never mixed."""
    plain = np.asarray(labels).astype(np.int32)
    return np.asarray(cv2.resize(plain, (width, height), interpolation=cv2.INTER_NEAREST_EXACT))


def match_numbers(found: Map, true: Map) -> Labels:
    """The found instances by the numbers of the true ones that they are; the others get numbers of their own."""
    most = int(found.max(initial=0))
    free = int(true.max(initial=0)) + 1
    numbers = np.concatenate([[0], np.arange(free, free + most)])
    for said, there, _ in match_instances(found, true).pairs:
        numbers[said] = there
    return numbers.astype(np.int32)[found]


def instance_errors(image: Image, found: Map, true: Map) -> Image:
    """Green what was found, blue what was missed, red what is not there; striped what was merged or split.

    Of a merged one the true outlines are drawn, where it should have been cut; of a split one the found ones.
    """
    told = match_instances(found, true)
    made = to_grey(image)
    right = np.isin(found, [said for said, _, _ in told.pairs])
    fill(made, right, RIGHT, FAINT)
    fill(made, np.isin(true, told.missed) & ~right, MISSED)
    fill(made, np.isin(found, told.wrong), WRONG)
    split, merged = np.isin(true, told.split) & (found > 0), np.isin(found, told.merged)
    stripe(made, image, split, SPLIT, -1)
    stripe(made, image, merged, MERGED, 1)
    outline(made, found, right & ~merged & ~split, RIGHT)
    outline(made, found, split, CUT)
    outline(made, true, merged & (true > 0), CUT)
    return made


def fill(made: Image, where: NDArray[np.bool_], colour: tuple[int, int, int], strength: float = FILL) -> None:
    made[where] = ((1 - strength) * made[where] + strength * np.array(colour)).astype(np.uint8)


def stripe(made: Image, image: Image, where: NDArray[np.bool_], colour: tuple[int, int, int], slope: int) -> None:
    """Over whatever was painted there: stripes that rise (1) or fall (-1) to the right."""
    rows, columns = np.ogrid[: where.shape[0], : where.shape[1]]
    thick = (columns + slope * rows) % STRIPE < STRIPE // 2
    made[where] = to_grey(image)[where]
    fill(made, where, colour, FAINT)
    fill(made, where & thick, colour, 1 - FAINT)


def outline(made: Image, labels: Map, where: NDArray[np.bool_], colour: tuple[int, int, int]) -> None:
    made[find_boundary(labels) & where] = colour
