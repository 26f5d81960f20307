"""The one table of colours and markers of charts.

States of trials have the colours of Okabe and Ito and a marker each. Colours that may meet in a chart stay apart
for people who see red and green, or blue and yellow, alike: tests/unit/plots/test_colours.py computes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Marker = Literal["circle", "triangle", "square", "cross", "diamond", "plus", "star", "pentagon"]
BLUE, ORANGE, PURPLE, RED, GREEN = "#0072b2", "#e69f00", "#cc79a7", "#d55e00", "#009e73"
GREY = "#8a94a6"
# of series, such as the curves of several trials: none is near the colour of pruned, paused or failed trials
PALETTE = (BLUE, "#a44c1d", "#48a260", "#a361fb", "#5b5c6e", "#db8afe", "#44d070", "#9eb6c0")
MARKERS: tuple[Marker, ...] = ("circle", "square", "triangle", "diamond", "cross", "star", "plus", "pentagon")
SHADES = ("#4f46e5", "#0a90e0", "#22c8e6")  # from low to high; readable on light and dark backgrounds
HEAT = ("#f7fbff", "#c6dbef", "#6baed6")  # of heat maps, from low to high; INK can be read on all of them
INK = "#111827"


@dataclass(frozen=True)
class StateMark:
    """How trials of a state are drawn."""

    colour: str
    marker: Marker


STATE_MARKS = {
    "COMPLETE": StateMark(BLUE, "circle"),
    "PRUNED": StateMark(ORANGE, "triangle"),
    "PAUSED": StateMark(PURPLE, "square"),
    "FAIL": StateMark(RED, "cross"),
}
