"""Charts as PNG or SVG files, drawn with matplotlib: no browser is needed, as plotly would have it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuner.report.charts import Chart, Heat, Series

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PANEL = (4.2, 3.0)  # inches
DPI = 110
SMALL = 8  # points


def draw(charts: Sequence[Chart], path: Path, columns: int = 3, panel: tuple[float, float] = PANEL) -> None:
    """One sheet of charts, row by row. The ending of `path` says how: .png or .svg."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    across = min(columns, len(charts))
    down = -(-len(charts) // across)
    figure = Figure(figsize=(panel[0] * across, panel[1] * down), dpi=DPI, layout="constrained")
    grid = list(figure.subplots(down, across, squeeze=False).flat)
    for chart, axes in zip(charts, grid, strict=False):
        put(chart, axes)
    for axes in grid[len(charts) :]:
        axes.set_axis_off()
    if path.suffix == ".svg":
        FigureCanvasSVG(figure).print_svg(path, metadata={"Date": None})
    else:
        FigureCanvasAgg(figure).print_png(path)


def put(chart: Chart, axes: Axes) -> None:
    axes.set_title(chart.title, fontsize=10)
    axes.set_xlabel(chart.x, fontsize=SMALL)
    axes.set_ylabel(chart.y, fontsize=SMALL)
    axes.tick_params(labelsize=SMALL)
    if chart.heat:
        return put_heat(chart.heat, axes)
    for series, colour in chart.coloured:
        put_series(series, colour, axes)
    for at, text in chart.marks:
        axes.axvline(at, color="#16a34a", linewidth=0.8, linestyle="--")
        axes.annotate(text, (at, 0.02), xycoords=("data", "axes fraction"), fontsize=6, color="#16a34a")
    scale(chart, axes)
    if not chart.series:
        axes.text(0.5, 0.5, chart.note, ha="center", va="center", fontsize=SMALL, wrap=True)
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
    axes.grid(alpha=0.25)


def put_series(series: Series, colour: str, axes: Axes) -> None:
    label = series.name or None
    y = [float("nan") if value is None else value for value in series.y]
    if series.kind == "bars":
        axes.bar(series.x, y, color=colour, label=label, yerr=whiskers(series))
        axes.tick_params(axis="x", labelrotation=30 if any(len(str(x)) > 5 for x in series.x) else 0)
    elif series.kind == "points":
        shades: Any = {"c": series.shades, "cmap": "viridis"} if series.shades else {"color": colour}
        axes.scatter(series.x, y, s=12, label=label, **shades)
    else:
        style = "--" if series.dashed else "-"
        dots = "o" if len(y) <= 40 else ""
        axes.plot(series.x, y, color=colour, label=label, linestyle=style, marker=dots, markersize=2.5)
        if series.low:
            axes.fill_between(series.x, series.low, series.high, color=colour, alpha=0.18, linewidth=0)


def whiskers(series: Series) -> list[list[float]] | None:
    """How far the whiskers reach below and above."""
    if not series.low:
        return None
    known = [(y or 0.0, low, high) for y, low, high in zip(series.y, series.low, series.high, strict=True)]
    return [[y - low for y, low, _ in known], [high - y for y, _, high in known]]


def put_heat(heat: Heat, axes: Axes) -> None:
    values = [[float("nan") if value is None else value for value in row] for row in heat.values]
    axes.imshow(values, cmap="Blues", aspect="auto")
    axes.set_xticks(range(len(heat.x)), heat.x, rotation=45 if len(heat.x) > 4 else 0, fontsize=7)
    axes.set_yticks(range(len(heat.y)), heat.y, fontsize=7)
    known = [value for row in values for value in row if value == value]
    middle = (min(known) + max(known)) / 2 if known else 0.0
    for down, row in enumerate(heat.texts):
        for across, text in enumerate(row):
            dark = values[down][across] > middle
            axes.text(
                across, down, text, ha="center", va="center", fontsize=6, color="white" if dark else "#111827"
            )
