"""Pictures of example images with truth, prediction and errors, and the strip of one image over the epochs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from tuner.data.cache import CachedDataset
from tuner.data.source import IGNORED, Image
from tuner.plots import overlays
from tuner.plots.grid import (
    FAINT,
    GAP,
    INK,
    Colour,
    blank_picture,
    draw_coloured_words,
    draw_text_line,
    join_horizontally,
    join_vertically,
    split_rows,
    write_grid,
)
from tuner.plots.overlays import MISSED, RIGHT, TINT, WRONG, match_numbers, resize_labels, target_overlay
from tuner.train import details

CELL = 144  # pixels of a picture
LEGEND = {
    "masks": (("right", RIGHT), ("false alarm", WRONG), ("missed", MISSED)),
    "labels": (("right", RIGHT), ("wrong", WRONG)),
    "instances": overlays.LEGEND,
}
MOST_NAMES = 12  # classes in the colour legend


@dataclass(frozen=True)
class Example:
    """An image with its truth as the dataset has it, and the prediction.

    The prediction (`guess`) is an array of bytes: probabilities for masks, class numbers for label maps. For
    instances it is a label map of their numbers, for classification the probability of each class.
    """

    label: str
    image: Image
    truth: Any
    guess: NDArray[Any]


def make_examples(
    data: CachedDataset,
    chosen: Mapping[str, Sequence[int]],
    guesses: Mapping[int, NDArray[Any]],
    numbers: details.Details,
    targets: str,
) -> list[Example]:
    """Return the chosen images of the validation split, each with its kind, score and name."""
    examples = []
    for kind, position in label_positions(chosen):
        at, score = data.val[position], numbers.scores[position]
        label = f"{kind}: {'no score' if score is None else f'{numbers.metric} {score:.3f}'}, {data.keys[at]}"
        label = kind if targets == "classes" else label
        image, truth = np.asarray(data.images[at]), np.asarray(data.targets[at])
        examples.append(Example(label, image, truth, guesses[position]))
    return examples


def draw_examples(examples: Sequence[Example], path: Path, targets: str, classes: Sequence[str]) -> None:
    """Write rows of image, truth, prediction and errors to `path`; for classification, images with a verdict."""
    if targets == "classes":
        cells = [draw_class_cell(one, classes) for one in examples]
        return write_grid(split_rows(cells, 3), path)
    words = LEGEND[targets]
    if targets == "instances":
        words = tuple((name, darken_colour(colour)) for name, colour in words)
    width = 4 * CELL + 3 * GAP
    rows = [[draw_coloured_words([("errors:", FAINT), *words], width)]]
    rows += [[draw_class_legend(classes, width)]] if targets == "labels" else []
    rows += [[draw_text_line(name, CELL, FAINT) for name in ("image", "truth", "prediction", "errors")]]
    for one in examples:
        rows += [[draw_text_line(one.label, width)], draw_row(one, targets)]
    write_grid(rows, path)


def draw_row(one: Example, targets: str) -> list[Image]:
    """Return the pictures of one example: image, truth, prediction and errors."""
    if targets == "instances":
        return [fit_to_square(each) for each in draw_instance_row(one)]
    is_mask = targets == "masks"
    guess = threshold_mask(one.guess) if is_mask else one.guess
    truth = target_overlay(one.image, one.truth, targets, RIGHT)
    errors = draw_mask_errors(one) if is_mask else draw_label_errors(one)
    return [fit_to_square(each) for each in (one.image, truth, target_overlay(one.image, guess, targets), errors)]


def draw_instance_row(one: Example) -> list[Image]:
    """Return image, truth, prediction and errors of an instance example; matching instances share a colour.

    The image is resized before drawing, since outlines are one pixel wide.
    """
    image = overlays.resize_longer_side(one.image, CELL)
    height, width = image.shape[:2]
    true, predicted = (resize_labels(each, width, height) for each in (one.truth, one.guess))
    drawn = [target_overlay(image, each, "instances") for each in (true, match_numbers(predicted, true))]
    return [image, *drawn, overlays.instance_errors(image, predicted, true)]


def threshold_mask(probability: NDArray[Any]) -> Image:
    """Return the mask of the pixels with a probability over one half, given as bytes."""
    return (probability > 127).astype(np.uint8)


def draw_mask_errors(one: Example) -> Image:
    """Return the grey image with correct pixels in green, false alarms in red and missed pixels in blue."""
    predicted, true = threshold_mask(one.guess).astype(bool), np.asarray(one.truth) > 0
    canvas = overlays.to_grey(one.image)
    overlays.tint_pixels(canvas, predicted & true, RIGHT)
    overlays.tint_pixels(canvas, predicted & ~true, WRONG)
    overlays.tint_pixels(canvas, true & ~predicted, MISSED)
    return canvas


def draw_label_errors(one: Example) -> Image:
    """Return the grey image with correct pixels in green and wrong ones in red; ignored pixels stay grey."""
    counted, right = one.truth != IGNORED, one.guess == one.truth
    canvas = overlays.to_grey(one.image)
    overlays.tint_pixels(canvas, counted & right, RIGHT)
    overlays.tint_pixels(canvas, counted & ~right, WRONG)
    return canvas


def draw_class_cell(one: Example, classes: Sequence[str]) -> Image:
    """Return the image above its label, the predicted class and probability, and the true class if it differs."""
    predicted, true = int(one.guess.argmax()), int(one.truth)
    right = predicted == true
    verdict = f"{classes[predicted]} {one.guess[predicted]:.0%}"
    more = "" if right else f"not {classes[true]} {one.guess[true]:.0%}"
    lines = [draw_text_line(one.label, CELL, FAINT, 11), draw_text_line(verdict, CELL, RIGHT if right else WRONG)]
    return join_vertically([fit_to_square(one.image), *lines, draw_text_line(more, CELL)], gap=0)


# --- parts of a sheet ---


def fit_to_square(picture: Image, cell: int = CELL) -> Image:
    """Return the picture scaled to fit a square cell and centred in it."""
    small = overlays.resize_longer_side(picture, cell)
    canvas = blank_picture(cell, cell)
    top, left = (cell - small.shape[0]) // 2, (cell - small.shape[1]) // 2
    canvas[top : top + small.shape[0], left : left + small.shape[1]] = small
    return canvas


def draw_class_legend(classes: Sequence[str], width: int) -> Image:
    """Return an image of the class names, each in its colour."""
    words = [(name, darken_colour(overlays.label_colours()[at])) for at, name in enumerate(classes[:MOST_NAMES])]
    return join_vertically([draw_coloured_words(row, width) for row in split_rows(words, 6)], gap=0)


def darken_colour(colour: NDArray[np.uint8] | Colour) -> Colour:
    """Return a darker shade of a colour, readable as text."""
    red, green, blue = (int(part * 0.75) for part in colour)
    return red, green, blue


def label_positions(chosen: Mapping[str, Sequence[int]]) -> list[tuple[str, int]]:
    """Return (label, position) of each chosen image; the labels are 'worst', 'worst 2' and so on."""
    return [
        (kind if not at else f"{kind} {at + 1}", position)
        for kind, positions in chosen.items()
        for at, position in enumerate(positions)
    ]


SIDE = 112  # pixels of a frame
COLUMNS = 9
BARS = 3  # classes whose probability is shown
Frames = Mapping[int, NDArray[Any]]


def draw_strip(
    image: Image, truth: Any, frames: Frames, best: int, path: Path, targets: str, classes: Sequence[str]
) -> None:
    """Write the strip of one image, a frame for each epoch, to `path`.

    `frames` are the predictions by epoch, of any size, encoded as in `Example`. Of many frames evenly spaced ones
    are drawn, always with the first, the best and the last. A true instance has the same colour in all frames.
    """
    small = np.asarray(cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA))
    cells = draw_reference_cells(small, truth, targets, classes)
    for epoch in details.choose_epochs(list(frames), best):
        drawn = draw_frame(small, truth, frames[epoch], targets, classes)
        name, colour = (f"epoch {epoch}: best", RIGHT) if epoch == best else (f"epoch {epoch}", INK)
        cells.append(add_name(drawn, name, colour))
    write_grid(split_rows(cells, COLUMNS), path)


def draw_reference_cells(small: Image, truth: Any, targets: str, classes: Sequence[str]) -> list[Image]:
    """Return the cells of the image and its truth; for classification, one cell with both."""
    if targets == "classes":
        return [add_name(small, classes[int(truth)], RIGHT)]
    drawn = target_overlay(small, truth, targets, RIGHT)
    return [add_name(small, "image", FAINT), add_name(drawn, "truth", FAINT)]


def add_name(frame: Image, name: str, colour: Colour) -> Image:
    """Return a frame above its name."""
    return join_vertically([frame, draw_text_line(name, SIDE, colour, 11)], gap=0)


def draw_frame(small: Image, truth: Any, frame: NDArray[Any], targets: str, classes: Sequence[str]) -> Image:
    if targets == "classes":
        return draw_class_bars(small, int(truth), frame, classes)
    guess = resize_labels(frame, SIDE, SIDE)
    if targets == "masks":
        return draw_probability(small, guess)
    same = match_numbers(guess, resize_labels(truth, SIDE, SIDE)) if targets == "instances" else guess
    return target_overlay(small, same, targets)


def draw_probability(small: Image, probability: NDArray[Any]) -> Image:
    """Return the image with a tint as strong as the probability, and an outline where it exceeds one half."""
    strength = 0.6 * (probability / 255)[..., None]
    tinted = (small * (1 - strength) + np.array(TINT) * strength).astype(np.uint8)
    return overlays.mask_overlay(tinted, threshold_mask(probability), strength=0)


def draw_class_bars(small: Image, truth: int, shares: NDArray[Any], classes: Sequence[str]) -> Image:
    """Return the image above the likeliest classes, each with a bar of its probability; the true one is green."""
    half = fit_to_square(small, SIDE // 2)
    ranked = [int(at) for at in np.argsort(-shares.astype(np.float32), kind="stable")[:BARS]]
    rows = [join_horizontally([half, blank_picture(half.shape[0], SIDE - half.shape[1] - 4)])]
    for at in ranked:
        row = draw_text_line(f"{classes[at]} {float(shares[at]):.0%}", SIDE, size=10)
        length = max(1, round(float(shares[at]) * SIDE))
        row[-3:, :length] = RIGHT if at == truth else TINT
        rows.append(row)
    return join_vertically(rows, gap=1)
