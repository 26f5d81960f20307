"""What is drawn of a whole study, as charts: plain data that each renderer draws in its own way."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tuner.plots.charts import GREEN, GREY, RED, Chart, HeatMap, ParallelAxis, ParallelPlot, Series, empty_chart
from tuner.report.group_curves import group_curves, group_trials, trial_curves
from tuner.report.importance import FEWEST, SOLID, param_importances
from tuner.report.study_data import StudyData, TrialData, format_param
from tuner.study.format import format_seconds

TOP = 5  # trials whose curves are drawn
CELLS = 5  # of a number, along a side of the heat map
BLUE, ORANGE = "#2563eb", "#ea580c"


@dataclass(frozen=True)
class StudyFigure:
    """A chart with its place in a file's or a page's names, and what it shows in one sentence."""

    name: str
    chart: Chart
    says: str


def make_figures(story: StudyData, shares: dict[str, float] | None = None) -> list[StudyFigure]:
    """Every figure of a study, in the order in which they are read."""
    shares = param_importances(story) if shares is None else shares
    order = [*shares, *[name for name in story.varied if name not in shares]]
    made = [plot_history(story), plot_parallel(story), plot_importances(story, shares)]
    made += [plot_slice(story, name) for name in order]
    made += [plot_contour(story, order), plot_best_curves(story), plot_curves_by_choice(story, order)]
    return [*made, plot_cost(story), plot_epochs(story), plot_failures(story)]


def hover_text(trial: TrialData) -> str:
    """What is shown when a trial's point is touched."""
    return f"trial {trial.number}: " + " ".join(
        f"{name}={format_param(value)}" for name, value in trial.params.items()
    )


def point_series(
    name: str, colour: str, trials: Sequence[TrialData], x: Sequence[Any], y: Sequence[float | None]
) -> Series:
    return Series(name, x, y, "points", colour, texts=[hover_text(trial) for trial in trials])


def plot_history(story: StudyData) -> StudyFigure:
    metric = story.metric
    seen = [(trial, trial.reached(metric)) for trial in story.trials]
    known = [value for _, value in seen if value is not None]
    failed = story.of("FAIL")
    if not known and not failed:
        return StudyFigure(
            "history", empty_chart("History", "no trial has a value yet"), "No trial has a value yet."
        )
    series = []
    for state, name, colour in (("COMPLETE", "finished", BLUE), ("PRUNED", "pruned", ORANGE)):
        mine = [(trial, value) for trial, value in seen if trial.state == state and value is not None]
        if mine:
            trials = [trial for trial, _ in mine]
            series.append(point_series(name, colour, trials, [t.number for t in trials], [v for _, v in mine]))
    if failed:
        bottom = min(known, default=0.0)
        at = [trial.number for trial in failed]
        series.append(point_series("failed (no value)", RED, failed, at, [bottom] * len(failed)))
    numbers, best = best_so_far(story)
    if best:
        series.append(Series("best so far", numbers, best, colour=GREEN))
    says = "No trial has finished yet."
    if story.best:
        says = (
            f"The best, {format_param(story.best.value)}, came with trial {story.best.number}; "
            f"{len(story.trials)} trials in all."
        )
    return StudyFigure("history", Chart("History", "trial", metric, series), says)


def best_so_far(story: StudyData) -> tuple[list[int], list[float | None]]:
    numbers, values = [], []
    best: float | None = None
    for trial in story.trials:
        if trial.state == "COMPLETE" and trial.value is not None:
            best = trial.value if best is None or story.info.goal.is_better(trial.value, best) else best
            numbers.append(trial.number)
            values.append(best)
    return numbers, list(values)


def plot_importances(story: StudyData, shares: dict[str, float]) -> StudyFigure:
    title = "Importance"
    if not shares:
        why = (
            f"{len(story.finished)} finished trials are too few to say which parameter matters; "
            f"{FEWEST} are needed"
            if len(story.finished) < FEWEST
            else "no parameter was varied in all finished trials"
        )
        return StudyFigure("importance", empty_chart(title, why), why)
    note = "" if len(story.finished) >= SOLID else f"From {len(story.finished)} trials: a hint, no more."
    bars = Series("", list(shares), list(shares.values()), "bars", BLUE)
    first, share = next(iter(shares.items()))
    says = f"{first} matters most ({share:.0%} of the difference between good trials and others). {note}".strip()
    return StudyFigure("importance", Chart(title, "", "share", [bars], y_range=(0, 1), note=note), says)


