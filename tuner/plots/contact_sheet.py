"""The contact sheet of a dataset: a few images of a split with their targets."""

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
    add_caption,
    fit_to_cell,
    instance_overlay,
    label_colours,
    label_overlay,
    mask_overlay,
    write_grid,
)

NUM_COLUMNS = 6
NUM_ROWS = 4
NAMES_A_CELL = 8
MOST_NAMES = NAMES_A_CELL * NUM_COLUMNS


def draw_contact_sheet(source: Source, path: Path, classes: Sequence[str] = ()) -> None:
    """Write evenly spaced images of a source to `path`, each with its mask or labels overlaid or its class below.

    A colour legend follows label maps. Each instance of an image has a different colour.
    """
    number = min(len(source.items), NUM_COLUMNS * NUM_ROWS)
    chosen = [source.items[int(at)] for at in np.linspace(0, len(source.items) - 1, number)]
    names = classes or source.classes
    cells = [draw_cell(source, item, names) for item in chosen]
    if source.targets == "labels":
        cells += [draw_legend(names, first) for first in range(0, min(len(names), MOST_NAMES), NAMES_A_CELL)]
    write_grid([cells[at : at + NUM_COLUMNS] for at in range(0, len(cells), NUM_COLUMNS)], path)


def draw_cell(source: Source, item: Item, classes: Sequence[str]) -> Image:
    """Return one cell of the sheet: the image with its target."""
    image, target = source.read(item)
    if isinstance(target, int):
        return add_caption(image, classes[target])
    if source.targets == "instances":
        small = fit_to_cell(image)  # resize before drawing, so that outlines stay visible
        return instance_overlay(small, resize_nearest(target, small))
    over = label_overlay if source.targets == "labels" else mask_overlay
    return over(image, resize_nearest(target, image).astype(np.uint8))


def resize_nearest(target: NDArray[Any], image: Image) -> NDArray[Any]:
    """Return the target resized to the size of the image, without mixing labels."""
    size = (image.shape[1], image.shape[0])
    return np.asarray(cv2.resize(target, size, interpolation=cv2.INTER_NEAREST_EXACT))


def draw_legend(names: Sequence[str], first: int) -> Image:
    """Return a cell that lists the colours and names of a few classes, from number `first` on."""
    picture = np.full((CELL, CELL, 3), BACKDROP, np.uint8)
    for row, name in enumerate(names[first : first + NAMES_A_CELL]):
        top = row * CELL // NAMES_A_CELL
        picture[top + 3 : top + 17, 4:18] = label_colours()[first + row]
        plain = name.encode("ascii", "replace").decode()[:20]  # OpenCV's font is ASCII only
        cv2.putText(picture, plain, (24, top + 14), cv2.FONT_HERSHEY_SIMPLEX, 0.38, (17, 24, 39), 1, cv2.LINE_AA)
    return picture
