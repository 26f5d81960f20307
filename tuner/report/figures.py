"""The figures of a study as charts: plain data, which plotly and matplotlib draw.

They are not those of `optuna.visualization`, which loads every trial through Optuna and returns only plotly
figures: its history omits pruned and failed trials, its contour interpolates between trials where ours shows means
of cells, its slices share one figure, and it has no curves, costs, saved epochs or failures.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from tuner.goal import Goal
from tuner.plots.charts import Chart, HeatMap, ParallelAxis, ParallelPlot, Series
from tuner.plots.colours import BLUE, GREEN, GREY, STATE_MARKS
from tuner.plots.scales import needs_log
from tuner.report.group_curves import TrialGroups, group_curves, group_trials, trial_curves
from tuner.report.importance import FEWEST, Importances, describe_importance, param_importances
from tuner.report.study_data import StudyData, TrialData, format_param
from tuner.report.study_figure import (
    STATE_NAMES,
    Point,
    StudyFigure,
    drawn_state,
    empty_figure,
    explained,
    hover_text,
    state_series,
)
from tuner.report.time_figures import plot_cost, plot_epochs, plot_failures
from tuner.wording import count_of, pluralize

MAX_CURVES = 5  # trials whose curves are drawn
MAX_LINES = 400  # trials of parallel coordinates
FRONT = "front-"  # begins the names of the figures of a front
LOG_FROM = 20  # a front spans a logarithmic axis if its largest value is so many times the smallest
MAX_CELLS = 5  # of a number, along a side of the heat map


def make_figures(study: StudyData, found: Importances | None = None) -> list[StudyFigure]:
    """Return all figures of a study in reading order."""
    found = param_importances(study) if found is None else found
    history, *others = make_own_figures(study, found)
    slices = [plot_slice(study, name) for name in order_params(study, found)]
    return [history, plot_parallel(study), plot_importances(found), *slices, *others]


def order_params(study: StudyData, found: Importances) -> list[str]:
    """Return the varied parameters, the most important first."""
    return [*found.names, *(name for name in study.varied if name not in found.names)]


def make_own_figures(study: StudyData, found: Importances) -> list[StudyFigure]:
    """Return the figures that optuna-dashboard does not draw itself, in reading order."""
    order = order_params(study, found)
    return [
        plot_history(study),
        plot_contour(study, order),
        plot_best_curves(study),
        plot_curves_by_choice(study, order),
        plot_cost(study),
        plot_epochs(study),
        plot_failures(study),
        *plot_fronts(study),
    ]


def plot_fronts(study: StudyData) -> list[StudyFigure]:
    """Return a figure of the first goal by each other one."""
    return [plot_front(study, goal) for goal in study.info.further]


def plot_front(study: StudyData, goal: Goal) -> StudyFigure:
    """Plot the first goal by another: all finished trials, and the front joined by a line."""
    name, title = f"{FRONT}{to_slug(goal.metric)}", f"{study.metric} by {goal.metric}"
    front = sorted(study.front, key=lambda trial: trial.values[goal.metric])
    if not front:
        return empty_figure(name, title, "no trial has finished")
    numbers = {trial.number for trial in front}
    others = [trial for trial in study.finished if trial.values and trial.number not in numbers]

    def series(label: str, trials: Sequence[TrialData], **more: Any) -> Series:
        x, y = [t.values[goal.metric] for t in trials], [t.values[study.metric] for t in trials]
        return Series(label, x, y, texts=list(map(hover_text, trials)), **more)

    shown = [series("finished", others, kind="points", colour=GREY)] if others else []
    if len(study.info.goals) == 2:  # of more goals, a line would join trials by chance
        shown.append(series("", front, colour=GREEN))
    shown.append(series("front", front, kind="points", colour=GREEN, marker="diamond"))
    values = [t.values[goal.metric] for t in (*front, *others)]
    is_log = min(values) > 0 and max(values) > LOG_FROM * min(values)
    best = "largest" if study.maximizes else "smallest"
    share = count_of(len(front), len(front) + len(others), "finished trial")
    says = (
        f"The front has {share}: no other is better in all of "
        f"{study.info.goal_text}. The {best} {study.metric} is that of trial {study.front[0].number}."
    )
    log_y = needs_log(study.metric, [y for one in shown for y in one.y])
    return StudyFigure(name, Chart(title, goal.metric, study.metric, shown, log_x=is_log, log_y=log_y), says)


def plot_history(study: StudyData) -> StudyFigure:
    values = [trial.reached(study.metric) for trial in study.trials]
    bottom = min((value for value in values if value is not None), default=0.0)
    points: list[Point] = []
    for trial, value in zip(study.trials, values, strict=True):
        if trial.state == "FAIL" or value is not None:
            points.append((trial, trial.number, bottom if trial.state == "FAIL" else value))
    if not points:
        return empty_figure("history", "History", "no trial has a value yet")
    series = state_series(points, "failed (no value)")
    if study.best:
        series.append(Series("best so far", *best_so_far(study), colour=GREEN, stepped=True))
    says = "No trial has finished yet."
    if study.best:
        best, number = format_param(study.best.value), study.best.number
        says = f"The best, {best}, came with trial {number}; {pluralize(len(study.trials), 'trial')} in all."
    is_log = needs_log(study.metric, [y for _, _, y in points])
    return StudyFigure("history", Chart("History", "trial", study.metric, series, log_y=is_log), says)


def best_so_far(study: StudyData) -> tuple[list[int], list[float]]:
    """Return the numbers of the finished trials, and the best value up to each."""
    finished = sorted(study.finished, key=lambda trial: trial.number)
    values = accumulate((trial.final_value for trial in finished), max if study.maximizes else min)
    return [trial.number for trial in finished], list(values)


def plot_importances(found: Importances) -> StudyFigure:
    """Plot the share of each parameter with its interval; those that chance may give are grey."""
    if found.reason:
        return empty_figure("importance", "Importance", found.reason)
    series = []
    for name, colour, told in (("", BLUE, True), ("no more than chance gives", GREY, False)):
        if some := [one for one in found.shares if one.is_told is told]:
            low, high = [one.low for one in some], [one.high for one in some]
            values = [min(max(one.share, one.low), one.high) for one in some]
            series.append(Series(name, [one.name for one in some], values, "bars", colour, low=low, high=high))
    note = "Share of the differences between the values, with 95 % intervals."
    chart = Chart("Importance", "", "share", series, y_range=(0, 1), note=note)
    return explained("importance", chart, describe_importance(found))


def early_trials(study: StudyData) -> list[TrialData]:
    """Return the pruned and paused trials that reached a value."""
    return [trial for trial in study.of("PRUNED") if trial.reached(study.metric) is not None]


def early_words(trials: Sequence[TrialData]) -> list[str]:
    """Return the words for the states of trials that did not finish, such as "pruned" and "paused"."""
    states = {drawn_state(trial) for trial in trials}
    return [word for state, word in STATE_NAMES.items() if state in states]


def plot_parallel(study: StudyData) -> StudyFigure:
    """Plot each trial as a line; an axis of their own marks pruned and paused ones, with their best so far."""
    title = "Parallel coordinates"
    names = study.common_params(study.varied)
    if len(study.finished) < 2 or not names:
        return empty_figure("parallel", title, "two finished trials with different parameters are needed")
    early = [trial for trial in early_trials(study) if trial.params.keys() >= set(names)]
    trials, number = pick_lines(study, [*study.finished, *early]), len(study.finished) + len(early)
    values = [value for trial in trials if (value := trial.reached(study.metric)) is not None]
    is_log, shade = needs_log(study.metric, values), study.metric
    if is_log:
        values, shade = list(map(math.log10, values)), f"log10 of {study.metric}"
    axes = [parallel_axis(study, name, trials) for name in names]
    axes.append(ParallelAxis(study.metric, values, is_log=is_log))
    says = "Each line is a finished trial, from its parameters to its value."
    if early:
        states = [STATE_NAMES[drawn_state(trial)] for trial in trials]
        levels = [name for name in STATE_NAMES.values() if name in states]
        axes.append(ParallelAxis("end", [float(levels.index(state)) for state in states], levels))
        says = "Each line is a trial, from its parameters to its value; "
        says += f"of a {' or '.join(early_words(early))} one, the best as far as it came."
    if number > len(trials):
        says += f" Of {number} trials, {len(trials)} evenly spaced by their value are drawn, the best among them."
    return explained("parallel", Chart(title, parallel=ParallelPlot(axes, values), shade=shade), says)


def pick_lines(study: StudyData, trials: Sequence[TrialData]) -> list[TrialData]:
    """Return at most `MAX_LINES` trials, evenly spaced by value, the best one last, so that no line covers it."""
    sign = 1.0 if study.maximizes else -1.0
    ranked = sorted(trials, key=lambda trial: sign * (trial.reached(study.metric) or 0.0))
    step = -(-len(ranked) // MAX_LINES)
    return ranked[::-1][::step][::-1]


def parallel_axis(study: StudyData, name: str, trials: Sequence[TrialData]) -> ParallelAxis:
    if study.is_number(name):
        values, log = [trial.params[name] for trial in trials], study.is_log(name)
        return ParallelAxis(name, [math.log10(value) if log else float(value) for value in values], is_log=log)
    labels = [format_param(level) for level in study.levels(name)]
    return ParallelAxis(name, list(map(float, study.level_indices(name, trials))), labels)


def to_slug(name: str) -> str:
    """Return the name of a parameter as part of a file name or an element id."""
    return "".join(char if char.isalnum() or char in "-_." else "_" for char in name)


def plot_slice(study: StudyData, name: str) -> StudyFigure:
    """Plot the value against one parameter, on a log scale if the space has one, or a strip for each choice.

    Pruned and paused trials have markers of their own, and their best value as far as they came.
    """
    done, early = sort_by_level(study, study.finished, name), sort_by_level(study, early_trials(study), name)
    title, slug = f"{study.metric} by {name}", f"slice-{to_slug(name)}"
    if not done and not early:
        return empty_figure(slug, title, "no finished trial")
    is_number = study.is_number(name)
    series = []
    if done:
        shades = [float(trial.number) for trial in done]
        series.append(slice_points(study, name, done, "COMPLETE", "finished" if early else "", shades=shades))
    for state in ("PRUNED", "PAUSED"):
        if some := [trial for trial in early if drawn_state(trial) == state]:
            label = f"{STATE_NAMES[state]}: the best as far as they came"
            series.append(slice_points(study, name, some, state, label))
    says = "No trial has finished yet."
    if study.best:
        has = name in study.best.params
        says = f"The best trial has {name} = {format_param(study.best.params[name])}." if has else ""
        says = says or f"The best trial was drawn without {name}."
    if early:
        says += (
            f" Those {' and '.join(early_words(early))} are shown as far as they came: their values are not final."
        )
    log_x = is_number and study.is_log(name)
    log_y = needs_log(study.metric, [y for one in series for y in one.y])
    chart = Chart(title, name, study.metric, series, log_x=log_x, log_y=log_y, shade="trial")
    return explained(slug, chart, says)


def sort_by_level(study: StudyData, trials: Sequence[TrialData], name: str) -> list[TrialData]:
    """Return the trials that have a parameter by their numbers; of a choice, in the order of the choices."""
    some = sorted((trial for trial in trials if name in trial.params), key=lambda trial: trial.number)
    if study.is_number(name):
        return some
    indices = study.level_indices(name, some)
    return [some[at] for at in sorted(range(len(some)), key=indices.__getitem__)]


def slice_points(
    study: StudyData, name: str, trials: Sequence[TrialData], state: str, label: str, **more: Any
) -> Series:
    is_number = study.is_number(name)
    x = [trial.params[name] if is_number else format_param(trial.params[name]) for trial in trials]
    y = [trial.reached(study.metric) for trial in trials]
    mark = STATE_MARKS[state]
    return Series(label, x, y, "points", mark.colour, mark.marker, texts=list(map(hover_text, trials)), **more)


def plot_contour(study: StudyData, order: Sequence[str]) -> StudyFigure:
    """Plot the mean value in each cell of the two most important parameters; cells without trials are empty."""
    names = study.common_params(order)[:2]
    if len(names) < 2 or len(study.finished) < FEWEST:
        reason = f"{FEWEST} finished trials, and two varied parameters that all of them have, are needed"
        return empty_figure("contour", "Two parameters at once", reason)
    across, down = group_into_cells(study, names[0]), list(reversed(group_into_cells(study, names[1])))
    values: list[list[float | None]] = []
    texts = []
    for _, row in down:
        numbers = {trial.number for trial in row}
        cells = [[trial.final_value for trial in cell if trial.number in numbers] for _, cell in across]
        values.append([float(np.mean(cell)) if cell else None for cell in cells])
        texts.append([f"{format_mean(float(np.mean(cell)))} ({len(cell)})" if cell else "" for cell in cells])
    note = f"Mean {study.metric} of the finished trials in each cell, and their number; darker is larger"
    if needs_log(study.metric, [value for row in values for value in row]):
        values, note = [[value and math.log10(value) for value in row] for row in values], f"{note} (log scale)"
    heat = HeatMap([label for label, _ in across], [label for label, _ in down], values, texts)
    title, note = f"{study.metric} by {names[0]} and {names[1]}", f"{note}."
    return explained("contour", Chart(title, names[0], names[1], heat=heat, note=note), note)


def format_mean(value: float) -> str:
    """Return a number that fits into a cell: "5830", not "5.83e+03"."""
    return f"{value:.0f}" if 1000 <= abs(value) < 100_000 else f"{value:.3g}"


def group_into_cells(study: StudyData, name: str) -> TrialGroups:
    """Return the finished trials grouped by choice, or by equal parts of the range of a number."""
    levels = study.levels(name)
    if not study.is_number(name) or len(levels) <= MAX_CELLS:
        index = study.level_indices(name, study.finished)
        labels = [format_param(level) for level in levels]
    else:
        log = study.is_log(name)
        x = np.array([math.log10(t.params[name]) if log else t.params[name] for t in study.finished], float)
        edges = np.linspace(x.min(), x.max(), MAX_CELLS + 1)
        index = np.clip(np.searchsorted(edges, x, side="right") - 1, 0, MAX_CELLS - 1).tolist()
        ends = [10**edge if log else edge for edge in edges]
        labels = [f"{ends[i]:.2g} to {ends[i + 1]:.2g}" for i in range(MAX_CELLS)]
    return [
        (label, [trial for trial, cell in zip(study.finished, index, strict=True) if cell == at])
        for at, label in enumerate(labels)
    ]


def plot_best_curves(study: StudyData) -> StudyFigure:
    top = study.finished[:MAX_CURVES]
    if not top:
        return empty_figure("curves", "Curves of the best", "no finished trial")
    chart = trial_curves(top, study.metric, [f"trial {t.number} ({format_param(t.value)})" for t in top])
    best = f"{len(top)} best trials" if len(top) > 1 else "best trial"
    says = f"Validation {study.metric} after each epoch, of the {best}."
    return StudyFigure("curves", chart, says)


def plot_curves_by_choice(study: StudyData, order: Sequence[str]) -> StudyFigure:
    """Plot the mean curves by the most important categorical parameter, else by the most important one."""
    names = [name for name in order if not study.is_number(name)] or list(order)
    if not names:
        return empty_figure("by-choice", "Curves by choice", "no parameter was varied")
    chart = group_curves(group_trials(study, names[0]), study.metric, f"{study.metric} by {names[0]}")
    return explained("by-choice", chart, f"{chart.note} By {names[0]}.".strip())
