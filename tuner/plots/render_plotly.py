"""Render charts as plotly figures, for the dashboard and for HTML pages."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from html import escape
from math import log10
from typing import TYPE_CHECKING, Any

from tuner.plots.charts import GREEN, GREY, SHADES, Chart, HeatMap, ParallelAxis, ParallelPlot, Series

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

Trace = dict[str, Any]  # a plot of plotly with its type, which a figure validates
CLEAR = "rgba(0,0,0,0)"  # the page may be light or dark
LONGEST_LABEL = 14  # characters of a category beside an axis
LINES = "rgba(138,148,166,0.25)"
escape_html = partial(escape, quote=False)  # plotly interprets tags in texts


def plotly_figure(chart: Chart) -> Figure:
    """Return the chart as a plotly figure, with grey text and no background, readable on light and dark pages."""
    from plotly.graph_objects import Figure

    figure = Figure()
    if chart.heat:
        figure.add_trace(heat_trace(chart.heat))
        figure.update_yaxes(autorange="reversed", type="category")
    if chart.parallel:
        figure.add_trace(parallel_trace(chart.parallel, chart.shade))
    for series, colour in chart.coloured_series:
        figure.add_traces([*band_traces(series, colour), series_trace(series, colour, chart.shade)])
    for at, text in chart.marks:
        figure.add_vline(at, line={"color": GREEN, "dash": "dash", "width": 1}, annotation_text=escape_html(text))
    axis: dict[str, Any] = {"gridcolor": LINES, "zeroline": False, "automargin": True}
    axis |= {"exponentformat": "power", "title_standoff": 8}
    figure.update_xaxes(
        title=escape_html(chart.x), type=axis_type(chart), range=axis_range(chart.x_range, chart.log_x), **axis
    )
    figure.update_yaxes(
        title=escape_html(chart.y),
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
        legend={"orientation": "h"} | legend_place(chart),
        height=360,
        barmode="overlay",
        bargap=0.2 if any(len(series.x) > 2 for series in chart.series) else 0.7,
    )
    if names := list(dict.fromkeys(x for series in chart.series for x in series.x if isinstance(x, str))):
        places = list(map(escape_html, names))
        figure.update_xaxes(tickvals=places, ticktext=list(map(shorten_label, names)))
    if chart.is_empty:
        figure.update_xaxes(visible=False).update_yaxes(visible=False)
        note = escape_html(chart.note)
        figure.add_annotation(text=note, showarrow=False, x=0.5, y=0.5, xref="paper", yref="paper")
    return figure


def legend_place(chart: Chart) -> dict[str, Any]:
    """Return the place of the legend: below the axes, or at the bottom edge where names of choices may be long."""
    has_names = any(isinstance(x, str) for series in chart.series for x in series.x)
    return {"yref": "container", "y": 0, "yanchor": "bottom"} if has_names else {"y": -0.2}


def shorten_label(name: str) -> str:
    """Return a name as a label beside an axis, where a long one would leave no room for the plot."""
    return escape_html(name if len(name) <= LONGEST_LABEL else name[: LONGEST_LABEL - 1] + "…")


def axis_type(chart: Chart) -> str | None:
    """Return the type of the x axis; text is categorical, as plotly would read "256" as a number."""
    if chart.heat or any(isinstance(x, str) for series in chart.series for x in series.x):
        return "category"
    return "log" if chart.log_x else None


def axis_range(between: tuple[float, float] | None, log: bool) -> list[float] | None:
    """Return a range for plotly, which takes exponents on a logarithmic axis."""
    return [log10(end) if log else end for end in between] if between else None


def series_trace(series: Series, colour: str, shade: str) -> Trace:
    common: Trace = {
        "x": [escape_html(x) if isinstance(x, str) else x for x in series.x],
        "y": list(series.y),
        "name": escape_html(series.name),
        "showlegend": bool(series.name),
        "hovertext": [escape_html(text) for text in series.texts] or None,
    }
    if series.kind == "line":
        mode = "lines+markers" if len(series.x) <= 40 else "lines"
        line = {"color": colour, "width": 2, "dash": "dash" if series.dashed else "solid"}
        return common | {"type": "scatter", "mode": mode, "line": line, "marker": {"size": 4}}
    if series.error_lengths:
        down, up = series.error_lengths
        common["error_y"] = {"type": "data", "array": up, "arrayminus": down, "symmetric": False}
    if series.kind == "bars":
        is_number = not any(isinstance(x, str) for x in series.x)
        # plotly makes the bars of each trace as wide as its own gaps: those of a few trials would cover others
        return common | {"type": "bar", "marker": {"color": colour}, "width": 0.8 if is_number else None}
    shades = colour_scale(series.shades, shade) if series.shades else {"color": colour}
    return common | {"type": "scatter", "mode": "markers", "marker": {"size": 7} | shades}


def colour_scale(shades: Sequence[float], title: str) -> dict[str, Any]:
    """Return the settings that colour each point or line by a number, with the scale beside the plot."""
    bar = {"title": escape_html(title), "thickness": 10}
    return {"color": list(shades), "colorscale": list(SHADES), "colorbar": bar, "showscale": True}


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


def heat_trace(heat: HeatMap) -> Trace:
    return {
        "type": "heatmap",
        "x": list(map(escape_html, heat.x)),
        "y": list(map(escape_html, heat.y)),
        "z": [list(row) for row in heat.values],
        "text": [list(map(escape_html, row)) for row in heat.texts] or None,
        "texttemplate": "%{text}" if heat.texts else None,
        "colorscale": "Blues",
        "showscale": not heat.texts,
    }


def parallel_trace(parallel: ParallelPlot, shade: str) -> Trace:
    line = colour_scale(parallel.shades, shade)
    return {"type": "parcoords", "dimensions": list(map(parallel_dimension, parallel.axes)), "line": line}


def parallel_dimension(axis: ParallelAxis) -> dict[str, Any]:
    low, high = axis.ends
    places = list(range(len(axis.names))) if axis.names else [low + (high - low) * at / 4 for at in range(5)]
    return {
        "label": escape_html(axis.name),
        "values": list(axis.at),
        "range": [low, high],
        "tickvals": places,
        "ticktext": [escape_html(axis.format_tick(place)) for place in places],
    }
