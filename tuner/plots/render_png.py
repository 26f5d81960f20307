"""Render charts as PNG or SVG with matplotlib, which, unlike plotly, needs no browser for it."""

from __future__ import annotations

import io
import threading
import warnings
from collections.abc import Sequence
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from tuner.plots.charts import GREEN, GREY, SHADES, Chart, HeatMap, ParallelPlot, Series

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANEL = (4.2, 3.0)  # inches
COLUMNS = 3
DPI = 110
MARGINS = (0.62, 0.12, 0.5, 0.36)  # inches left, right, below and above the axes of a panel
SMALL = 8  # points
MOST_INSIDE = 2  # entries of a legend inside the axes; longer legends, and those of points, stand below them
LONGEST = 48  # characters of a text
LONGEST_LABEL = 18  # characters of a category beside an axis
SAME: Any = {"svg.hashsalt": "tuner"}  # makes the files reproducible
DRAWING = threading.Lock()  # settings of matplotlib and filters of warnings apply to the whole process


def charts_to_png(charts: Sequence[Chart]) -> bytes:
    """Return the sheet of charts as the bytes of a PNG file."""
    file = io.BytesIO()
    write_charts(charts, file)
    return file.getvalue()


def write_charts(charts: Sequence[Chart], file: Path | BinaryIO, panel: tuple[float, float] = PANEL) -> None:
    """Write the charts as one sheet, row by row: as SVG to a path that ends in .svg, else as PNG."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    across = min(COLUMNS, len(charts))
    down = -(-len(charts) // across)
    with DRAWING, rc_context(SAME), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # characters the font lacks become boxes
        figure = Figure(figsize=(panel[0] * across, panel[1] * down), dpi=DPI)
        set_margins(figure, charts, across, down)
        grid = list(figure.subplots(down, across, squeeze=False).flat)
        for chart, axes in zip(charts, grid, strict=False):
            draw_chart(chart, axes)
        for axes in grid[len(charts) :]:
            axes.set_axis_off()
        if isinstance(file, Path) and file.suffix == ".svg":
            FigureCanvasSVG(figure).print_svg(file, metadata={"Date": None})
        else:
            FigureCanvasAgg(figure).print_png(file)


def set_margins(figure: Figure, charts: Sequence[Chart], across: int, down: int) -> None:
    """Set the margins of a figure: measured where names may be long (twice as slow), else fixed."""
    has_names = any(isinstance(x, str) for chart in charts for series in chart.series for x in series.x[:1])
    if has_names or any(map(has_legend_below, charts)) or any(chart.heat or chart.parallel for chart in charts):
        figure.set_layout_engine("constrained")
        return
    wide, high = figure.get_size_inches()
    left, right, below, above = MARGINS
    inner_wide, inner_high = wide / across - left - right, high / down - below - above
    figure.subplots_adjust(
        left=left / wide, right=1 - right / wide, bottom=below / high, top=1 - above / high,
        wspace=(left + right) / inner_wide, hspace=(below + above) / inner_high,
    )  # fmt: skip


def escape_text(text: str, longest: int = LONGEST) -> str:
    """Return the text, shortened if long, with dollar signs escaped, which matplotlib reads as formulas."""
    short = text if len(text) <= longest else text[: longest - 1] + "…"
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
    bar_width = 0.8 if any(len(series.x) > 2 for series in chart.series) else 0.3
    for series, colour in chart.coloured_series:
        draw_series(series, colour, axes, bar_width)
    for at, text in chart.marks:
        axes.axvline(at, color=GREEN, linewidth=0.8, linestyle="--")
        axes.annotate(escape_text(text), (at, 0.02), xycoords=("data", "axes fraction"), fontsize=6, color=GREEN)
    set_axes(chart, axes)
    if chart.is_empty:
        axes.set_axis_off()
        why = fill(chart.note[:300], LONGEST).replace("$", r"\$")
        axes.text(0.5, 0.5, why, ha="center", va="center", fontsize=SMALL, transform=axes.transAxes)
    elif legend_names(chart):
        if has_legend_below(chart):
            place: Any = {
                "loc": "upper center",
                "bbox_to_anchor": (0.5, -0.18),
                "ncols": 2,
            }
            if any(isinstance(x, str) for series in chart.series for x in series.x):  # their names stand below
                place = {"loc": "lower center", "bbox_to_anchor": (0.5, 0.98), "ncols": 2}
                axes.set_title(escape_text(chart.title), fontsize=10, pad=18)
            axes.legend(fontsize=6, frameon=False, **place)
        else:
            axes.legend(fontsize=7, frameon=False)


def legend_names(chart: Chart) -> list[str]:
    return [series.name for series in chart.series if series.name]


def has_legend_below(chart: Chart) -> bool:
    """Return whether the legend stands below the axes; points may lie anywhere in them."""
    names = legend_names(chart)
    return len(names) > MOST_INSIDE or any(one.kind == "points" and one.name for one in chart.series)


def set_axes(chart: Chart, axes: Axes) -> None:
    """Set scales, limits, ticks and grid of the axes."""
    from matplotlib.ticker import MaxNLocator

    numbers = [x for series in chart.series for x in series.x if not isinstance(x, str)]
    names = list(dict.fromkeys(x for series in chart.series for x in series.x if isinstance(x, str)))
    if names:
        labels = [escape_text(name, LONGEST_LABEL) for name in names]
        crowded = any(len(name) > 5 for name in names)
        axes.set_xticks(
            range(len(names)), labels, rotation=30 if crowded else 0, ha="right" if crowded else "center"
        )
        if len(names) < 3:
            axes.set_xlim(-1, len(names))  # a single bar would be as wide as the axes
    elif chart.log_x:
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


def draw_series(series: Series, colour: str, axes: Axes, bar_width: float) -> None:
    label = escape_text(series.name) or None
    xs: list[Any] = [escape_text(x) if isinstance(x, str) else x for x in series.x]
    y = [float("nan") if value is None else value for value in series.y]
    if series.kind == "bars":
        axes.bar(xs, y, bar_width, color=colour, label=label, yerr=series.error_lengths)
    elif series.kind == "points":
        shades: Any = {"c": series.shades, "cmap": shades_colormap()} if series.shades else {"color": colour}
        axes.scatter(xs, y, s=12, label=label, **shades)
    else:
        style = "--" if series.dashed else "-"
        dots = "o" if len(y) <= 40 else ""
        axes.plot(xs, y, color=colour, label=label, linestyle=style, marker=dots, markersize=2.5)
        if series.low:
            axes.fill_between(xs, series.low, series.high, color=colour, alpha=0.18, linewidth=0)


def shades_colormap() -> Any:
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("shades", SHADES)


def draw_heat_map(heat: HeatMap, axes: Axes) -> None:
    values = [[float("nan") if value is None else value for value in row] for row in heat.values]
    axes.imshow(values, cmap="Blues", aspect="auto")
    rotation = 45 if len(heat.x) > 4 else 0
    x_labels, y_labels = ([escape_text(name, LONGEST_LABEL) for name in names] for names in (heat.x, heat.y))
    axes.set_xticks(range(len(heat.x)), x_labels, rotation=rotation, fontsize=7)
    axes.set_yticks(range(len(heat.y)), y_labels, fontsize=7)
    known = [value for row in values for value in row if value == value]
    middle = (min(known) + max(known)) / 2 if known else 0.0
    for down, row in enumerate(heat.texts):
        for across, text in enumerate(row):
            colour = "white" if values[down][across] > middle else "#111827"
            axes.text(across, down, escape_text(text), ha="center", va="center", fontsize=6, color=colour)


def draw_parallel(parallel: ParallelPlot, axes: Axes, shade: str) -> None:
    """Draw parallel coordinates, each axis scaled to the same height and labelled with its ends or categories."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.collections import LineCollection
    from matplotlib.colors import Normalize

    span = (min(parallel.shades), max(parallel.shades)) if parallel.shades else (0.0, 1.0)
    colours = ScalarMappable(Normalize(*span), shades_colormap())
    heights = [[(at - axis.ends[0]) / (axis.ends[1] - axis.ends[0]) for at in axis.at] for axis in parallel.axes]
    lines = [list(enumerate(line)) for line in zip(*heights, strict=True)]
    shades = colours.to_rgba(np.asarray(parallel.shades))
    axes.add_collection(LineCollection(lines, colors=shades, linewidths=1, alpha=0.8, capstyle="projecting"))
    axes.autoscale_view()
    for across, axis in enumerate(parallel.axes):
        axes.axvline(across, color=GREY, linewidth=0.8)
        low, high = axis.ends
        places = range(len(axis.names)) if axis.names else (low, (low + high) / 2, high)
        for place in places:
            text, height = escape_text(axis.format_tick(place), LONGEST_LABEL), (place - low) / (high - low)
            axes.annotate(text, (across, height), (3, 1), textcoords="offset points", fontsize=6)
    axes.set_xticks(range(len(parallel.axes)), [escape_text(axis.name) for axis in parallel.axes], fontsize=7)
    axes.set_yticks([])
    for side in axes.spines.values():
        side.set_visible(False)
    bar = axes.get_figure(root=True).colorbar(colours, ax=axes, label=escape_text(shade))  # type: ignore[union-attr]
    bar.ax.tick_params(labelsize=6)
