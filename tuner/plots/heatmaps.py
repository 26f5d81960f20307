"""Heat maps over images: the pictures of an explanation."""

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
from tuner.plots.grid import blank_picture, join_vertically, write_grid
from tuner.plots.overlays import (
    RIGHT,
    instance_overlay,
    label_overlay,
    mask_overlay,
    match_numbers,
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
HEAT = 0.5  # opacity of the heat map over the image
Cell = tuple[str, Image]  # caption, picture


def overlay_heat(picture: Image, heat: NDArray[np.float32]) -> Image:
    """Return the picture with the heat map resized over it, coloured from blue (0) to red (1)."""
    full = cv2.resize(heat, (picture.shape[1], picture.shape[0]), interpolation=cv2.INTER_LINEAR)
    colours = cv2.applyColorMap((full.clip(0, 1) * 255).astype(np.uint8), cv2.COLORMAP_JET)[..., ::-1]
    return (picture * (1 - HEAT) + colours * HEAT).astype(np.uint8)


def explanation_cells(
    picture: Image,
    maps: Mapping[str, NDArray[np.float32]],
    logits: NDArray[np.float32],
    target: int,
    is_found: bool,
    recipe: Recipe,
    truth: Any = None,
    side: int = CELL,
    labels: Labels | None = None,
) -> list[Cell]:
    """Return the cells that explain a prediction: image, truth if known, prediction, and a heat map of each layer.

    `labels` are the predicted instances, for instance segmentation.
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
        return [(format_verdict(logits, target, truth, classes), small), *heats]
    known = [] if truth is None else [("truth", draw_truth(small, truth, recipe))]
    what = "prediction" if len(logits) == 1 and target else f"maps: {classes[target]}"
    caption = what if is_found else f"no {classes[target]} found"
    return [("image", small), *known, (caption, draw_prediction(small, logits)), *heats]


def instance_cells(small: Image, labels: Labels, truth: Any, what: str) -> list[Cell]:
    """Return the truth, if known, and the predicted instances, with matching instances in the same colour."""
    predicted = resize_labels(labels, small.shape[1], small.shape[0])
    if truth is None:
        return [(what, instance_overlay(small, predicted))]
    true = resize_labels(truth, small.shape[1], small.shape[0])
    return [
        ("truth", instance_overlay(small, true)),
        (what, instance_overlay(small, match_numbers(predicted, true))),
    ]


def format_verdict(logits: NDArray[np.float32], target: int, truth: Any, classes: Sequence[str]) -> str:
    """Return the predicted class with its probability, then the true class and that of the maps if they differ."""
    shares = np.exp(logits - logits.max())
    best = int(logits.argmax())
    verdict = f"{classes[best]} {shares[best] / shares.sum():.0%}"
    right = f", not {classes[int(truth)]}" if truth is not None and int(truth) != best else ""
    return verdict + right + (f"; maps: {classes[target]}" if target != best else "")


def draw_truth(picture: Image, truth: Any, recipe: Recipe) -> Image:
    """Return the picture with the true mask or label map drawn over it."""
    fitting = resize_labels(truth, picture.shape[1], picture.shape[0]).astype(np.uint8)
    return mask_overlay(picture, fitting, RIGHT) if recipe.task == "binary" else label_overlay(picture, fitting)


def draw_prediction(picture: Image, logits: NDArray[np.float32]) -> Image:
    """Return the picture with the predicted mask or label map; scores are resized before they are thresholded."""
    size = (picture.shape[1], picture.shape[0])
    full = np.stack([cv2.resize(score, size, interpolation=cv2.INTER_LINEAR) for score in logits])
    if len(logits) == 1:
        return mask_overlay(picture, (full[0] > 0).astype(np.uint8))
    return label_overlay(picture, full.argmax(0).astype(np.uint8))


def draw_cells(rows: Sequence[Sequence[Cell]], path: Path) -> None:
    """Write a grid of pictures, each below its caption, to `path`; the file is replaced atomically."""
    width = max(picture.shape[1] for row in rows for _, picture in row)
    with writing(path), atomic_write(path) as beside:
        write_grid([[add_caption(*cell, width) for cell in row] for row in rows], beside, GAP)


def add_caption(text: str, picture: Image, width: int) -> Image:
    """Return the picture below a caption, padded to a width."""
    line = Pillow.fromarray(blank_picture(LINE, width))
    ImageDraw.Draw(line).text((0, 0), shorten_text(text, width), INK, caption_font())
    return join_vertically([np.array(line), picture], gap=0)


@lru_cache
def caption_font() -> Any:
    """Return the font of the captions."""
    return ImageFont.load_default(LETTERS)


def shorten_text(text: str, width: int) -> str:
    """Return the text, shortened with "..." to fit a width in pixels."""
    if caption_font().getlength(text) <= width:
        return text
    while text and caption_font().getlength(f"{text}...") > width:
        text = text[:-1]
    return f"{text}..."
