"""The contact sheet of a dataset: a few images of a split with their targets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tuner.data.source import Image, Item, Source
from tuner.plots.grid import INK, LINE, Colour, blank_picture, draw_text_line, pad_picture, split_rows, write_grid
from tuner.plots.overlays import label_colours, resize_longer_side, target_overlay

CELL = 160  # pixels of a cell
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
    squares = [pad_picture(resize_longer_side(cell, CELL), CELL, CELL) for cell in cells]
    write_grid(split_rows(squares, NUM_COLUMNS), path)


def draw_cell(source: Source, item: Item, classes: Sequence[str]) -> Image:
    """Return one cell of the sheet: the image with its target."""
    image, target = source.read(item)
    if isinstance(target, int):
        return add_caption(image, classes[target])
    if source.targets == "instances":
        image = resize_longer_side(image, CELL)  # before drawing, so that outlines stay visible
    return target_overlay(image, target, source.targets)


def add_caption(image: Image, text: str, colour: Colour = INK) -> Image:
    """Return the image scaled to a cell, with a line of text below it."""
    picture = resize_longer_side(image, CELL)
    return np.concatenate([picture, draw_text_line(text, picture.shape[1], colour)])


def draw_legend(names: Sequence[str], first: int) -> Image:
    """Return a cell that lists the colours and names of a few classes, from number `first` on."""
    picture = blank_picture(CELL, CELL)
    for row, name in enumerate(names[first : first + NAMES_A_CELL]):
        top = row * CELL // NAMES_A_CELL
        picture[top + 3 : top + 17, 4:18] = label_colours()[first + row]
        picture[top + 1 : top + 1 + LINE, 22:] = draw_text_line(name, CELL - 22)
    return picture
