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

from tuner.plots.charts import Chart, HeatMap, ParallelPlot, Series
from tuner.plots.colours import GREEN, GREY, HEAT, INK, SHADES, Marker
from tuner.plots.labels import explain_short, shorten_middle, spaced_labels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANEL = (4.2, 3.0)  # inches
COLUMNS = 3
DPI = 110
MARGINS = (0.62, 0.12, 0.5, 0.36)  # inches left, right, below and above the axes of a panel
SMALL = 8  # points
MOST_INSIDE = 2  # entries of a legend inside the axes; longer legends, and those of points and bars, stand outside
LONGEST = 48  # characters of a text
WIDEST = 96  # characters of a line of small text below an axis
MOST_LABELS = 24  # of an axis; of more categories, evenly spaced ones
MARKS: dict[Marker, str] = {
    "circle": "o", "triangle": "v", "square": "s", "cross": "x", "diamond": "D", "plus": "P", "star": "*",
    "pentagon": "p",
}  # fmt: skip
TILTED: Any = {"rotation": 30, "rotation_mode": "anchor", "ha": "right"}  # labels of categories end at their tick
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
    has_names = any(chart.categories or chart.heat or chart.parallel for chart in charts)
    if has_names or any(map(has_legend_below, charts)):
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
    return shorten_middle(text, longest).replace("$", r"\$")


def draw_chart(chart: Chart, axes: Axes) -> None:
    axes.set_title(escape_text(chart.title), fontsize=10)
    title_x, title_y = map(escape_text, chart.axis_titles)
    axes.set_xlabel(title_x, fontsize=SMALL)
    axes.set_ylabel(title_y, fontsize=SMALL)
    axes.tick_params(labelsize=SMALL)
    if explained := explain_short(chart.short_labels):
        axes.set_xlabel(
            "\n".join([*filter(None, [title_x]), fill(explained, WIDEST).replace("$", r"\$")]), fontsize=6
        )
    if chart.heat:
        return draw_heat_map(chart.heat, axes, chart.short_labels)
    if chart.parallel:
        return draw_parallel(chart.parallel, axes, chart.shade)
    for number, (series, colour, marker) in enumerate(chart.styled_series):
        label = escape_text(chart.short_names[series.name]) or None
        draw_series(series, chart.places(number), axes, {"color": colour, "label": label}, MARKS[marker], chart)
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
            if chart.categories:  # their names stand below
                place = {"loc": "lower center", "bbox_to_anchor": (0.5, 0.98), "ncols": 2}
                axes.set_title(
                    escape_text(chart.title), fontsize=10, pad=8 + 10 * -(-len(legend_names(chart)) // 2)
                )
            axes.legend(fontsize=6, frameon=False, **place)
        else:
            axes.legend(fontsize=7, frameon=False)


def legend_names(chart: Chart) -> list[str]:
    return [series.name for series in chart.series if series.name]


def has_legend_below(chart: Chart) -> bool:
    """Return whether the legend stands outside the axes; points and bars may lie anywhere in them."""
    names = legend_names(chart)
    return len(names) > MOST_INSIDE or any(one.kind != "line" and one.name for one in chart.series)


def set_axes(chart: Chart, axes: Axes) -> None:
    """Set scales, limits, ticks and grid of the axes."""
    from matplotlib.ticker import MaxNLocator

    numbers = [x for series in chart.series for x in series.x if not isinstance(x, str)]
    names = chart.categories
    if names:
        shown = sorted(spaced_labels(len(names), MOST_LABELS))
        labels = [escape_text(chart.short_labels[names[at]]) for at in shown]
        many = len(labels) > 12
        tilted = TILTED | {"rotation": 60} if many else TILTED
        axes.set_xticks(shown, labels, **(tilted if many or any(len(label) > 5 for label in labels) else {}))
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


def draw_series(
    series: Series, xs: Sequence[float], axes: Axes, style: dict[str, Any], mark: str, chart: Chart
) -> None:
    y = [float("nan") if value is None else value for value in series.y]
    if series.kind == "bars":
        axes.bar(xs, y, chart.bar_width, yerr=series.error_lengths, **style)
    elif series.kind == "points":
        shades: Any = {"c": series.shades, "cmap": shades_colormap()} if series.shades else {}
        dots: Any = {"s": 4, "alpha": 0.6} if chart.is_dense else {"s": 14}
        axes.scatter(xs, y, marker=mark, **dots, **({**style, "color": None} | shades if shades else style))
    else:
        dash, dots = "--" if series.dashed else "-", mark if len(y) <= 40 and not series.stepped else ""
        shape = "steps-post" if series.stepped else "default"
        axes.plot(xs, y, linestyle=dash, drawstyle=shape, marker=dots, markersize=3, **style)
        if series.low:
            axes.fill_between(xs, series.low, series.high, color=style["color"], alpha=0.18, linewidth=0)


def shades_colormap() -> Any:
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("shades", SHADES)


def heat_colormap() -> Any:
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("heat", HEAT)


def draw_heat_map(heat: HeatMap, axes: Axes, short: dict[str, str]) -> None:
    values = [[float("nan") if value is None else value for value in row] for row in heat.values]
    axes.imshow(values, cmap=heat_colormap(), aspect="auto")
    x_labels, y_labels = ([escape_text(short[name]) for name in names] for names in (heat.x, heat.y))
    axes.set_xticks(range(len(heat.x)), x_labels, fontsize=7, **(TILTED if len(heat.x) > 4 else {}))
    axes.set_yticks(range(len(heat.y)), y_labels, fontsize=7)
    for down, row in enumerate(heat.texts):
        for across, text in enumerate(row):
            axes.text(across, down, escape_text(text), ha="center", va="center", fontsize=6, color=INK)


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
    short = parallel.short_labels
    for across, axis in enumerate(parallel.axes):
        axes.axvline(across, color=GREY, linewidth=0.8)
        low, high = axis.ends
        for place in axis.places(MOST_LABELS, parts=2):
            text, height = axis.format_tick(place), (place - low) / (high - low)
            label = escape_text(short.get(text, text))
            axes.annotate(label, (across, height), (3, 1), textcoords="offset points", fontsize=6)
    axes.set_xticks(
        range(len(parallel.axes)), [escape_text(short[axis.name]) for axis in parallel.axes], fontsize=7
    )
    axes.set_yticks([])
    for side in axes.spines.values():
        side.set_visible(False)
    bar = axes.get_figure(root=True).colorbar(colours, ax=axes, label=escape_text(shade))  # type: ignore[union-attr]
    bar.ax.tick_params(labelsize=6)
