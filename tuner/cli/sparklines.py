"""Small plots for a terminal: numbers to characters, two dots wide and four high each, or plain ASCII.

A plot shows a curve over a reference curve, and a mark where the two are compared. rich has no plots.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

Curve = Sequence[tuple[int, float]]  # (epoch, value), in order; plots leave out values that are not finite
CellKind = Literal["", "curve", "reference", "mark"]
PlotCell = tuple[str, CellKind]
Dot = tuple[int, int]  # column from the left, row from the top
WIDE, HIGH = 2, 4  # dots per character
BITS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # of a braille character, by row and column
MARK, ASCII_MARK, ASCII_REFERENCE = "●", "o", ":"
ASCII_LEVELS = "'-._"  # from the top of a character to its bottom
OUTLIERS = 0.05  # share of the worst values that may lie outside the frame


@dataclass(frozen=True)
class PlotFrame:
    """The range of a plot: epochs from 1 to `last`, values from `low` to `high`."""

    last: int
    low: float
    high: float


def finite(curve: Curve) -> list[tuple[int, float]]:
    return [(epoch, value) for epoch, value in curve if math.isfinite(value)]


def fit_frame(curves: Iterable[Curve], last: int = 1, larger_is_better: bool = True) -> PlotFrame:
    """Return a frame that contains all curves except their worst values."""
    known = [finite(curve) for curve in curves]
    values = sorted(value for curve in known for _, value in curve)
    if not values:
        return PlotFrame(max(1, last), 0.0, 1.0)
    out = int(len(values) * OUTLIERS)
    low, high = (values[out], values[-1]) if larger_is_better else (values[0], values[-1 - out])
    return PlotFrame(max(last, 1, *(curve[-1][0] for curve in known if curve)), low, high)


def plot(
    curve: Curve, reference: Curve, frame: PlotFrame, width: int, height: int = 1, ascii_only: bool = False
) -> list[list[PlotCell]]:
    """Return lines of characters, each with its kind; where both curves meet, the character is the curve's."""
    size = (width * WIDE, height * HIGH)
    mine, other = (group_by_cell(curve_dots(finite(points), frame, size)) for points in (curve, reference))
    lines = [[draw_cell(mine[x, y], other[x, y], ascii_only) for x in range(width)] for y in range(height)]
    if marked := find_mark(finite(curve), reference, frame, size):
        x, y = marked
        lines[y // HIGH][x // WIDE] = (ASCII_MARK if ascii_only else MARK), "mark"
    return lines


def draw_cell(ours: set[Dot], others: set[Dot], ascii_only: bool) -> PlotCell:
    """Return the character for the dots of the curve and of the reference in it."""
    kind: CellKind = "curve" if ours else "reference" if others else ""
    if not kind:
        return " ", kind
    if ascii_only:
        return ascii_level(ours) if ours else ASCII_REFERENCE, kind
    return chr(0x2800 + sum(BITS[row][column] for column, row in ours | others)), kind


def ascii_level(dots: set[Dot]) -> str:
    """Return the ASCII character nearest in height; a bar for a curve that crosses all of it."""
    rows = [row for _, row in dots]
    if max(rows) - min(rows) >= HIGH - 1:
        return "|"
    return ASCII_LEVELS[round(sum(rows) / len(rows))]


def group_by_cell(dots: Iterable[Dot]) -> defaultdict[Dot, set[Dot]]:
    """Group dots by the character they fall into, relative to it."""
    found: defaultdict[Dot, set[Dot]] = defaultdict(set)
    for x, y in dots:
        found[x // WIDE, y // HIGH].add((x % WIDE, y % HIGH))
    return found


def curve_dots(points: list[tuple[int, float]], frame: PlotFrame, size: Dot) -> set[Dot]:
    """Return the dots of the points and of the lines between them."""
    placed = [to_dot(epoch, value, frame, size) for epoch, value in points]
    dots = set(placed)
    for (x0, y0), (x1, y1) in pairwise(placed):
        steps = max(abs(x1 - x0), abs(y1 - y0), 1)
        dots |= {(x0 + round((x1 - x0) * i / steps), y0 + round((y1 - y0) * i / steps)) for i in range(steps)}
    return dots


def to_dot(epoch: int, value: float, frame: PlotFrame, size: Dot) -> Dot:
    """Return the dot of a value; values outside the frame are placed on its edge."""
    across = (epoch - 1) / (frame.last - 1) if frame.last > 1 else 0.0
    up = (value - frame.low) / (frame.high - frame.low) if frame.high > frame.low else 0.5
    across, up = (min(1.0, max(0.0, share)) for share in (across, up))
    return round(across * (size[0] - 1)), round((1 - up) * (size[1] - 1))


def find_mark(curve: list[tuple[int, float]], reference: Curve, frame: PlotFrame, size: Dot) -> Dot | None:
    """Return the dot of the reference at the last epoch of the curve."""
    if not curve:
        return None
    value = value_at(reference, curve[-1][0])
    return None if value is None else to_dot(curve[-1][0], value, frame, size)


def value_at(curve: Curve, epoch: int) -> float | None:
    """Return a curve's value at an epoch, interpolated; None outside its epochs."""
    points = finite(curve)
    if not points or not points[0][0] <= epoch <= points[-1][0]:
        return None
    for (e0, v0), (e1, v1) in pairwise(points):
        if e0 <= epoch <= e1:
            return v0 + (v1 - v0) * (epoch - e0) / (e1 - e0)
    return points[-1][1]
