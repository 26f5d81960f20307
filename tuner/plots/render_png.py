"""Charts as PNG or SVG files, drawn with matplotlib: no browser is needed, as plotly would have it."""

from __future__ import annotations

import io
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np

from tuner.plots.charts import SHADES, Chart, HeatMap, ParallelPlot, Series

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANEL = (4.2, 3.0)  # inches
DPI = 110
MARGINS = (0.62, 0.12, 0.5, 0.36)  # inches left, right, below and above the axes of a panel
SMALL = 8  # points
LONGEST = 48  # letters of a name
SAME: Any = {"svg.hashsalt": "tuner"}  # the same file each time
DRAWING = threading.Lock()  # matplotlib's settings, and what is warned of, are the whole process's


def write_charts(
    charts: Sequence[Chart], path: Path, columns: int = 3, panel: tuple[float, float] = PANEL
) -> None:
    """One sheet of charts, row by row. The ending of `path` says how: .png or .svg."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    with sheet(charts, columns, panel) as figure:
        if path.suffix == ".svg":
            FigureCanvasSVG(figure).print_svg(path, metadata={"Date": None})
        else:
            FigureCanvasAgg(figure).print_png(path)


def charts_to_png(charts: Sequence[Chart]) -> bytes:
    """The same sheet as the content of a file."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    file = io.BytesIO()
    with sheet(charts, 3, PANEL) as figure:
        FigureCanvasAgg(figure).print_png(file)
    return file.getvalue()


