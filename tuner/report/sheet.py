"""The contact sheet of a dataset: a few images of each split with their masks, to see what a model will see."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tuner.data.source import Image, Source
from tuner.report.overlays import overlay, panel

NUM_COLUMNS = 6
NUM_ROWS = 4


def draw_sheet(source: Source, path: Path) -> None:
    """Evenly spread images; each with its mask laid over it."""
    number = min(len(source.items), NUM_COLUMNS * NUM_ROWS)
    chosen = [source.items[int(at)] for at in np.linspace(0, len(source.items) - 1, number)]
    cells = [cell(source, item) for item in chosen]
    panel([cells[at : at + NUM_COLUMNS] for at in range(0, len(cells), NUM_COLUMNS)], path)


def cell(source: Source, item: object) -> Image:
    import cv2

    from tuner.data.source import Item

    assert isinstance(item, Item)
    image, target = source.read(item)
    if isinstance(target, int):
        return image
    size = (image.shape[1], image.shape[0])
    return overlay(image, np.asarray(cv2.resize(target, size, interpolation=cv2.INTER_NEAREST_EXACT), np.uint8))
