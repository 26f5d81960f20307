"""Images with masks laid over them: what the model found, what was there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from tuner.data.source import Image

TINT = (37, 99, 235)  # blue
CELL = 160  # pixels of a picture in a panel
GAP = 4
BACKDROP = 245


def overlay(image: Image, mask: Image, colour: tuple[int, int, int] = TINT, strength: float = 0.45) -> Image:
    """The mask as a tint with its outline."""
    inside = mask.astype(bool)[..., None]
    tinted = np.where(inside, image * (1 - strength) + np.array(colour) * strength, image).astype(np.uint8)
    outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return np.asarray(cv2.drawContours(tinted, outlines, -1, colour, max(1, image.shape[0] // 128)))


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
    scale = CELL / max(picture.shape[:2])
    size = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST
    return np.asarray(cv2.resize(picture, size, interpolation=method))


def draw_predictions(
    images: Sequence[Image], truths: Sequence[Image], predictions: NDArray[np.uint8], path: Path
) -> None:
    """Rows of image | truth | prediction; predictions are probabilities as bytes."""
    rows = [
        [image, overlay(image, truth, (22, 163, 74)), overlay(image, (guess > 127).astype(np.uint8))]
        for image, truth, guess in zip(images, truths, predictions, strict=True)
    ]
    panel([[*a, *b] for a, b in pairs(rows)], path)


def pairs(rows: list[list[Image]]) -> list[tuple[list[Image], list[Image]]]:
    """Two examples side by side, so that the sheet is not a ribbon."""
    return [(row, rows[at + 1] if at + 1 < len(rows) else []) for at, row in enumerate(rows) if at % 2 == 0]
