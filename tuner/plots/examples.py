"""A few images with what is there, what was found, and where the two differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from tuner.data.source import IGNORED, Image
from tuner.plots import overlays
from tuner.plots.overlays import (
    BACKDROP,
    GAP,
    RIGHT,
    TINT,
    WRONG,
    instance_overlay,
    label_colours,
    label_overlay,
    match_numbers,
    overlay,
    resize_labels,
    resize_longer_side,
    to_grey,
)
from tuner.train import details

CELL = 144  # pixels of a picture
LINE = 18  # pixels of a line of text
INK, FAINT = (17, 24, 39), (90, 100, 115)
LEGEND = {
    "masks": (("right", RIGHT), ("false alarm", WRONG), ("missed", overlays.MISSED)),
    "labels": (("right", RIGHT), ("wrong", WRONG)),
    "instances": overlays.LEGEND,
}
PACKED = [cv2.IMWRITE_PNG_COMPRESSION, 1]
if hasattr(cv2, "IMWRITE_PNG_FILTER"):  # one filter for all lines takes half the time
    PACKED += [cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_SUB]
MOST_NAMES = 12  # classes whose colours are explained
Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Example:
    """An image with its truth as the dataset holds it, and the guess: bytes of pixels, or shares of classes.

    Of masks the bytes are probabilities, of label maps classes; of instances the guess has their numbers.
    """

    label: str
    image: Image
    truth: Any
    guess: NDArray[Any]


def draw_examples(examples: Sequence[Example], path: Path, targets: str, classes: Sequence[str]) -> None:
    """Rows of image, truth, prediction and errors, with a line above each; images of classes with a verdict."""
    if targets == "classes":
        cells = [classified(one, classes) for one in examples]
        return save(stacked([beside(cells[at : at + 3]) for at in range(0, len(cells), 3)]), path)
    words = [(name, darker(colour) if targets == "instances" else colour) for name, colour in LEGEND[targets]]
    rows = [line_of_words([("errors:", FAINT), *words], 4 * CELL + 3 * GAP)]
    rows += [named_colours(classes, 4 * CELL + 3 * GAP)] if targets == "labels" else []
    rows += [line_of(("image", "truth", "prediction", "errors"))]
    for one in examples:
        rows += [written(one.label, 4 * CELL + 3 * GAP, INK), beside(row_of(one, targets))]
    save(stacked(rows), path)


def row_of(one: Example, targets: str) -> list[Image]:
    image, guess = one.image, one.guess
    if targets == "instances":
        return [fitted(each) for each in row_of_instances(one)]
    if targets == "labels":
        drawn = [label_overlay(image, one.truth), label_overlay(image, guess), wrong_labels(one)]
    else:
        drawn = [overlay(image, one.truth, RIGHT), overlay(image, found(guess)), wrong_pixels(one)]
    return [fitted(each) for each in (image, *drawn)]


def row_of_instances(one: Example) -> list[Image]:
    """Drawn at the size at which they are seen: outlines are a pixel wide. One thing has one colour in all."""
    image = resize_longer_side(one.image, CELL)
    height, width = image.shape[:2]
    true, said = (overlays.resize_labels(each, width, height) for each in (one.truth, one.guess))
    same = overlays.match_numbers(said, true)
    drawn = [instance_overlay(image, true), instance_overlay(image, same)]
    return [image, *drawn, overlays.instance_errors(image, said, true)]


def found(probability: NDArray[Any]) -> Image:
    return (probability > 127).astype(np.uint8)


def wrong_pixels(one: Example) -> Image:
    """Green where the object was found, red where it was found and is not, blue where it was missed."""
    said, true = found(one.guess).astype(bool), np.asarray(one.truth) > 0
    made = to_grey(one.image)
    for where, colour in ((said & true, RIGHT), (said & ~true, WRONG), (true & ~said, overlays.MISSED)):
        made[where] = mixed(made[where], colour)
    return made


def wrong_labels(one: Example) -> Image:
    """Green where the class is right, red where it is not; ignored pixels as they are."""
    counted, right = one.truth != IGNORED, one.guess == one.truth
    made = to_grey(one.image)
    for where, colour in ((counted & right, RIGHT), (counted & ~right, WRONG)):
        made[where] = mixed(made[where], colour)
    return made


def mixed(pixels: Image, colour: Colour) -> Image:
    return (0.35 * pixels + 0.65 * np.array(colour)).astype(np.uint8)


def classified(one: Example, classes: Sequence[str]) -> Image:
    """The image, its label, and what was said with which probability; what is right where that was wrong."""
    said, true = int(one.guess.argmax()), int(one.truth)
    right = said == true
    verdict = f"{classes[said]} {one.guess[said]:.0%}"
    more = "" if right else f"not {classes[true]} {one.guess[true]:.0%}"
    lines = [written(one.label, CELL, FAINT, 11), written(verdict, CELL, RIGHT if right else WRONG)]
    return stacked([fitted(one.image), *lines, written(more, CELL, INK)], gap=0)


# --- pieces of a sheet ---


def fitted(picture: Image, cell: int = CELL) -> Image:
    """Scaled to fit into a square cell, in its middle."""
    small = resize_longer_side(picture, cell)
    made = blank(cell, cell)
    top, left = (cell - small.shape[0]) // 2, (cell - small.shape[1]) // 2
    made[top : top + small.shape[0], left : left + small.shape[1]] = small
    return made


def blank(height: int, width: int) -> Image:
    return np.full((height, width, 3), BACKDROP, np.uint8)


def written(text: str, width: int, colour: Colour, size: int = 12) -> Image:
    """A line of text, cut where it is too long."""
    return line_of_words([(text, colour)], width, size)


def line_of_words(words: Sequence[tuple[str, Colour]], width: int, size: int = 12) -> Image:
    """Words one after the other, each in its colour."""
    made = Pillow.fromarray(blank(LINE, width))
    pen, font, at = ImageDraw.Draw(made), ImageFont.load_default(size), 2.0
    for word, colour in words:
        pen.text((at, LINE // 2), word, fill=colour, font=font, anchor="lm")
        at += pen.textlength(word, font=font) + 12
    return np.array(made)


def line_of(names: Sequence[str]) -> Image:
    return beside([written(name, CELL, FAINT) for name in names])


def named_colours(classes: Sequence[str], width: int) -> Image:
    """The names of the classes, each in its colour."""
    words = [(name, darker(label_colours()[at])) for at, name in enumerate(classes[:MOST_NAMES])]
    return stacked([line_of_words(words[at : at + 6], width) for at in range(0, len(words), 6)], gap=0)


def darker(colour: NDArray[np.uint8] | Colour) -> Colour:
    red, green, blue = (int(part * 0.75) for part in colour)
    return red, green, blue


def beside(cells: Sequence[Image]) -> Image:
    """Pictures in a row, with a gap between them."""
    height = max(cell.shape[0] for cell in cells)
    parts: list[Image] = []
    for cell in cells:
        below = blank(height - cell.shape[0], cell.shape[1])
        parts += [np.concatenate([cell, below]), blank(height, GAP)]
    return np.concatenate(parts[:-1], axis=1)


def stacked(rows: Sequence[Image], gap: int = GAP) -> Image:
    """Pictures below each other, from the left."""
    width = max(row.shape[1] for row in rows)
    parts: list[Image] = []
    for row in rows:
        parts += [np.concatenate([row, blank(row.shape[0], width - row.shape[1])], axis=1), blank(gap, width)]
    return np.concatenate(parts[:-1])


def save(sheet: Image, path: Path) -> None:
    """With a margin around it; hardly larger than packed well, and eight times as fast."""
    whole = cv2.copyMakeBorder(sheet, GAP, GAP, GAP, GAP, cv2.BORDER_CONSTANT, value=(BACKDROP,) * 3)
    _, packed = cv2.imencode(".png", cv2.cvtColor(whole, cv2.COLOR_RGB2BGR), PACKED)
    path.write_bytes(packed.tobytes())


def labels_of(shown: Mapping[str, Sequence[int]]) -> list[tuple[str, int]]:
    """(what it is called, position) of every shown image: 'worst', 'worst 2' ..."""
    return [
        (kind if not at else f"{kind} {at + 1}", position)
        for kind, positions in shown.items()
        for at, position in enumerate(positions)
    ]


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
    for epoch in details.choose_epochs(list(frames), best):
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
        return instance_overlay(small, resize_labels(truth, SIDE, SIDE))
    mask = resized(truth)
    return label_overlay(small, mask) if targets == "labels" else overlay(small, mask, RIGHT)


def framed(small: Image, truth: Any, frame: NDArray[Any], targets: str, classes: Sequence[str]) -> Image:
    if targets == "classes":
        return bars(small, int(truth), frame, classes)
    if targets == "instances":
        return instance_overlay(
            small, match_numbers(resize_labels(frame, SIDE, SIDE), resize_labels(truth, SIDE, SIDE))
        )
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