def plot_parallel(story: StudyData) -> StudyFigure:
    title = "Parallel coordinates"
    names = [name for name in story.varied if all(name in trial.params for trial in story.finished)]
    if len(story.finished) < 2 or not names:
        why = "two finished trials with different parameters are needed"
        return StudyFigure("parallel", empty_chart(title, why), why)
    axes = [axis(story, name) for name in names]
    values = [trial.value or 0.0 for trial in story.finished]
    chart = Chart(
        title, parallel=ParallelPlot([*axes, ParallelAxis(story.metric, values)], values), shade=story.metric
    )
    return StudyFigure("parallel", chart, "Each line is a finished trial, from its parameters to what it reached.")


def axis(story: StudyData, name: str) -> ParallelAxis:
    values = [trial.params[name] for trial in story.finished]
    if story.is_number(name):
        is_log = story.is_log(name)
        return ParallelAxis(
            name, [math.log10(value) if is_log else float(value) for value in values], is_log=is_log
        )
    levels = story.levels(name)
    places = {(type(level).__name__, level): float(at) for at, level in enumerate(levels)}
    return ParallelAxis(
        name, [places[type(v).__name__, v] for v in values], [format_param(level) for level in levels]
    )


def slugged(name: str) -> str:
    """A parameter's name within that of a file and of a place on a page."""
    return "".join(char if char.isalnum() or char in "-_." else "_" for char in name)


def plot_slice(story: StudyData, name: str) -> StudyFigure:
    """The value against one parameter: on a power scale where the space has one, a strip for each choice."""
    known = [trial for trial in story.finished if name in trial.params]
    title, slug = f"{story.metric} by {name}", f"slice-{slugged(name)}"
    if not known:
        return StudyFigure(slug, empty_chart(title, "no finished trial"), "No finished trial.")
    if not story.is_number(name):
        levels = [(type(level).__name__, level) for level in story.levels(name)]
        known = sorted(
            known, key=lambda t: (levels.index((type(t.params[name]).__name__, t.params[name])), t.number)
        )
        x: list[Any] = [format_param(trial.params[name]) for trial in known]
    else:
        known = sorted(known, key=lambda trial: trial.number)
        x = [trial.params[name] for trial in known]
    texts = [hover_text(trial) for trial in known]
    shades = [float(trial.number) for trial in known]
    series = Series("", x, [trial.value for trial in known], "points", BLUE, texts=texts, shades=shades)
    log = story.is_number(name) and story.is_log(name)
    best = story.finished[0]
    says = f"The best trial has {name} = {format_param(best.params.get(name))}."
    return StudyFigure(slug, Chart(title, name, story.metric, [series], log_x=log, shade="trial"), says)


Bins = list[tuple[str, list[TrialData]]]


def plot_contour(story: StudyData, order: Sequence[str]) -> StudyFigure:
    """The mean value over the two parameters that matter most, cell by cell; empty where nothing was tried."""
    names = [name for name in order if all(name in trial.params for trial in story.finished)][:2]
    title = "Two parameters at once"
    if len(names) < 2 or len(story.finished) < FEWEST:
        why = f"two varied parameters and {FEWEST} finished trials are needed"
        return StudyFigure("contour", empty_chart(title, why), why)
    across, down = group_into_cells(story, names[0]), list(reversed(group_into_cells(story, names[1])))
    values: list[list[float | None]] = []
    texts = []
    for _, row in down:
        mine = {trial.number for trial in row}
        here = [[t.value for t in cell if t.number in mine and t.value is not None] for _, cell in across]
        values.append([float(np.mean(known)) if known else None for known in here])
        texts.append([f"{np.mean(known):.3g} ({len(known)})" if known else "" for known in here])
    field = HeatMap([label for label, _ in across], [label for label, _ in down], values, texts)
    note = f"Mean {story.metric} of the finished trials in each cell, and their number."
    return StudyFigure(
        "contour",
        Chart(f"{story.metric} by {names[0]} and {names[1]}", names[0], names[1], heat=field, note=note),
        note,
    )


