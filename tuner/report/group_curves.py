"""Curves over the epochs: of single trials, and of groups of trials with a band around their mean."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from tuner.plots.charts import PALETTE, Chart, Series, empty_chart
from tuner.report.study_data import StudyData, TrialData, finite, format_param

SPLITS = ("train_", "val_", "test_")
MOST_GROUPS = 8
BINS = 3  # groups of a number with many values


def add_split(metric: str) -> str:
    """Return the metric with its split; "iou" is that of the validation split."""
    return metric if metric.startswith(SPLITS) else f"val_{metric}"


def metric_title(metric: str) -> str:
    """Return the metric as a title, such as "validation iou"."""
    split, _, name = add_split(metric).partition("_")
    return f"{'validation' if split == 'val' else split} {name}"


def trial_curves(trials: Sequence[TrialData], metric: str, names: Sequence[str] = ()) -> Chart:
    """Return a chart of a metric with a line for each trial."""
    names = names or [f"trial {trial.number}" for trial in trials]
    title = metric_title(metric)
    lines = []
    for trial, name in zip(trials, names, strict=True):
        epochs, values = trial.curve(add_split(metric))
        if any(value is not None for value in values):
            lines.append(Series(name, epochs, values))
    if not lines:
        return empty_chart(title, f"no epoch of these trials has a {title}")
    return Chart(title, "epoch", add_split(metric), lines)


def loss_curves(trials: Sequence[TrialData], names: Sequence[str] = ()) -> Chart:
    """Return a chart of the training loss (dashed) and the validation loss of each trial."""
    names = names or [f"trial {trial.number}" for trial in trials]
    lines = []
    for at, (trial, name) in enumerate(zip(trials, names, strict=True)):
        for split, dashed in (("train", True), ("val", False)):
            epochs, values = trial.curve(f"{split}_loss")
            if any(value is not None for value in values):
                colour = PALETTE[at % len(PALETTE)]
                lines.append(Series(f"{name} {split}", epochs, values, colour=colour, dashed=dashed))
    if not lines:
        return empty_chart("loss", "no epoch of these trials has a loss")
    return Chart("loss: train (dashed) and validation", "epoch", "loss", lines)


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
    """Return the finished trials, or all that have epochs if none has finished."""
    done = [trial for trial in study.trials if trial.state == "COMPLETE" and trial.epochs]
    return done or [trial for trial in study.trials if trial.epochs]


def split_into_thirds(trials: list[TrialData], name: str) -> TrialGroups:
    ordered = sorted(trials, key=lambda trial: (trial.params[name], trial.number))
    groups = []
    for part in np.array_split(np.arange(len(ordered)), BINS):
        if some := [ordered[at] for at in part]:
            first, last = some[0].params[name], some[-1].params[name]
            groups.append((f"{name}={format_param(first)} to {format_param(last)}", some))
    return groups


def group_curves(groups: TrialGroups, metric: str, title: str = "") -> Chart:
    """Return a chart of the mean of each group over the epochs that half of it reached, with a band."""
    title = title or metric_title(metric)
    series = (mean_series(label, trials, add_split(metric)) for label, trials in groups[:MOST_GROUPS])
    lines = [one for one in series if one]
    if not lines:
        return empty_chart(title, f"no epoch of these trials has a {metric_title(metric)}")
    note = "Mean of each group; the band is one standard deviation of its trials."
    return Chart(title, "epoch", add_split(metric), lines, note=note)


def mean_series(label: str, trials: Iterable[TrialData], name: str) -> Series | None:
    """Return the mean of a group and its deviation while at least half of it trains, None without a value.

    Later epochs are omitted, because a mean of the few longest trials is of another group.
    """
    by_epoch: dict[int, list[float]] = {}
    number = 0
    for trial in trials:
        known = [(e, v) for e, v in zip(*trial.curve(name), strict=True) if finite(v) is not None]
        number += bool(known)
        for epoch, value in known:
            by_epoch.setdefault(epoch, []).append(value or 0.0)
    epochs = [epoch for epoch in sorted(by_epoch) if 2 * len(by_epoch[epoch]) >= number]
    if not epochs:
        return None
    mean = [float(np.mean(by_epoch[epoch])) for epoch in epochs]
    spread = [float(np.std(by_epoch[epoch], ddof=1)) if len(by_epoch[epoch]) > 1 else 0.0 for epoch in epochs]
    low = [m - s for m, s in zip(mean, spread, strict=True)] if number > 1 else []
    high = [m + s for m, s in zip(mean, spread, strict=True)] if number > 1 else []
    return Series(f"{label} ({number} trial{'s' if number != 1 else ''})", epochs, mean, low=low, high=high)
