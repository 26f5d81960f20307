"""The content of a chart as plain data, independent of the renderer (matplotlib, plotly or the terminal)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import cycle, pairwise
from typing import Literal

from tuner.plots.colours import MARKERS, PALETTE, Marker
from tuner.plots.labels import shorten_names, spaced_labels

SeriesKind = Literal["line", "points", "bars"]
MANY_POINTS = 500
LANES, GOLDEN = 0.7, 0.6180339887  # width of a category; multiples of the golden ratio are spread evenly
LONGEST_NAME = 48  # characters of an entry of a legend
LONGEST_CELL = 22  # of a row or column of a heat map, such as "0.00015 to 0.00056"
ACROSS = 80  # characters that fit beside each other above parallel axes


@dataclass(frozen=True)
class Series:
    """One line, point set or bar set: y over x, where x is numeric or categorical. None in `y` is a gap."""

    name: str  # legend entry; "" omits it from the legend
    x: Sequence[float | str]
    y: Sequence[float | None]
    kind: SeriesKind = "line"
    colour: str = ""  # "" takes the next colour of the palette
    marker: Marker | None = None  # None takes that of the colour
    low: Sequence[float] = ()  # lower edge of a band around a line, or of the error bar of a point or bar
    high: Sequence[float] = ()  # the upper edge
    dashed: bool = False
    stepped: bool = False  # a line that keeps its height up to the next point, where nothing lies between
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

    def places(self, most: int, parts: int = 4) -> list[float]:
        """Return the positions of ticks: of evenly spaced categories, at most `most`, or of the ends of parts."""
        low, high = self.ends
        if self.names:
            return [float(at) for at in sorted(spaced_labels(len(self.names), most))]
        return [low + (high - low) * at / parts for at in range(parts + 1)]

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

    @property
    def short_labels(self) -> dict[str, str]:
        """Return the short form of each axis and category: the more axes, the less room each has."""
        names = [name for axis in self.axes for name in (axis.name, *axis.names)]
        return shorten_names(names, min(LONGEST_CELL, max(8, ACROSS // len(self.axes))))


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
    def styled_series(self) -> list[tuple[Series, str, Marker]]:
        """Return each series with its colour and marker. A colour of the palette always has the same marker."""
        free, markers = cycle(PALETTE), dict(zip(PALETTE, MARKERS, strict=True))
        coloured = [(one, one.colour or next(free)) for one in self.series]
        return [(one, colour, one.marker or markers.get(colour, "circle")) for one, colour in coloured]

    @property
    def categories(self) -> list[str]:
        """Return the categories of the x axis, [] if it is numeric."""
        return list(dict.fromkeys(x for series in self.series for x in series.x if isinstance(x, str)))

    @property
    def is_dense(self) -> bool:
        """Return whether so many points are drawn that they must be small, and let others shine through."""
        return sum(len(series.x) for series in self.series if series.kind == "points") > MANY_POINTS

    def places(self, at: int) -> list[float]:
        """Return the x of a series as numbers: categories are 0, 1, 2 ...

        Of many points, each series has a lane of its own in a category, so that none covers another.
        """
        series, indices = self.series[at], {name: place for place, name in enumerate(self.categories)}
        x = [float(indices[one] if isinstance(one, str) else one) for one in series.x]
        if not (self.categories and self.is_dense and series.kind == "points"):
            return x
        lane = LANES / len(self.series)
        middle = lane * (at - (len(self.series) - 1) / 2)
        return [place + middle + lane * 0.8 * (number * GOLDEN % 1 - 0.5) for number, place in enumerate(x)]

    @property
    def bar_width(self) -> float:
        """Return the width of all bars, so that neighbours do not touch; a single bar is narrow."""
        places = sorted({x for one in self.series for x in one.x if not isinstance(x, str)})
        gap = min((after - before for before, after in pairwise(places)), default=1.0)
        return gap * (0.8 if len(places) + len(self.categories) > 2 else 0.3)

    @cached_property
    def short_labels(self) -> dict[str, str]:
        """Return the short form of each label beside the axes, by its full text."""
        if self.parallel:
            return self.parallel.short_labels
        if self.heat:
            return shorten_names([*self.heat.x, *self.heat.y], LONGEST_CELL)
        return shorten_names(self.categories)

    @cached_property
    def short_names(self) -> dict[str, str]:
        """Return the short form of each entry of the legend, by its full text."""
        return shorten_names([series.name for series in self.series], LONGEST_NAME)

    @property
    def axis_titles(self) -> tuple[str, str]:
        """Return the titles of both axes, which say so if one is logarithmic."""
        x, y = self.x + " (log scale)" * self.log_x, self.y + " (log scale)" * self.log_y
        return x.strip(), y.strip()


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