def group_into_cells(story: StudyData, name: str) -> Bins:
    """The finished trials by choice, or by equal stretches of a number's range."""
    levels = story.levels(name)
    if not story.is_number(name) or len(levels) <= CELLS:
        kept = [
            (
                format_param(v),
                [t for t in story.finished if (type(t.params[name]), t.params[name]) == (type(v), v)],
            )
            for v in levels
        ]
        return kept
    log = story.is_log(name)
    at = np.array([math.log10(t.params[name]) if log else t.params[name] for t in story.finished], float)
    edges = np.linspace(at.min(), at.max(), CELLS + 1)
    which = np.clip(np.searchsorted(edges, at, side="right") - 1, 0, CELLS - 1)
    ends = [10**edge if log else edge for edge in edges]
    return [
        (
            f"{ends[i]:.2g} to {ends[i + 1]:.2g}",
            [t for t, cell in zip(story.finished, which, strict=True) if cell == i],
        )
        for i in range(CELLS)
    ]


def plot_best_curves(story: StudyData) -> StudyFigure:
    top = story.finished[:TOP]
    if not top:
        return StudyFigure("curves", empty_chart("Curves of the best", "no finished trial"), "No finished trial.")
    names = [f"trial {trial.number} ({format_param(trial.value)})" for trial in top]
    chart = trial_curves(top, story.metric, names)
    return StudyFigure(
        "curves", chart, f"Validation {story.metric} after each epoch, of the {len(top)} best trials."
    )


def plot_curves_by_choice(story: StudyData, order: Sequence[str]) -> StudyFigure:
    """The curves by the parameter of a list that matters most."""
    names = [name for name in order if not story.is_number(name)] or list(order)
    title = "Curves by choice"
    if not names:
        return StudyFigure("by-choice", empty_chart(title, "no parameter was varied"), "No parameter was varied.")
    chart = group_curves(group_trials(story, names[0]), story.metric, f"{story.metric} by {names[0]}")
    return StudyFigure("by-choice", chart, f"{chart.note} Trials that finished, by {names[0]}.".strip())


def plot_cost(story: StudyData) -> StudyFigure:
    spent = [trial for trial in story.trials if trial.seconds > 0]
    if not spent:
        return StudyFigure(
            "cost", empty_chart("Time a trial", "no epoch has been recorded"), "No epoch has been recorded."
        )
    series = []
    for states, name, colour in (
        ("COMPLETE", "finished", BLUE),
        ("PRUNED", "pruned", ORANGE),
        ("FAIL", "failed", RED),
    ):
        mine = [trial for trial in spent if trial.state == states]
        if mine:
            minutes = [trial.seconds / 60 for trial in mine]
            series.append(
                point_series(name, colour, mine, minutes, [trial.reached(story.metric) for trial in mine])
            )
    total, longest = (format_seconds(some([trial.seconds for trial in spent])) for some in (sum, max))
    says = f"{total} of training in all; the longest trial took {longest}."
    return StudyFigure("cost", Chart("What the time bought", "minutes of training", story.metric, series), says)


def plot_epochs(story: StudyData) -> StudyFigure:
    """Epochs trained of those planned: what pruning saved. What a person ended was not pruned."""
    ended = [trial for trial in story.of("COMPLETE", "PRUNED") if trial.planned and "stopped" not in trial.notes]
    if not ended:
        return StudyFigure(
            "epochs", empty_chart("Epochs", "no ended trial says how many epochs it was to have"), "Not known."
        )
    x = [float(trial.number) for trial in ended]
    planned = Series("planned", x, [float(trial.trained + trial.left) for trial in ended], "bars", GREY)
    trained = Series("trained", x, [float(trial.trained) for trial in ended], "bars", BLUE)
    saved = sum(trial.left for trial in ended if trial.state == "PRUNED")
    whole = sum(trial.trained + trial.left for trial in ended)
    says = f"Pruning saved {saved} of {whole} planned epochs ({saved / whole:.0%})."
    return StudyFigure("epochs", Chart("Epochs trained and planned", "trial", "epochs", [planned, trained]), says)


def plot_failures(story: StudyData) -> StudyFigure:
    kinds = group_failures(story)
    if not kinds:
        return StudyFigure("failures", empty_chart("Failures", "no trial failed"), "No trial failed.")
    bars = Series("", list(kinds), [float(len(trials)) for trials in kinds.values()], "bars", RED)
    says = "; ".join(f"{len(trials)} x {kind}" for kind, trials in kinds.items())
    return StudyFigure("failures", Chart("Failures by kind", "", "trials", [bars]), says)


def group_failures(story: StudyData) -> dict[str, list[TrialData]]:
    """Return the failed trials by the label of their failure, the most frequent first."""
    kinds: dict[str, list[TrialData]] = {}
    for trial in story.of("FAIL"):
        kinds.setdefault(trial.failure.label, []).append(trial)
    return dict(sorted(kinds.items(), key=lambda pair: (-len(pair[1]), pair[0])))
