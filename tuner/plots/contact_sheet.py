"""The contact sheet of a dataset: a few images of each split with their targets, to see what a model will see."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from tuner.data.source import Image, Item, Source
from tuner.plots.overlays import (
    BACKDROP,
    CELL,
    captioned,
    fitted,
    instance_overlay,
    label_colours,
    label_overlay,
    overlay,
    panel,
)

NUM_COLUMNS = 6
NUM_ROWS = 4
NAMES_A_CELL = 8
MOST_NAMES = NAMES_A_CELL * NUM_COLUMNS


def draw_contact_sheet(source: Source, path: Path, classes: Sequence[str] = ()) -> None:
    """Evenly spread images: with the mask or the labels laid over, or the class written below.

    Label maps are followed by the names of their colours; an instance has a colour of its own in its image.
    """
    number = min(len(source.items), NUM_COLUMNS * NUM_ROWS)
    chosen = [source.items[int(at)] for at in np.linspace(0, len(source.items) - 1, number)]
    names = classes or source.classes
    cells = [cell(source, item, names) for item in chosen]
    if source.targets == "labels":
        cells += [legend(names, first) for first in range(0, min(len(names), MOST_NAMES), NAMES_A_CELL)]
    panel([cells[at : at + NUM_COLUMNS] for at in range(0, len(cells), NUM_COLUMNS)], path)


def cell(source: Source, item: Item, classes: Sequence[str]) -> Image:
    image, target = source.read(item)
    if isinstance(target, int):
        return captioned(image, classes[target])
    if source.targets == "instances":
        small = fitted(image)  # first: the outlines of a large photograph would be too thin to be seen
        return instance_overlay(small, nearest(target, small))
    over = label_overlay if source.targets == "labels" else overlay
    return over(image, nearest(target, image).astype(np.uint8))


def nearest(target: NDArray[Any], image: Image) -> NDArray[Any]:
    """A target of the image's size."""
    size = (image.shape[1], image.shape[0])
    return np.asarray(cv2.resize(target, size, interpolation=cv2.INTER_NEAREST_EXACT))


def legend(names: Sequence[str], first: int) -> Image:
    """The colours of a few classes with their names, as a cell of the sheet."""
    picture = np.full((CELL, CELL, 3), BACKDROP, np.uint8)
    for row, name in enumerate(names[first : first + NAMES_A_CELL]):
        top = row * CELL // NAMES_A_CELL
        picture[top + 3 : top + 17, 4:18] = label_colours()[first + row]
        plain = name.encode("ascii", "replace").decode()[:20]  # OpenCV's font knows no more
        cv2.putText(picture, plain, (24, top + 14), cv2.FONT_HERSHEY_SIMPLEX, 0.38, (17, 24, 39), 1, cv2.LINE_AA)
    return picture
