"""What a chart shows, whatever draws it: matplotlib into a file, plotly on a page, characters on a terminal.

Plain data: it is built where the numbers are, and drawn where there is something to draw with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

SeriesKind = Literal["line", "points", "bars"]
PALETTE = ("#2563eb", "#ea580c", "#16a34a", "#9333ea", "#0891b2", "#dc2626", "#a16207", "#64748b")
GREY = "#8a94a6"
GREEN, RED = "#16a34a", "#dc2626"
SHADES = ("#6366f1", "#10b981", "#f59e0b")  # from low to high; all three are seen on light and on dark


@dataclass(frozen=True)
class Series:
    """One thing that is drawn: numbers (or names) against numbers. None in `y` is a gap."""

    name: str  # of the legend; "" is not in it
    x: Sequence[float | str]
    y: Sequence[float | None]
    kind: SeriesKind = "line"
    colour: str = ""  # "" takes the next of the palette
    low: Sequence[float] = ()  # a band from low to high about the line,
    high: Sequence[float] = ()  # or a whisker on each point or bar
    dashed: bool = False
    texts: Sequence[str] = ()  # one for each point, shown when it is pointed at
    shades: Sequence[float] = ()  # a number for each point, told by its colour


@dataclass(frozen=True)
class HeatMap:
    """A field of numbers with a text in each cell; row 0 is drawn on top."""

    x: Sequence[str]
    y: Sequence[str]
    values: Sequence[Sequence[float | None]]
    texts: Sequence[Sequence[str]] = ()


@dataclass(frozen=True)
class ParallelAxis:
    """A vertical axis of `ParallelPlot`: where each line crosses it, and labels for categories."""

    name: str
    at: Sequence[float]  # exponents, where `is_log`
    names: Sequence[str] = ()  # of the places 0, 1, 2 ...
    is_log: bool = False

    @property
    def ends(self) -> tuple[float, float]:
        """From where to where it goes, never a point."""
        low, high = (0.0, len(self.names) - 1.0) if self.names else (min(self.at), max(self.at))
        return (low, high) if high > low else (low - 0.5, high + 0.5)

    def says(self, place: float) -> str:
        if self.names:
            return self.names[round(place)] if 0 <= round(place) < len(self.names) else ""
        return f"{10**place if self.is_log else place:.3g}"


@dataclass(frozen=True)
class ParallelPlot:
    """A line for each trial across axes that stand side by side, coloured by a number."""

    axes: Sequence[ParallelAxis]
    shades: Sequence[float]


@dataclass(frozen=True)
class Chart:
    """Series over one pair of axes, or a field of numbers, or lines across many axes."""

    title: str
    x: str = ""  # what the axes say
    y: str = ""
    series: Sequence[Series] = ()
    heat: HeatMap | None = None
    parallel: ParallelPlot | None = None
    log_x: bool = False
    log_y: bool = False
    marks: Sequence[tuple[float, str]] = ()  # upright lines: where, and what they say
    x_range: tuple[float, float] | None = None
    y_range: tuple[float, float] | None = None
    shade: str = ""  # what `shades` are of
    note: str = ""  # a line below: how to read it

    @property
    def is_empty(self) -> bool:
        return not (self.series or self.heat or self.parallel)

    @property
    def coloured(self) -> list[tuple[Series, str]]:
        """Every series with the colour it is drawn in."""
        free = iter(PALETTE * (len(self.series) // len(PALETTE) + 1))
        return [(one, one.colour or next(free)) for one in self.series]


def empty_chart(title: str, why: str) -> Chart:
    """In the place of a chart that there is nothing for."""
    return Chart(title, note=why)


def thin_chart(chart: Chart, most: int) -> Chart:
    """The same with at most so many points of each series, evenly left; its title says so."""
    step = -(-max((len(series.x) for series in chart.series), default=0) // most)
    if step < 2:
        return chart
    parts = ("x", "y", "low", "high", "texts", "shades")
    fewer = [replace(series, **{part: getattr(series, part)[::step] for part in parts}) for series in chart.series]
    return replace(chart, title=f"{chart.title} (one point of {step})", series=fewer)
