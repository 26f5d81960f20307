"""The content of a chart as plain data, independent of the renderer (matplotlib, plotly or the terminal)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

SeriesKind = Literal["line", "points", "bars"]
PALETTE = ("#2563eb", "#ea580c", "#16a34a", "#9333ea", "#0891b2", "#dc2626", "#a16207", "#64748b")
GREY = "#8a94a6"
GREEN, RED = "#16a34a", "#dc2626"
SHADES = ("#6366f1", "#10b981", "#f59e0b")  # from low to high; readable on light and dark backgrounds


@dataclass(frozen=True)
class Series:
    """One line, point set or bar set: y over x, where x is numeric or categorical. None in `y` is a gap."""

    name: str  # legend entry; "" omits it from the legend
    x: Sequence[float | str]
    y: Sequence[float | None]
    kind: SeriesKind = "line"
    colour: str = ""  # "" takes the next colour of the palette
    low: Sequence[float] = ()  # lower edge of a band around a line, or of the error bar of a point or bar
    high: Sequence[float] = ()  # the upper edge
    dashed: bool = False
    texts: Sequence[str] = ()  # hover text of each point
    shades: Sequence[float] = ()  # a number for each point, mapped to its colour

    @property
    def error_lengths(self) -> tuple[list[float], list[float]] | None:
        """The lengths of the error bars below and above each point or bar; None if the series has none."""
        if not self.low:
            return None
        middle = [y or 0.0 for y in self.y]
        below = [y - low for y, low in zip(middle, self.low, strict=True)]
        return below, [high - y for y, high in zip(middle, self.high, strict=True)]


@dataclass(frozen=True)
class HeatMap:
    """A matrix of numbers with an optional text in each cell; row 0 is at the top."""

    x: Sequence[str]
    y: Sequence[str]
    values: Sequence[Sequence[float | None]]
    texts: Sequence[Sequence[str]] = ()


@dataclass(frozen=True)
class ParallelAxis:
    """A vertical axis of `ParallelPlot`: the position of each line on it, and the labels of categories."""

    name: str
    at: Sequence[float]  # exponents of 10 if `is_log`
    names: Sequence[str] = ()  # labels of the positions 0, 1, 2 ...
    is_log: bool = False

    @property
    def ends(self) -> tuple[float, float]:
        """The lower and upper end of the axis; they always differ."""
        low, high = (0.0, len(self.names) - 1.0) if self.names else (min(self.at), max(self.at))
        return (low, high) if high > low else (low - 0.5, high + 0.5)

    def format_tick(self, place: float) -> str:
        """Return the label at a position, "" at a position without a category."""
        if self.names:
            return self.names[round(place)] if 0 <= round(place) < len(self.names) else ""
        return f"{10**place if self.is_log else place:.3g}"


@dataclass(frozen=True)
class ParallelPlot:
    """Parallel coordinates: a line for each trial across the axes, coloured by a number."""

    axes: Sequence[ParallelAxis]
    shades: Sequence[float]


@dataclass(frozen=True)
class Chart:
    """A chart: series on one pair of axes, a heat map, or parallel coordinates."""

    title: str
    x: str = ""  # axis labels
    y: str = ""
    series: Sequence[Series] = ()
    heat: HeatMap | None = None
    parallel: ParallelPlot | None = None
    log_x: bool = False
    log_y: bool = False
    marks: Sequence[tuple[float, str]] = ()  # vertical lines: position and label
    x_range: tuple[float, float] | None = None
    y_range: tuple[float, float] | None = None
    shade: str = ""  # label of the colour scale of `shades`
    note: str = ""  # a line below the chart: how to read it

    @property
    def is_empty(self) -> bool:
        return not (self.series or self.heat or self.parallel)

    @property
    def coloured_series(self) -> list[tuple[Series, str]]:
        free = iter(PALETTE * (len(self.series) // len(PALETTE) + 1))
        return [(one, one.colour or next(free)) for one in self.series]


def empty_chart(title: str, why: str) -> Chart:
    """Return a chart without data; `why` is shown in its place."""
    return Chart(title, note=why)


def thin_chart(chart: Chart, most: int) -> Chart:
    """Return the chart with at most `most` evenly spaced points in each series, and say so in its title."""
    step = -(-max((len(series.x) for series in chart.series), default=0) // most)
    if step < 2:
        return chart
    parts = ("x", "y", "low", "high", "texts", "shades")
    fewer = [replace(series, **{part: getattr(series, part)[::step] for part in parts}) for series in chart.series]
    return replace(chart, title=f"{chart.title} (one point in {step})", series=fewer)