@contextmanager
def sheet(charts: Sequence[Chart], columns: int, panel: tuple[float, float]) -> Iterator[Figure]:
    """The charts on one figure, to be written within; of several threads, one at a time."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    across = min(columns, len(charts))
    down = -(-len(charts) // across)
    with DRAWING, rc_context(SAME), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # a name in a script that the font has not: boxes
        figure = Figure(figsize=(panel[0] * across, panel[1] * down), dpi=DPI)
        room(figure, charts, across, down)
        grid = list(figure.subplots(down, across, squeeze=False).flat)
        for chart, axes in zip(charts, grid, strict=False):
            draw_chart(chart, axes)
        for axes in grid[len(charts) :]:
            axes.set_axis_off()
        yield figure


def room(figure: Figure, charts: Sequence[Chart], across: int, down: int) -> None:
    """Room for what stands on the axes. Names may be long: they are measured, which takes twice the time."""
    if any(chart.heat or chart.parallel or isinstance(x, str) for chart in charts for x in first_of(chart)):
        figure.set_layout_engine("constrained")
        return
    wide, high = figure.get_size_inches()
    left, right, below, above = MARGINS
    inner_wide, inner_high = wide / across - left - right, high / down - below - above
    figure.subplots_adjust(
        left=left / wide, right=1 - right / wide, bottom=below / high, top=1 - above / high,
        wspace=(left + right) / inner_wide, hspace=(below + above) / inner_high,
    )  # fmt: skip


def first_of(chart: Chart) -> list[float | str]:
    """One place on the axis of each series; of a chart without series, any."""
    return [series.x[0] for series in chart.series if len(series.x)] or [0.0]


def escape_text(text: str) -> str:
    """Text as it stands, cut where it is long: matplotlib takes what is between two dollars for a formula."""
    short = text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
    return short.replace("$", r"\$")


def draw_chart(chart: Chart, axes: Axes) -> None:
    axes.set_title(escape_text(chart.title), fontsize=10)
    axes.set_xlabel(escape_text(chart.x), fontsize=SMALL)
    axes.set_ylabel(escape_text(chart.y), fontsize=SMALL)
    axes.tick_params(labelsize=SMALL)
    if chart.heat:
        return draw_heat_map(chart.heat, axes)
    if chart.parallel:
        return draw_parallel(chart.parallel, axes, chart.shade)
    for series, colour in chart.coloured:
        draw_series(series, colour, axes)
    for at, text in chart.marks:
        axes.axvline(at, color="#16a34a", linewidth=0.8, linestyle="--")
        axes.annotate(
            escape_text(text), (at, 0.02), xycoords=("data", "axes fraction"), fontsize=6, color="#16a34a"
        )
    scale(chart, axes)
    if chart.is_empty:
        axes.set_axis_off()
        axes.text(
            0.5,
            0.5,
            fill(chart.note[:300], 48).replace("$", r"\$"),
            ha="center",
            va="center",
            fontsize=SMALL,
            transform=axes.transAxes,
        )
    elif any(series.name for series in chart.series):
        axes.legend(fontsize=7, frameon=False)


def scale(chart: Chart, axes: Axes) -> None:
    from matplotlib.ticker import MaxNLocator

    numbers = [x for series in chart.series for x in series.x if not isinstance(x, str)]
    if chart.log_x:
        axes.set_xscale("log")
    elif numbers and all(float(x).is_integer() for x in numbers):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    if chart.log_y:
        axes.set_yscale("log")
    if chart.x_range:
        axes.set_xlim(chart.x_range)
    if chart.y_range:
        axes.set_ylim(chart.y_range)
    if not chart.log_y:
        axes.yaxis.set_major_locator(MaxNLocator(nbins=6))
    axes.grid(alpha=0.25)


def draw_series(series: Series, colour: str, axes: Axes) -> None:
    label = escape_text(series.name) or None
    xs: list[Any] = [escape_text(x) if isinstance(x, str) else x for x in series.x]
    y = [float("nan") if value is None else value for value in series.y]
    if series.kind == "bars":
        width = 0.8 if len(xs) > 2 else 0.3
        axes.bar(xs, y, width, color=colour, label=label, yerr=whiskers(series))
        axes.tick_params(axis="x", labelrotation=30 if any(len(str(x)) > 5 for x in series.x) else 0)
    elif series.kind == "points":
        shades: Any = {"c": series.shades, "cmap": shading()} if series.shades else {"color": colour}
        axes.scatter(xs, y, s=12, label=label, **shades)
    else:
        style = "--" if series.dashed else "-"
        dots = "o" if len(y) <= 40 else ""
        axes.plot(xs, y, color=colour, label=label, linestyle=style, marker=dots, markersize=2.5)
        if series.low:
            axes.fill_between(xs, series.low, series.high, color=colour, alpha=0.18, linewidth=0)


def shading() -> Any:
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("shades", SHADES)


def whiskers(series: Series) -> list[list[float]] | None:
    """How far the whiskers reach below and above."""
    if not series.low:
        return None
    known = [(y or 0.0, low, high) for y, low, high in zip(series.y, series.low, series.high, strict=True)]
    return [[y - low for y, low, _ in known], [high - y for y, _, high in known]]


def draw_heat_map(heat: HeatMap, axes: Axes) -> None:
    values = [[float("nan") if value is None else value for value in row] for row in heat.values]
    axes.imshow(values, cmap="Blues", aspect="auto")
    axes.set_xticks(
        range(len(heat.x)), list(map(escape_text, heat.x)), rotation=45 if len(heat.x) > 4 else 0, fontsize=7
    )
    axes.set_yticks(range(len(heat.y)), list(map(escape_text, heat.y)), fontsize=7)
    known = [value for row in values for value in row if value == value]
    middle = (min(known) + max(known)) / 2 if known else 0.0
    for down, row in enumerate(heat.texts):
        for across, text in enumerate(row):
            dark = values[down][across] > middle
            axes.text(
                across,
                down,
                escape_text(text),
                ha="center",
                va="center",
                fontsize=6,
                color="white" if dark else "#111827",
            )


def draw_parallel(parallel: ParallelPlot, axes: Axes, shade: str) -> None:
    """Every axis scaled to the same height; its ends, or its names, stand beside it."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    span = (min(parallel.shades), max(parallel.shades)) if parallel.shades else (0.0, 1.0)
    colours = ScalarMappable(Normalize(*span), shading())
    heights = [[(at - axis.ends[0]) / (axis.ends[1] - axis.ends[0]) for at in axis.at] for axis in parallel.axes]
    for line, colour in zip(zip(*heights, strict=True), colours.to_rgba(np.asarray(parallel.shades)), strict=True):
        axes.plot(range(len(line)), line, color=colour, linewidth=1, alpha=0.8)
    for across, axis in enumerate(parallel.axes):
        axes.axvline(across, color="#8a94a6", linewidth=0.8)
        low, high = axis.ends
        places = range(len(axis.names)) if axis.names else (low, (low + high) / 2, high)
        for place in places:
            height = (place - low) / (high - low)
            axes.annotate(
                escape_text(axis.says(place)), (across, height), (3, 1), textcoords="offset points", fontsize=6
            )
    axes.set_xticks(range(len(parallel.axes)), [escape_text(axis.name) for axis in parallel.axes], fontsize=7)
    axes.set_yticks([])
    for side in axes.spines.values():
        side.set_visible(False)
    bar = axes.get_figure(root=True).colorbar(colours, ax=axes, label=escape_text(shade))  # type: ignore[union-attr]
    bar.ax.tick_params(labelsize=6)
