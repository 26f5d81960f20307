"""Heat maps over images: the panels of explanations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from tuner.data.instances import Labels
from tuner.data.source import Image
from tuner.errors import atomic_write, writing
from tuner.plots.overlays import (
    BACKDROP,
    RIGHT,
    instance_overlay,
    label_overlay,
    match_numbers,
    overlay,
    resize_labels,
    resize_longer_side,
)
from tuner.recipe import Recipe
from tuner.tasks import BINARY_CLASSES

CELL = 128  # pixels of a picture's longer side
GAP = 6
LINE = 18  # pixels of a caption
LETTERS = 13
INK = (17, 24, 39)
HEAT = 0.5  # how much of the colour, how much of the image
Cell = tuple[str, Image]  # what it is, and the picture


def overlay_heat(picture: Image, heat: NDArray[np.float32]) -> Image:
    """The map in colours from blue (0) to red (1) over the picture, brought to the picture's size."""
    full = cv2.resize(heat, (picture.shape[1], picture.shape[0]), interpolation=cv2.INTER_LINEAR)
    colours = cv2.applyColorMap((full.clip(0, 1) * 255).astype(np.uint8), cv2.COLORMAP_JET)[..., ::-1]
    return (picture * (1 - HEAT) + colours * HEAT).astype(np.uint8)


def explanation_cells(
    picture: Image,
    maps: Mapping[str, NDArray[np.float32]],
    logits: NDArray[np.float32],
    target: int,
    found: bool,
    recipe: Recipe,
    truth: Any = None,
    side: int = CELL,
    labels: Labels | None = None,
) -> list[Cell]:
    """One image explained: itself, what is there if that is known, what the model said, a map of each layer.

    `labels` are the instances that were found, if it is about them.
    """
    small = resize_longer_side(picture, side, cv2.INTER_CUBIC)
    heats = [
        (name if heat.any() else f"{name}: nothing", overlay_heat(small, heat)) for name, heat in maps.items()
    ]
    classes = recipe.classes or BINARY_CLASSES
    if labels is not None:
        what = ("prediction" if target else f"maps: {classes[target]}") if labels.any() else "nothing found"
        return [("image", small), *instance_cells(small, labels, truth, what), *heats]
    if logits.ndim == 1:
        return [(verdict(logits, target, truth, classes), small), *heats]
    known = [] if truth is None else [("truth", drawn_truth(small, truth, recipe))]
    what = "prediction" if len(logits) == 1 and target else f"maps: {classes[target]}"
    said = what if found else f"no {classes[target]} found"
    return [("image", small), *known, (said, drawn_guess(small, logits)), *heats]


def instance_cells(small: Image, labels: Labels, truth: Any, what: str) -> list[Cell]:
    """What is there, if that is known, and what was found; the same thing in the same colour."""
    found = resize_labels(labels, small.shape[1], small.shape[0])
    if truth is None:
        return [(what, instance_overlay(small, found))]
    true = resize_labels(truth, small.shape[1], small.shape[0])
    return [("truth", instance_overlay(small, true)), (what, instance_overlay(small, match_numbers(found, true)))]


def verdict(logits: NDArray[np.float32], target: int, truth: Any, classes: Sequence[str]) -> str:
    """The likeliest class with its share, what is right where it is not, and what the maps are of if not of it."""
    shares = np.exp(logits - logits.max())
    best = int(logits.argmax())
    said = f"{classes[best]} {shares[best] / shares.sum():.0%}"
    right = f", not {classes[int(truth)]}" if truth is not None and int(truth) != best else ""
    return said + right + (f"; maps: {classes[target]}" if target != best else "")


def drawn_truth(picture: Image, truth: Any, recipe: Recipe) -> Image:
    size = (picture.shape[1], picture.shape[0])
    fitting = cv2.resize(np.asarray(truth).astype(np.uint8), size, interpolation=cv2.INTER_NEAREST_EXACT)
    if recipe.task == "binary":
        return overlay(picture, np.asarray(fitting), RIGHT)
    return label_overlay(picture, np.asarray(fitting))


def drawn_guess(picture: Image, logits: NDArray[np.float32]) -> Image:
    """The scores are brought to the picture's size before they are cut."""
    size = (picture.shape[1], picture.shape[0])
    full = np.stack([cv2.resize(score, size, interpolation=cv2.INTER_LINEAR) for score in logits])
    if len(logits) == 1:
        return overlay(picture, (full[0] > 0).astype(np.uint8))
    return label_overlay(picture, full.argmax(0).astype(np.uint8))


def draw_cells(rows: Sequence[Sequence[Cell]], path: Path) -> None:
    """A grid of pictures with a line of text above each; the file is written aside, then renamed."""
    width = max(picture.shape[1] for row in rows for _, picture in row)
    heights = [max(picture.shape[0] for _, picture in row) + LINE + GAP for row in rows]
    across = max(map(len, rows)) * (width + GAP) + GAP
    sheet = Pillow.new("RGB", (across, sum(heights) + GAP), (BACKDROP,) * 3)
    pen, top = ImageDraw.Draw(sheet), GAP
    for row, height in zip(rows, heights, strict=True):
        for at, (text, picture) in enumerate(row):
            left = GAP + at * (width + GAP)
            pen.text((left, top), shortened(text, width), INK, font())
            sheet.paste(Pillow.fromarray(picture), (left, top + LINE))
        top += height
    with writing(path), atomic_write(path) as beside:
        sheet.save(beside, format="PNG", compress_level=6)


@lru_cache
def font() -> Any:
    return ImageFont.load_default(LETTERS)


def shortened(text: str, width: int) -> str:
    """The text, or as much of it as fits."""
    if font().getlength(text) <= width:
        return text
    while text and font().getlength(f"{text}...") > width:
        text = text[:-1]
    return f"{text}..."
