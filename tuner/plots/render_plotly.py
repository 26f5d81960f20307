"""Render charts as plotly figures, for the dashboard and for HTML pages."""

from __future__ import annotations

from math import log10
from typing import TYPE_CHECKING, Any

from tuner.plots.charts import GREEN, GREY, SHADES, Chart, HeatMap, ParallelAxis, ParallelPlot, Series

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

CLEAR = "rgba(0,0,0,0)"  # the page may be light or dark
LINES = "rgba(138,148,166,0.25)"


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
        legend={"orientation": "h", "y": -0.2},
        height=360,
        barmode="overlay",
        bargap=0.2 if any(len(series.x) > 2 for series in chart.series) else 0.7,
    )
    if chart.is_empty:
        figure.update_xaxes(visible=False).update_yaxes(visible=False)
        figure.add_annotation(
            text=escape_html(chart.note), showarrow=False, x=0.5, y=0.5, xref="paper", yref="paper"
        )
    return figure


def axis_type(chart: Chart) -> str | None:
    """Return the type of the x axis; text is categorical, as plotly would read "256" as a number."""
    if chart.heat or any(isinstance(x, str) for series in chart.series for x in series.x):
        return "category"
    return "log" if chart.log_x else None


def axis_range(between: tuple[float, float] | None, log: bool) -> list[float] | None:
    """Return a range for plotly, which takes exponents on a logarithmic axis."""
    return [log10(end) if log else end for end in between] if between else None


def series_trace(series: Series, colour: str, shade: str) -> Any:
    """Return a series as a plotly trace."""
    from plotly import graph_objects as go

    common: dict[str, Any] = {
        "x": [escape_html(x) if isinstance(x, str) else x for x in series.x],
        "y": list(series.y),
        "name": escape_html(series.name),
        "showlegend": bool(series.name),
        "hovertext": [escape_html(text) for text in series.texts] or None,
    }
    if series.kind == "bars":
        return go.Bar(**common, marker_color=colour, error_y=error_bars(series))
    if series.kind == "points":
        marker: dict[str, Any] = {"size": 7, "color": colour}
        if series.shades:
            bar = {"title": escape_html(shade), "thickness": 10}
            marker |= {
                "color": list(series.shades),
                "colorscale": list(SHADES),
                "colorbar": bar,
                "showscale": True,
            }
        return go.Scatter(**common, mode="markers", marker=marker, error_y=error_bars(series))
    mode = "lines+markers" if len(series.x) <= 40 else "lines"
    line = {"color": colour, "width": 2, "dash": "dash" if series.dashed else "solid"}
    return go.Scatter(**common, mode=mode, line=line, marker={"size": 4})


def band_traces(series: Series, colour: str) -> list[Any]:
    """Return the band around a line as a filled trace, [] if it has none."""
    from plotly import graph_objects as go

    if series.kind != "line" or not series.low:
        return []
    red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    around = [*series.high, *reversed(series.low)]
    return [
        go.Scatter(
            x=[*series.x, *reversed(series.x)],
            y=around,
            fill="toself",
            fillcolor=f"rgba({red},{green},{blue},0.18)",
            line={"width": 0},
            hoverinfo="skip",
            showlegend=False,
        )
    ]


def error_bars(series: Series) -> dict[str, Any] | None:
    """Return the error bars of a series for plotly, None if it has none."""
    if not series.low:
        return None
    up = [high - (y or 0.0) for y, high in zip(series.y, series.high, strict=True)]
    down = [(y or 0.0) - low for y, low in zip(series.y, series.low, strict=True)]
    return {"type": "data", "array": up, "arrayminus": down, "symmetric": False}


def heat_trace(heat: HeatMap) -> Any:
    """Return a heat map as a plotly trace."""
    from plotly import graph_objects as go

    return go.Heatmap(
        x=[escape_html(name) for name in heat.x],
        y=[escape_html(name) for name in heat.y],
        z=[list(row) for row in heat.values],
        text=[[escape_html(text) for text in row] for row in heat.texts] or None,
        texttemplate="%{text}" if heat.texts else None,
        colorscale="Blues",
        showscale=not heat.texts,
    )


def parallel_trace(parallel: ParallelPlot, shade: str) -> Any:
    """Return parallel coordinates as a plotly trace."""
    from plotly import graph_objects as go

    bar = {"title": escape_html(shade), "thickness": 10}
    line = {"color": list(parallel.shades), "colorscale": list(SHADES), "showscale": True, "colorbar": bar}
    return go.Parcoords(dimensions=[parallel_dimension(axis) for axis in parallel.axes], line=line)


def parallel_dimension(axis: ParallelAxis) -> dict[str, Any]:
    """Return an axis of parallel coordinates for plotly."""
    low, high = axis.ends
    places = list(range(len(axis.names))) if axis.names else [low + (high - low) * at / 4 for at in range(5)]
    return {
        "label": escape_html(axis.name),
        "values": list(axis.at),
        "range": [low, high],
        "tickvals": places,
        "ticktext": [escape_html(axis.format_tick(place)) for place in places],
    }


def escape_html(text: str) -> str:
    """Return the text with HTML escaped, since plotly interprets tags in it."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
