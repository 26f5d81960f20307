"""Found instances beside true ones: the same colour for the same thing, and what is wrong with them."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from tuner.data.source import Image
from tuner.energy import boundary
from tuner.instances import Labels, matches
from tuner.report.overlays import RIGHT, TINT, WRONG, faded

MERGED, SPLIT = (234, 179, 8), (147, 51, 234)  # amber and violet
MISSED = TINT
CUT = (17, 24, 39)  # the outlines by which a merged or a split one is known
FILL, FAINT = 0.65, 0.2  # how strongly what is wrong, and what is right, is coloured
STRIPE = 6  # pixels from one stripe of a merged or a split one to the next
LEGEND = (
    ("right", RIGHT),
    ("missed", MISSED),
    ("false alarm", WRONG),
    ("merged ///", MERGED),
    ("split \\\\\\", SPLIT),
)
Map = NDArray[np.integer]


def sized(labels: Map, width: int, height: int) -> Labels:
    """A label map at another size; numbers are never mixed."""
    plain = np.asarray(labels).astype(np.int32)
    return np.asarray(cv2.resize(plain, (width, height), interpolation=cv2.INTER_NEAREST_EXACT))


def alike(found: Map, true: Map) -> Labels:
    """The found instances by the numbers of the true ones that they are; the others get numbers of their own."""
    most = int(found.max(initial=0))
    free = int(true.max(initial=0)) + 1
    numbers = np.concatenate([[0], np.arange(free, free + most)])
    for said, there, _ in matches(found, true).pairs:
        numbers[said] = there
    return numbers.astype(np.int32)[found]


def wrong_instances(image: Image, found: Map, true: Map) -> Image:
    """Green what was found, blue what was missed, red what is not there; striped what was merged or split.

    Of a merged one the true outlines are drawn, where it should have been cut; of a split one the found ones.
    """
    told = matches(found, true)
    made = faded(image)
    right = np.isin(found, [said for said, _, _ in told.pairs])
    fill(made, right, RIGHT, FAINT)
    fill(made, np.isin(true, told.missed) & ~right, MISSED)
    fill(made, np.isin(found, told.wrong), WRONG)
    split, merged = np.isin(true, told.split) & (found > 0), np.isin(found, told.merged)
    stripe(made, image, split, SPLIT, -1)
    stripe(made, image, merged, MERGED, 1)
    outline(made, found, right & ~merged & ~split, RIGHT)
    outline(made, found, split, CUT)
    outline(made, true, merged & (true > 0), CUT)
    return made


def fill(made: Image, where: NDArray[np.bool_], colour: tuple[int, int, int], strength: float = FILL) -> None:
    made[where] = ((1 - strength) * made[where] + strength * np.array(colour)).astype(np.uint8)


def stripe(made: Image, image: Image, where: NDArray[np.bool_], colour: tuple[int, int, int], slope: int) -> None:
    """Over whatever was painted there: stripes that rise (1) or fall (-1) to the right."""
    rows, columns = np.ogrid[: where.shape[0], : where.shape[1]]
    thick = (columns + slope * rows) % STRIPE < STRIPE // 2
    made[where] = faded(image)[where]
    fill(made, where, colour, FAINT)
    fill(made, where & thick, colour, 1 - FAINT)


def outline(made: Image, labels: Map, where: NDArray[np.bool_], colour: tuple[int, int, int]) -> None:
    made[boundary(labels) & where] = colour
