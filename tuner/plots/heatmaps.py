"""Heat maps over images: the pictures of an explanation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import ImageFont

from tuner.data.instances import Labels
from tuner.data.source import Image
from tuner.errors import atomic_write, writing
from tuner.plots.grid import INK, draw_text_line, join_vertically, write_grid
from tuner.plots.overlays import RIGHT, match_numbers, resize_labels, resize_longer_side, target_overlay
from tuner.recipe import Recipe
from tuner.tasks import BINARY_CLASSES, find_task

CELL = 128  # pixels of a picture's longer side
GAP = 6
LETTERS = 13
HEAT = 0.5  # opacity of the heat map over the image
Cell = tuple[str, Image]  # caption, picture
Score = Literal["probability", "logit"]  # what is summed over the pixels of a class


@dataclass(frozen=True)
class Explanation:
    """The heat maps of one image.

    maps: per layer how much each pixel raised the score, from 0 to 1.
    logits: the model's output, (outputs, height, width) or (outputs,); of an instance model, its evidence.
    target: the class that is explained; 1 for the object of a binary mask and for instances.
    found: False if no pixel was predicted as that class; then the whole output is explained.
    instances: of an instance model, the label map of its prediction.
    saturated: True if the probabilities of all pixels of the class have no gradient; then logits are explained.
    """

    maps: Mapping[str, NDArray[np.float32]]
    logits: NDArray[np.float32]
    target: int
    found: bool
    instances: Labels | None = None
    saturated: bool = False


def overlay_heat(picture: Image, heat: NDArray[np.float32]) -> Image:
    """Return the picture with the heat map resized over it, coloured from blue (0) to red (1)."""
    full = cv2.resize(heat, (picture.shape[1], picture.shape[0]), interpolation=cv2.INTER_LINEAR)
    colours = cv2.applyColorMap((full.clip(0, 1) * 255).astype(np.uint8), cv2.COLORMAP_JET)[..., ::-1]
    return (picture * (1 - HEAT) + colours * HEAT).astype(np.uint8)


def explanation_cells(
    picture: Image, seen: Explanation, recipe: Recipe, truth: Any = None, side: int = CELL
) -> list[Cell]:
    """Return the cells that explain a prediction: image, truth if known, prediction, and a heat map of each layer.

    Matching instances of truth and prediction have the same colour.
    """
    small = resize_longer_side(picture, side, cv2.INTER_CUBIC)
    heats = [
        (name if heat.any() else f"{name}: nothing", overlay_heat(small, heat)) for name, heat in seen.maps.items()
    ]
    classes = recipe.classes or BINARY_CLASSES
    if seen.instances is None and seen.logits.ndim == 1:
        return [(format_verdict(seen.logits, seen.target, truth, classes), small), *heats]
    targets = find_task(recipe.task).targets
    known = [] if truth is None else [("truth", target_overlay(small, truth, targets, RIGHT))]
    is_object = seen.target and (seen.instances is not None or len(seen.logits) == 1)
    caption = "prediction" if is_object else f"maps: {classes[seen.target]}"
    if seen.instances is not None:
        caption = caption if seen.instances.any() else "nothing found"
        prediction = draw_instances(small, seen.instances, truth)
    else:
        caption = caption if seen.found else f"no {classes[seen.target]} found"
        prediction = draw_prediction(small, seen.logits)
    caption = f"{caption}; logits" if seen.saturated else caption
    return [("image", small), *known, (caption, prediction), *heats]


def draw_instances(small: Image, labels: Labels, truth: Any) -> Image:
    """Return the picture with the predicted instances in the colours of the true ones, if these are known."""
    size = (small.shape[1], small.shape[0])
    predicted = resize_labels(labels, *size)
    same = predicted if truth is None else match_numbers(predicted, resize_labels(truth, *size))
    return target_overlay(small, same, "instances")


def format_verdict(logits: NDArray[np.float32], target: int, truth: Any, classes: Sequence[str]) -> str:
    """Return the predicted class with its probability, then the true class and that of the maps if they differ."""
    shares = np.exp(logits - logits.max())
    best = int(logits.argmax())
    verdict = f"{classes[best]} {shares[best] / shares.sum():.0%}"
    right = f", not {classes[int(truth)]}" if truth is not None and int(truth) != best else ""
    return verdict + right + (f"; maps: {classes[target]}" if target != best else "")


def draw_prediction(picture: Image, logits: NDArray[np.float32]) -> Image:
    """Return the picture with the predicted mask or label map; scores are resized before they are thresholded."""
    size = (picture.shape[1], picture.shape[0])
    full = np.stack([cv2.resize(score, size, interpolation=cv2.INTER_LINEAR) for score in logits])
    if len(logits) == 1:
        return target_overlay(picture, full[0] > 0, "masks")
    return target_overlay(picture, full.argmax(0), "labels")


def draw_cells(rows: Sequence[Sequence[Cell]], path: Path) -> None:
    """Write a grid of pictures, each below its caption, to `path`; the file is replaced atomically."""
    width = max(picture.shape[1] for row in rows for _, picture in row)
    with writing(path), atomic_write(path) as beside:
        write_grid([[add_caption(*cell, width) for cell in row] for row in rows], beside, GAP)


def add_caption(text: str, picture: Image, width: int) -> Image:
    """Return the picture below a caption, padded to a width."""
    line = draw_text_line(shorten_text(text, width - 2), width, INK, LETTERS)
    return join_vertically([line, picture], gap=0)


def shorten_text(text: str, width: int) -> str:
    """Return the text, shortened with "..." to fit a width in pixels."""
    font = ImageFont.load_default(LETTERS)
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}...") > width:
        text = text[:-1]
    return f"{text}..."
