"""Images with masks laid over them: what the model found, what was there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

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


def label_overlay(image: Image, labels: Image, strength: float = 0.55) -> Image:
    """Each class in its colour over the image; ignored pixels stay as they are."""
    coloured = colours()[labels]
    mixed = (image * (1 - strength) + coloured * strength).astype(np.uint8)
    return np.where((labels == IGNORED)[..., None], image, mixed)


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


def draw_predictions(
    images: Sequence[Image],
    truths: Sequence[Any],
    guesses: NDArray[Any],
    path: Path,
    targets: str = "masks",
    classes: Sequence[str] = (),
) -> None:
    """Rows of image | truth | prediction; for classes, images with what they are and what was said."""
    if targets == "classes":
        cells = [verdict(*one, classes) for one in zip(images, truths, guesses, strict=True)]
        return panel([cells[at : at + 6] for at in range(0, len(cells), 6)], path)
    draw = drawn_labels if targets == "labels" else drawn_masks
    rows = [draw(*one) for one in zip(images, truths, guesses, strict=True)]
    panel([[*a, *b] for a, b in pairs(rows)], path)


def drawn_masks(image: Image, truth: Image, guess: Image) -> list[Image]:
    """`guess` is the probability of each pixel, as a byte."""
    return [image, overlay(image, truth, RIGHT), overlay(image, (guess > 127).astype(np.uint8))]


def drawn_labels(image: Image, truth: Image, guess: Image) -> list[Image]:
    return [image, label_overlay(image, truth), label_overlay(image, guess.astype(np.uint8))]


def verdict(image: Image, truth: int, guess: int, classes: Sequence[str]) -> Image:
    """What the model said, and what is right where it was wrong."""
    said, right = classes[int(guess)], classes[int(truth)]
    return captioned(image, said if said == right else f"{said}, not {right}", RIGHT if said == right else WRONG)


def pairs(rows: list[list[Image]]) -> list[tuple[list[Image], list[Image]]]:
    """Two examples side by side, so that the sheet is not a ribbon."""
    return [(row, rows[at + 1] if at + 1 < len(rows) else []) for at, row in enumerate(rows) if at % 2 == 0]
