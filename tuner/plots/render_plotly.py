"""Render charts as plotly figures, for the dashboard and for HTML pages."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from html import escape
from math import log10
from typing import TYPE_CHECKING, Any

from tuner.plots.charts import Chart, HeatMap, ParallelAxis, ParallelPlot, Series
from tuner.plots.colours import GREEN, GREY, HEAT, INK, SHADES, Marker
from tuner.plots.labels import spaced_labels

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

Trace = dict[str, Any]  # a plot of plotly with its type, which a figure validates
CLEAR = "rgba(0,0,0,0)"  # the page may be light or dark
SYMBOLS: dict[Marker, str] = {
    "triangle": "triangle-down",
    "cross": "x",
    "plus": "cross",
}  # others have the same name
MOST_LABELS = 24  # of an axis; of more categories, evenly spaced ones
MOST_DOTS = 40  # points of a line with markers
FEW = 10  # whole numbers that all have a tick; plotly itself would put fractions between them
LINES = "rgba(138,148,166,0.25)"
escape_html = partial(escape, quote=False)  # plotly interprets tags in texts


def plotly_figure(chart: Chart) -> Figure:
    """Return the chart as a plotly figure, with grey text and no background, readable on light and dark pages."""
    from plotly.graph_objects import Figure

    figure = Figure()
    if chart.heat:
        figure.add_trace(heat_trace(chart.heat, chart.short_labels))
        figure.update_yaxes(autorange="reversed", type="category", tickvals=figure.data[0].y)
        figure.update_xaxes(tickvals=figure.data[0].x)
    if chart.parallel:
        figure.add_trace(parallel_trace(chart.parallel, chart.shade))
    for number, (series, colour, marker) in enumerate(chart.styled_series):
        dots = {"symbol": SYMBOLS.get(marker, marker), "size": 7, "color": colour}
        if chart.is_dense:
            dots |= {"size": 4, "opacity": 0.6}
        trace = series_trace(series, colour, dots, chart)
        if has_lanes(chart):
            trace["x"] = chart.places(number)
        trace["name"] = escape_html(chart.short_names[series.name])
        figure.add_traces([*band_traces(series, colour), trace])
    for at, text in chart.marks:
        figure.add_vline(at, line={"color": GREEN, "dash": "dash", "width": 1}, annotation_text=escape_html(text))
    axis: dict[str, Any] = {"gridcolor": LINES, "zeroline": False, "automargin": True}
    axis |= {"exponentformat": "power", "title_standoff": 8}
    title_x, title_y = map(escape_html, chart.axis_titles)
    figure.update_xaxes(title=title_x, type=axis_type(chart), range=axis_range(chart.x_range, chart.log_x), **axis)
    figure.update_yaxes(
        title=title_y,
        type="log" if chart.log_y else figure.layout.yaxis.type,
        range=axis_range(chart.y_range, chart.log_y),
        **axis,
    )
    figure.update_layout(
        title={"text": escape_html(chart.title), "font": {"size": 15}},
        template="none",
        paper_bgcolor=CLEAR,
        plot_bgcolor=CLEAR,
        font={"color": GREY, "size": 12, "family": "system-ui, sans-serif"},
        margin={"l": 50, "r": 16, "t": 44, "b": 44},
        legend={"orientation": "h", "itemsizing": "constant"} | legend_place(chart),
        height=360,
        barmode="overlay",
    )
    if not chart.log_x:
        figure.update_xaxes(whole_ticks([x for series in chart.series for x in series.x]))
    if names := chart.categories:
        shown = [names[at] for at in sorted(spaced_labels(len(names), MOST_LABELS))]
        short = [escape_html(chart.short_labels[name]) for name in shown]
        places = list(map(names.index, shown)) if has_lanes(chart) else list(map(escape_html, shown))
        figure.update_xaxes(tickvals=places, ticktext=short)
    if chart.is_empty:
        figure.update_xaxes(visible=False).update_yaxes(visible=False)
        note = escape_html(chart.note)
        figure.add_annotation(text=note, showarrow=False, x=0.5, y=0.5, xref="paper", yref="paper")
    return figure


def legend_place(chart: Chart) -> dict[str, Any]:
    """Return the place of the legend: below the axes, or at the bottom edge where names of choices may be long."""
    return {"yref": "container", "y": 0, "yanchor": "bottom"} if chart.categories else {"y": -0.2}


def axis_type(chart: Chart) -> str | None:
    """Return the type of the x axis; text is categorical, as plotly would read "256" as a number."""
    if chart.heat or (chart.categories and not has_lanes(chart)):
        return "category"
    return "log" if chart.log_x else None


def has_lanes(chart: Chart) -> bool:
    """Return whether the points of a category are spread, which an axis of categories of plotly cannot show."""
    return bool(chart.categories) and chart.is_dense


def axis_range(between: tuple[float, float] | None, log: bool) -> list[float] | None:
    """Return a range for plotly, which takes exponents on a logarithmic axis."""
    return [log10(end) if log else end for end in between] if between else None


def series_trace(series: Series, colour: str, dots: dict[str, Any], chart: Chart) -> Trace:
    common: Trace = {
        "x": [escape_html(x) if isinstance(x, str) else x for x in series.x],
        "y": list(series.y),
        "showlegend": bool(series.name),
        "hovertext": list(map(escape_html, series.texts or [x for x in series.x if isinstance(x, str)])) or None,
    }
    if series.kind == "line":
        mode = "lines+markers" if len(series.x) <= MOST_DOTS and not series.stepped else "lines"
        line = {"color": colour, "width": 2, "dash": "dash" if series.dashed else "solid"}
        line |= {"shape": "hv"} if series.stepped else {}
        return common | {"type": "scatter", "mode": mode, "line": line, "marker": dots | {"size": 5}}
    if series.error_lengths:
        down, up = series.error_lengths
        common["error_y"] = {"type": "data", "array": up, "arrayminus": down, "symmetric": False}
    if series.kind == "bars":
        # plotly makes the bars of each trace as wide as its own gaps: those of a few trials would cover others
        return common | {"type": "bar", "marker": {"color": colour}, "width": chart.bar_width}
    shades = colour_scale(series.shades, chart.shade) if series.shades else {}
    return common | {"type": "scatter", "mode": "markers", "marker": dots | shades}


def colour_scale(shades: Sequence[float], title: str) -> dict[str, Any]:
    """Return the settings that colour each point or line by a number, with the scale beside the plot."""
    bar = {"title": escape_html(title), "thickness": 10} | whole_ticks(shades)
    return {"color": list(shades), "colorscale": list(SHADES), "colorbar": bar, "showscale": True}


def whole_ticks(numbers: Sequence[float | str]) -> dict[str, Any]:
    """Return the settings of an axis of a few whole numbers, {} for other numbers."""
    known = [number for number in numbers if not isinstance(number, str)]
    is_whole = bool(known) and all(float(number).is_integer() for number in known)
    return {"dtick": 1} if is_whole and max(known) - min(known) <= FEW else {}


def band_traces(series: Series, colour: str) -> list[Trace]:
    """Return the band around a line as a filled trace, [] if it has none."""
    if series.kind != "line" or not series.low:
        return []
    red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return [
        {
            "type": "scatter",
            "x": [*series.x, *reversed(series.x)],
            "y": [*series.high, *reversed(series.low)],
            "fill": "toself",
            "fillcolor": f"rgba({red},{green},{blue},0.18)",
            "line": {"width": 0},
            "hoverinfo": "skip",
            "showlegend": False,
        }
    ]


def heat_trace(heat: HeatMap, short: dict[str, str]) -> Trace:
    return {
        "type": "heatmap",
        "x": [escape_html(short[name]) for name in heat.x],
        "y": [escape_html(short[name]) for name in heat.y],
        "z": [list(row) for row in heat.values],
        "text": [list(map(escape_html, row)) for row in heat.texts] or None,
        "texttemplate": "%{text}" if heat.texts else None,
        "colorscale": list(HEAT),
        "textfont": {"color": INK},
        "showscale": not heat.texts,
    }


def parallel_trace(parallel: ParallelPlot, shade: str) -> Trace:
    line, short = colour_scale(parallel.shades, shade), parallel.short_labels
    return {
        "type": "parcoords",
        "dimensions": [parallel_dimension(axis, short) for axis in parallel.axes],
        "line": line,
    }


def parallel_dimension(axis: ParallelAxis, short: dict[str, str]) -> dict[str, Any]:
    low, high = axis.ends
    places = axis.places(MOST_LABELS // 2)
    ticks = [axis.format_tick(place) for place in places]
    return {
        "label": escape_html(short[axis.name]),
        "values": list(axis.at),
        "range": [low, high],
        "tickvals": places,
        "ticktext": [escape_html(short.get(tick, tick)) for tick in ticks],
    }
