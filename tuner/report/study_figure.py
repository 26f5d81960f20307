"""What the figures of a study share: a chart with its name and caption, and how trials of each state are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tuner.plots.charts import Chart, Series, empty_chart
from tuner.plots.colours import STATE_MARKS
from tuner.plots.labels import explain_short
from tuner.report.study_data import TrialData, format_param

STATE_NAMES = {"COMPLETE": "finished", "PRUNED": "pruned", "PAUSED": "paused", "FAIL": "failed"}  # of STATE_MARKS
Point = tuple[TrialData, float, float | None]  # a trial, its x and y


@dataclass(frozen=True)
class StudyFigure:
    """A chart with its name in file names and on pages, and a sentence on what it shows."""

    name: str
    chart: Chart
    says: str


def empty_figure(name: str, title: str, reason: str) -> StudyFigure:
    return StudyFigure(name, empty_chart(title, reason), reason)


def hover_text(trial: TrialData) -> str:
    params = " ".join(f"{name}={format_param(value)}" for name, value in trial.params.items())
    return f"trial {trial.number}: {params}"


def state_series(points: Sequence[Point], failed: str = "failed") -> list[Series]:
    """Return a series of points for each state of trials that occurs, in its colour and with its marker."""
    series = []
    for state, name in (STATE_NAMES | {"FAIL": failed}).items():
        if some := [point for point in points if drawn_state(point[0]) == state]:
            trials, x, y = zip(*some, strict=True)
            mark, texts = STATE_MARKS[state], list(map(hover_text, trials))
            series.append(Series(name, x, y, "points", mark.colour, mark.marker, texts=texts))
    return series


def drawn_state(trial: TrialData) -> str:
    return "PAUSED" if trial.paused_at is not None else trial.state


def explained(name: str, chart: Chart, says: str) -> StudyFigure:
    """Return the figure with a sentence on what shortened names stand for."""
    short = explain_short(chart.short_labels | chart.short_names)
    return StudyFigure(name, chart, f"{says} In full: {short}." if short else says)
