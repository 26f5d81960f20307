"""Images with masks, label maps or instances drawn over them."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from tuner.data.instances import Labels, find_boundary, match_instances
from tuner.data.source import IGNORED, Image
from tuner.plots.grid import Colour

TINT = (37, 99, 235)  # blue
RIGHT, WRONG = (22, 163, 74), (220, 38, 38)
LabelMap = NDArray[np.integer]


def mask_overlay(image: Image, mask: Image, colour: Colour = TINT, strength: float = 0.45) -> Image:
    """Return the image with the mask drawn as a tint with an outline."""
    inside = mask.astype(bool)[..., None]
    tinted = np.where(inside, image * (1 - strength) + np.array(colour) * strength, image).astype(np.uint8)
    outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return np.asarray(cv2.drawContours(tinted, outlines, -1, colour, max(1, image.shape[0] // 128)))


def target_overlay(image: Image, target: LabelMap, targets: str, colour: Colour = TINT) -> Image:
    """Return the image with a target drawn over it, resized to fit: a mask, a label map or instances."""
    fitting = resize_labels(target, image.shape[1], image.shape[0])
    if targets == "instances":
        return instance_overlay(image, fitting)
    if targets == "labels":
        return label_overlay(image, fitting.astype(np.uint8))
    return mask_overlay(image, fitting.astype(np.uint8), colour)


def to_grey(image: Image) -> Image:
    """Return the image in grey, so that colours drawn over it stand out."""
    grey = image.mean(2, keepdims=True) * 0.7 + 60
    return np.repeat(grey, 3, axis=2).astype(np.uint8)


def resize_longer_side(picture: Image, side: int, enlarging: int = cv2.INTER_NEAREST) -> Image:
    """Return the picture with its longer side resized to `side` and its aspect ratio kept.

    `enlarging` is the interpolation of OpenCV that is used to enlarge a smaller picture.
    """
    scale = side / max(picture.shape[:2])
    size = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else enlarging))


def label_overlay(image: Image, labels: Image, strength: float = 0.55) -> Image:
    """Return the image with each class drawn in its colour; ignored pixels are unchanged."""
    coloured = label_colours()[labels]
    mixed = (image * (1 - strength) + coloured * strength).astype(np.uint8)
    return np.where((labels == IGNORED)[..., None], image, mixed)


def instance_overlay(image: Image, labels: LabelMap, strength: float = 0.5) -> Image:
    """Return the image with each instance drawn as a tint with an outline; both outlines show where two touch."""
    inside, coloured = labels > 0, label_colours()[colour_index(labels)]
    mixed = (image * (1 - strength) + coloured * strength).astype(np.uint8)
    drawn = np.where((inside & find_boundary(labels))[..., None], coloured, mixed)
    return np.where(inside[..., None], drawn, image)


def colour_index(labels: LabelMap) -> LabelMap:
    """Return the colour number of each instance; colours repeat beyond 255 instances."""
    return np.where(labels > 0, (labels.astype(np.int64) - 1) % 255 + 1, 0)


def label_colours() -> NDArray[np.uint8]:
    """Return a colour for each of 256 labels; consecutive labels differ clearly in hue."""
    steps = np.arange(256)
    hue = (steps * 0.618 % 1 * 180).astype(np.uint8)
    hsv = np.stack([hue, np.where(steps % 2, 170, 220), np.where(steps // 3 % 2, 190, 240)], axis=1)
    return np.asarray(cv2.cvtColor(hsv[None].astype(np.uint8), cv2.COLOR_HSV2RGB))[0]


MERGED, SPLIT = (234, 179, 8), (147, 51, 234)  # amber and violet
MISSED = TINT
CUT = (17, 24, 39)  # outlines inside merged and split instances
FILL, FAINT = 0.65, 0.2  # opacity of errors, and of correct instances
STRIPE = 6  # pixels between the stripes of merged and split instances
LEGEND = (
    ("right", RIGHT),
    ("missed", MISSED),
    ("false alarm", WRONG),
    ("merged ///", MERGED),
    ("split \\\\\\", SPLIT),
)


def resize_labels(labels: LabelMap, width: int, height: int) -> Labels:
    """Return the label map at another size, without mixing labels."""
    plain = np.asarray(labels).astype(np.int32)
    return np.asarray(cv2.resize(plain, (width, height), interpolation=cv2.INTER_NEAREST_EXACT))


def match_numbers(predicted: LabelMap, true: LabelMap) -> Labels:
    """Return `predicted` with matched instances numbered as the true ones, and the others with new numbers."""
    most = int(predicted.max(initial=0))
    free = int(true.max(initial=0)) + 1
    numbers = np.concatenate([[0], np.arange(free, free + most)])
    for number, true_number, _ in match_instances(predicted, true).pairs:
        numbers[number] = true_number
    return numbers.astype(np.int32)[predicted]


def instance_errors(image: Image, predicted: LabelMap, true: LabelMap) -> Image:
    """Return the image with errors: green is correct, blue missed, red a false alarm, stripes merged or split.

    Inside a merged instance the true outlines are drawn, inside a split one the predicted outlines.
    """
    matches = match_instances(predicted, true)
    canvas = to_grey(image)
    right = np.isin(predicted, [number for number, _, _ in matches.pairs])
    tint_pixels(canvas, right, RIGHT, FAINT)
    tint_pixels(canvas, np.isin(true, matches.missed) & ~right, MISSED)
    tint_pixels(canvas, np.isin(predicted, matches.wrong), WRONG)
    split, merged = np.isin(true, matches.split) & (predicted > 0), np.isin(predicted, matches.merged)
    draw_stripes(canvas, image, split, SPLIT, -1)
    draw_stripes(canvas, image, merged, MERGED, 1)
    outlines, true_outlines = find_boundary(predicted), find_boundary(true)
    canvas[outlines & right & ~merged & ~split] = RIGHT
    canvas[outlines & split] = CUT
    canvas[true_outlines & merged & (true > 0)] = CUT
    return canvas


def tint_pixels(canvas: Image, where: NDArray[np.bool_], colour: Colour, strength: float = FILL) -> None:
    """Blend the pixels of `canvas` with a colour, in place."""
    canvas[where] = ((1 - strength) * canvas[where] + strength * np.array(colour)).astype(np.uint8)


def draw_stripes(canvas: Image, image: Image, where: NDArray[np.bool_], colour: Colour, slope: int) -> None:
    """Replace the pixels by stripes over the grey image that rise (1) or fall (-1) to the right."""
    rows, columns = np.ogrid[: where.shape[0], : where.shape[1]]
    thick = (columns + slope * rows) % STRIPE < STRIPE // 2
    canvas[where] = to_grey(image)[where]
    tint_pixels(canvas, where, colour, FAINT)
    tint_pixels(canvas, where & thick, colour, 1 - FAINT)
