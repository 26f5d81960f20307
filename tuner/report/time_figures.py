"""Figures of time, epochs and failures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean

from tuner.plots.charts import Chart, Series
from tuner.plots.colours import BLUE, GREEN, GREY, RED
from tuner.plots.scales import needs_log
from tuner.report.study_data import StudyData, TrialData
from tuner.report.study_figure import StudyFigure, empty_figure, state_series
from tuner.study.trial_queries import OVER_LIMIT
from tuner.wording import format_seconds, pluralize

MAX_BARS = 150  # of more trials, the bars are means of neighbours: the screen has no room for one of each


def plot_cost(study: StudyData) -> StudyFigure:
    trials = [trial for trial in study.trials if trial.seconds > 0]
    if not trials:
        return empty_figure("cost", "Time per trial", "no epoch has been recorded")
    values = [(trial, trial.seconds / 60, trial.reached(study.metric)) for trial in trials]
    if not (series := state_series([point for point in values if point[2] is not None])):
        return empty_figure("cost", "Time per trial", "no trial has a value yet")
    seconds = [trial.seconds for trial in trials]
    total, longest = format_seconds(sum(seconds)), format_seconds(max(seconds))
    says = f"{total} of training in all; the longest trial took {longest}."
    is_log = needs_log(study.metric, [y for one in series for y in one.y])
    chart = Chart("What the time bought", "minutes of training", study.metric, series, log_y=is_log)
    return StudyFigure("cost", chart, says)


def plot_epochs(study: StudyData) -> StudyFigure:
    """Plot trained and planned epochs: what pruning saved, and what was trained after a pause.

    Trials that a person or a limit stopped are omitted.
    """
    ended = [t for t in study.of("COMPLETE", "PRUNED") if t.planned and not {"stopped", OVER_LIMIT} & {*t.notes}]
    if not ended:
        return empty_figure("epochs", "Epochs", "no ended trial says how many epochs it was to have")
    saved = sum(trial.left for trial in ended if trial.state == "PRUNED")
    total = sum(trial.trained + trial.left for trial in ended)
    spent = sum(trial.trained for trial in ended)
    says = f"{spent} of {total} planned epochs were trained; no trial was pruned."
    if any(trial.state == "PRUNED" for trial in ended):
        says = f"Pruning saved {saved} of {total} planned epochs ({saved / total:.0%})."
    series = [epoch_bars("planned", GREY, [(trial, trial.trained + trial.left) for trial in ended])]
    trained, name = [(trial, trial.trained) for trial in ended], "trained"
    if paused := [trial for trial in ended if trial.first_pause is not None]:
        resumed = [trial for trial in paused if trial.trained > (trial.first_pause or 0)]
        if resumed:
            series.append(epoch_bars("trained after a pause", GREEN, [(one, one.trained) for one in resumed]))
            trained = [(t, n if t.first_pause is None else min(n, t.first_pause)) for t, n in trained]
            name = "trained before"
        says += f" {len(paused)} of {len(ended)} trials paused, and {len(resumed)} of these went on later."
    series.append(epoch_bars(name, BLUE, trained))
    title, size = "Epochs trained and planned", -(-(ended[-1].number + 1) // MAX_BARS)
    if size > 1:
        series = merge_bars(series, size)
        says += f" A bar is the mean of {pluralize(size, 'trial')} in a row."
    return StudyFigure("epochs", Chart(title, "trial", "epochs", series), says)


def epoch_bars(name: str, colour: str, epochs: Sequence[tuple[TrialData, int]]) -> Series:
    numbers = [float(trial.number) for trial, _ in epochs]
    return Series(name, numbers, [float(number) for _, number in epochs], "bars", colour)


def merge_bars(bars: Sequence[Series], size: int) -> list[Series]:
    """Return the bars with one for each `size` numbers of trials: the mean height, in the middle of them.

    The last series has the lowest bars; where an earlier one has none, nothing stands above those.
    """
    merged, heights = list[Series](), dict[float, float]()
    for one in reversed(bars):
        heights |= {float(x): y or 0.0 for x, y in zip(one.x, one.y, strict=True)}
        groups: dict[int, list[float]] = {}
        for number in sorted(heights):
            groups.setdefault(int(number) // size, []).append(heights[number])
        x = [(at + 0.5) * size - 0.5 for at in groups]
        merged.insert(0, replace(one, x=x, y=list(map(fmean, groups.values()))))
    return merged


def plot_failures(study: StudyData) -> StudyFigure:
    kinds = group_failures(study)
    if not kinds:
        return empty_figure("failures", "Failures", "no trial failed")
    bars = Series("", list(kinds), [float(len(trials)) for trials in kinds.values()], "bars", RED)
    says = "; ".join(f"{len(trials)} x {kind}" for kind, trials in kinds.items())
    return StudyFigure("failures", Chart("Failures by kind", "", "trials", [bars]), says)


def group_failures(study: StudyData) -> dict[str, list[TrialData]]:
    """Return the failed trials by the label of their failure, the most frequent first."""
    kinds: dict[str, list[TrialData]] = {}
    for trial in study.of("FAIL"):
        kinds.setdefault(trial.failure.label, []).append(trial)
    return dict(sorted(kinds.items(), key=lambda pair: (-len(pair[1]), pair[0])))
