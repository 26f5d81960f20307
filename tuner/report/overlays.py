"""Images with masks laid over them: what the model found, what was there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from tuner.data.source import IGNORED, Image
from tuner.energy import boundary

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


def faded(image: Image) -> Image:
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
    return scaled(picture, CELL)


def scaled(picture: Image, side: int, enlarging: int = cv2.INTER_NEAREST) -> Image:
    """Its longer side as long as asked, its shape kept; `enlarging` says how OpenCV makes a small one larger."""
    scale = side / max(picture.shape[:2])
    size = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else enlarging))


def label_overlay(image: Image, labels: Image, strength: float = 0.55) -> Image:
    """Each class in its colour over the image; ignored pixels stay as they are."""
    coloured = colours()[labels]
    mixed = (image * (1 - strength) + coloured * strength).astype(np.uint8)
    return np.where((labels == IGNORED)[..., None], image, mixed)


def instance_overlay(image: Image, labels: NDArray[np.integer], strength: float = 0.5) -> Image:
    """Each instance as a tint in its colour, with its outline; where they touch, both outlines are seen."""
    inside, coloured = labels > 0, colours()[colour_of(labels)]
    mixed = (image * (1 - strength) + coloured * strength).astype(np.uint8)
    drawn = np.where((inside & boundary(labels))[..., None], coloured, mixed)
    return np.where(inside[..., None], drawn, image)


def colour_of(labels: NDArray[np.integer]) -> NDArray[np.integer]:
    """Which of the colours an instance has; beyond 255 they come again."""
    return np.where(labels > 0, (labels.astype(np.int64) - 1) % 255 + 1, 0)


def colours() -> NDArray[np.uint8]:
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
