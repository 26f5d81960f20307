"""A strip: one image, its truth, and what was said of it after every epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from tuner import chosen
from tuner.data.source import Image
from tuner.report.examples import FAINT, INK, beside, blank, fitted, found, save, stacked, written
from tuner.report.overlays import RIGHT, TINT, instance_overlay, label_overlay, overlay
from tuner.report.things import alike, sized

SIDE = 112  # pixels of a frame
COLUMNS = 9
BARS = 3  # classes whose share is shown
BAR = 13  # pixels of a bar with its name
Frames = Mapping[int, NDArray[Any]]


def draw_strip(
    image: Image, truth: Any, frames: Frames, best: int, path: Path, targets: str, classes: Sequence[str]
) -> None:
    """`frames` are guesses by epoch, of any size: bytes of pixels, or the share of each class.

    Bytes of instances are their numbers; what is truly there has one colour in all frames.

    Many are thinned out evenly; the first, the best and the last are always there.
    """
    small = np.asarray(cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA))
    cells = first_cells(small, truth, targets, classes)
    for epoch in chosen.epochs(list(frames), best):
        drawn = framed(small, truth, frames[epoch], targets, classes)
        name, colour = (f"epoch {epoch}: best", RIGHT) if epoch == best else (f"epoch {epoch}", INK)
        cells.append(stacked([drawn, written(name, drawn.shape[1], colour, 11)], gap=0))
    save(stacked([beside(cells[at : at + COLUMNS]) for at in range(0, len(cells), COLUMNS)]), path)


def first_cells(small: Image, truth: Any, targets: str, classes: Sequence[str]) -> list[Image]:
    """The image and its truth; of classes one cell."""
    if targets == "classes":
        return [stacked([small, written(classes[int(truth)], SIDE, RIGHT, 11)], gap=0)]
    drawn = drawn_truth(small, np.asarray(truth), targets)
    return [
        stacked([cell, written(name, SIDE, FAINT, 11)], gap=0)
        for cell, name in ((small, "image"), (drawn, "truth"))
    ]


def drawn_truth(small: Image, truth: Any, targets: str) -> Image:
    if targets == "instances":
        return instance_overlay(small, sized(truth, SIDE, SIDE))
    mask = resized(truth)
    return label_overlay(small, mask) if targets == "labels" else overlay(small, mask, RIGHT)


def framed(small: Image, truth: Any, frame: NDArray[Any], targets: str, classes: Sequence[str]) -> Image:
    if targets == "classes":
        return bars(small, int(truth), frame, classes)
    if targets == "instances":
        return instance_overlay(small, alike(sized(frame, SIDE, SIDE), sized(truth, SIDE, SIDE)))
    guess = resized(frame)
    return label_overlay(small, guess) if targets == "labels" else glow(small, guess)


def resized(pixels: Image) -> Image:
    return np.asarray(cv2.resize(pixels, (SIDE, SIDE), interpolation=cv2.INTER_NEAREST))


def glow(small: Image, probability: Image) -> Image:
    """A tint as strong as the probability, and an outline where it is over one half."""
    strength = 0.6 * (probability / 255)[..., None]
    tinted = (small * (1 - strength) + np.array(TINT) * strength).astype(np.uint8)
    return overlay(tinted, found(probability), strength=0)


def bars(small: Image, truth: int, shares: NDArray[Any], classes: Sequence[str]) -> Image:
    """The image above the likeliest classes, each with a bar as long as its share; green is the true one."""
    half = fitted(small, SIDE // 2)
    ranked = [int(at) for at in np.argsort(-shares.astype(np.float32), kind="stable")[:BARS]]
    rows = [beside([half, blank(half.shape[0], SIDE - half.shape[1] - 4)])]
    for at in ranked:
        row = written(f"{classes[at]} {float(shares[at]):.0%}", SIDE, INK, 10)
        length = max(1, round(float(shares[at]) * SIDE))
        row[-3:, :length] = RIGHT if at == truth else TINT
        rows.append(row)
    return stacked(rows, gap=1)
