"""Curves over the epochs: of single trials, and of groups of trials with a band around their mean."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import cycle

import numpy as np

from tuner.plots.charts import Chart, Series, empty_chart
from tuner.plots.colours import PALETTE
from tuner.plots.labels import explain_short, shorten_names
from tuner.plots.scales import metric_limits, needs_log
from tuner.report.study_data import StudyData, TrialData, format_param
from tuner.wording import pluralize

SPLITS = ("train_", "val_", "test_")
MOST_GROUPS = 8
LONGEST_GROUP = 22  # characters of the name of a group in a legend, which says more about it
BINS = 3  # groups of a number with many values


def add_split(metric: str) -> str:
    """Return the metric with its split; "iou" is that of the validation split."""
    return metric if metric.startswith(SPLITS) else f"val_{metric}"


def metric_title(metric: str) -> str:
    """Return the metric as a title, such as "validation iou"."""
    split, _, name = add_split(metric).partition("_")
    return f"{'validation' if split == 'val' else split} {name}"


def trial_curves(trials: Sequence[TrialData], metric: str, names: Sequence[str]) -> Chart:
    """Return a chart of a metric with a line for each trial."""
    curves = (trial.curve(add_split(metric)) for trial in trials)
    lines = [Series(name, *curve) for name, curve in zip(names, curves, strict=True) if has_values(curve)]
    return metric_chart(metric_title(metric), metric, lines)


def has_values(curve: tuple[list[int], list[float | None]]) -> bool:
    return any(value is not None for value in curve[1])


def metric_chart(title: str, metric: str, lines: Sequence[Series], note: str = "") -> Chart:
    if not lines:
        return empty_chart(title, f"no epoch of these trials has a {metric_title(metric)}")
    is_log = needs_log(metric, [value for line in lines for value in line.y])
    lines = raise_bands(lines) if is_log else lines
    return Chart(title, "epoch", add_split(metric), lines, log_y=is_log, note=note)


def raise_bands(lines: Sequence[Series]) -> list[Series]:
    """Return the lines with bands that end at the lowest positive value of all: a logarithmic axis has no 0."""
    bottom = min(value for line in lines for value in (*line.y, *line.low) if value is not None and value > 0)
    return [replace(line, low=[max(value, bottom) for value in line.low]) for line in lines]


def loss_curves(trials: Sequence[TrialData], names: Sequence[str]) -> Chart:
    """Return a chart of the training loss (dashed) and the validation loss of each trial."""
    lines = []
    for trial, name, colour in zip(trials, names, cycle(PALETTE), strict=False):
        for split in ("train", "val"):
            curve = trial.curve(f"{split}_loss")
            if has_values(curve):
                lines.append(Series(f"{name} {split}", *curve, colour=colour, dashed=split == "train"))
    if not lines:
        return empty_chart("loss", "no epoch of these trials has a loss")
    is_log = needs_log("loss", [value for line in lines for value in line.y])
    return Chart("loss: train (dashed) and validation", "epoch", "loss", lines, log_y=is_log)


TrialGroups = list[tuple[str, list[TrialData]]]


def group_trials(study: StudyData, name: str) -> TrialGroups:
    """Return the trials grouped by the value of a parameter, or in thirds by a number with many values."""
    levels = study.levels(name)
    trials = [trial for trial in trials_with_epochs(study) if name in trial.params]
    if study.is_number(name) and len(levels) > MOST_GROUPS:
        return split_into_thirds(trials, name)
    groups: TrialGroups = [(f"{name}={format_param(level)}", []) for level in levels]
    for trial, at in zip(trials, study.level_indices(name, trials), strict=True):
        groups[at][1].append(trial)
    return [(label, some) for label, some in groups if some]


def trials_with_epochs(study: StudyData) -> list[TrialData]:
    """Return the trials that have an epoch, also pruned ones: as far as they came."""
    return [trial for trial in study.trials if trial.epochs]


def split_finished(trials: Sequence[TrialData]) -> tuple[list[TrialData], list[TrialData]]:
    """Return the finished trials, and the others."""
    done = [trial for trial in trials if trial.state == "COMPLETE"]
    return done, [trial for trial in trials if trial.state != "COMPLETE"]


def split_into_thirds(trials: list[TrialData], name: str) -> TrialGroups:
    ordered = sorted(trials, key=lambda trial: (trial.params[name], trial.number))
    groups = []
    for part in np.array_split(np.arange(len(ordered)), BINS):
        if some := [ordered[at] for at in part]:
            first, last = some[0].params[name], some[-1].params[name]
            groups.append((f"{name}={format_param(first)} to {format_param(last)}", some))
    return groups


def group_curves(groups: TrialGroups, metric: str, title: str = "") -> Chart:
    """Return a chart of the mean of each group over the epochs that half of it reached, with a band.

    Trials that did not finish are a dashed line of the same colour, as far as they came.
    """
    lines, states = list[Series](), dict[str, None]()
    short = shorten_names([label for label, _ in groups[:MOST_GROUPS]], LONGEST_GROUP)
    for (full, trials), colour in zip(groups[:MOST_GROUPS], cycle(PALETTE), strict=False):
        label, (done, early) = short[full], split_finished(trials)
        if one := mean_series(label, done, add_split(metric)):
            lines.append(replace(one, colour=colour))
        if one := mean_series(f"{label}, not finished", early, add_split(metric)):
            lines.append(replace(one, colour=colour, dashed=True, low=(), high=()))
            states |= dict.fromkeys(trial.state_word for trial in early)
    many = len(groups) > MOST_GROUPS
    note = f"Mean of each of the first {MOST_GROUPS} of {len(groups)} groups" if many else "Mean of each group"
    note += "; the band is one standard deviation of its trials." if any(one.low for one in lines) else "."
    if states:
        note += f" Dashed: trials that did not finish ({', '.join(states)}), as far as they came."
    if told := explain_short(short):
        note = f"{note} In full: {told}."
    chart = metric_chart(title or metric_title(metric), metric, lines, note)
    is_cut = any(list(shown.low) != list(one.low) for shown, one in zip(chart.series, lines, strict=False))
    return replace(chart, note=f"{note} Bands are cut off at the lowest value.") if is_cut else chart


def mean_series(label: str, trials: Iterable[TrialData], name: str) -> Series | None:
    """Return the mean of a group and its deviation while at least half of it trains, None without a value.

    Later epochs are omitted, because a mean of the few longest trials is of another group.
    """
    by_epoch: dict[int, list[float]] = {}
    number = 0
    for trial in trials:
        curve = trial.curve(name)
        number += has_values(curve)
        for epoch, value in zip(*curve, strict=True):
            if value is not None:
                by_epoch.setdefault(epoch, []).append(value)
    epochs = [epoch for epoch in sorted(by_epoch) if 2 * len(by_epoch[epoch]) >= number]
    if not epochs:
        return None
    values = [by_epoch[epoch] for epoch in epochs]
    mean = np.array(list(map(np.mean, values)))
    if number == 1:
        return Series(f"{label} (1 trial)", epochs, mean.tolist())
    spread = np.array([np.std(some, ddof=1) if len(some) > 1 else 0.0 for some in values])
    floor, ceiling = metric_limits(name, map(min, values))
    low, high = np.maximum(mean - spread, floor).tolist(), np.minimum(mean + spread, ceiling).tolist()
    return Series(f"{label} ({pluralize(number, 'trial')})", epochs, mean.tolist(), low=low, high=high)
