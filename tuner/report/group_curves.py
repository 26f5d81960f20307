"""Curves over the epochs: of single trials, and of groups of trials with a band about their mean."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from tuner.plots.charts import PALETTE, Chart, Series, empty_chart
from tuner.report.study_data import StudyData, TrialData, finite, format_param

SPLITS = ("train_", "val_", "test_")
MOST_GROUPS = 8
BINS = 3  # of a number that takes many values


def add_split(metric: str) -> str:
    """A metric as the epochs have it: "iou" is that of the validation split."""
    return metric if metric.startswith(SPLITS) else f"val_{metric}"


def metric_title(metric: str) -> str:
    """'validation iou'."""
    split, _, name = add_split(metric).partition("_")
    return f"{'validation' if split == 'val' else split} {name}"


def trial_curves(trials: Sequence[TrialData], metric: str, names: Sequence[str] = ()) -> Chart:
    """One line for each trial, its best epoch where the validation line is highest."""
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
    """Training loss (dashed) and validation loss of several trials over one pair of axes."""
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


def group_trials(story: StudyData, name: str) -> TrialGroups:
    """The trials by a parameter's value; of a number with many values, by thirds of the trials."""
    levels = story.levels(name)
    mine = [trial for trial in trials_with_epochs(story) if name in trial.params]
    if story.is_number(name) and len(levels) > MOST_GROUPS:
        return split_into_thirds(mine, name)
    by = [(f"{name}={format_param(level)}", [t for t in mine if same(t.params[name], level)]) for level in levels]
    return [(label, trials) for label, trials in by if trials]


def same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and one == other


def trials_with_epochs(story: StudyData) -> list[TrialData]:
    """The trials that trained to their end; where there are none, all that have epochs."""
    done = [trial for trial in story.trials if trial.state == "COMPLETE" and trial.epochs]
    return done or [trial for trial in story.trials if trial.epochs]


def split_into_thirds(trials: list[TrialData], name: str) -> TrialGroups:
    ordered = sorted(trials, key=lambda trial: (trial.params[name], trial.number))
    parts = (
        [list(part) for part in np.array_split(np.arange(len(ordered)), min(BINS, len(ordered)))]
        if ordered
        else []
    )
    found = []
    for part in parts:
        some = [ordered[int(at)] for at in part]
        first, last = some[0].params[name], some[-1].params[name]
        found.append((f"{name}={format_param(first)} to {format_param(last)}", some))
    return found


def group_curves(made: TrialGroups, metric: str, title: str = "") -> Chart:
    """The mean of each group over the epochs that all of it reached, in a band of a standard deviation."""
    title = title or metric_title(metric)
    lines = [
        line for label, trials in made[:MOST_GROUPS] if (line := mean_series(label, trials, add_split(metric)))
    ]
    if not lines:
        return empty_chart(title, f"no epoch of these trials has a {metric_title(metric)}")
    note = "Mean of each group; the band is one standard deviation of its trials."
    return Chart(title, "epoch", add_split(metric), lines, note=note)


def mean_series(label: str, trials: Iterable[TrialData], name: str) -> Series | None:
    """While more than half of the group still trains: a mean of the few that last says something else."""
    at: dict[int, list[float]] = {}
    number = 0
    for trial in trials:
        known = [(e, v) for e, v in zip(*trial.curve(name), strict=True) if finite(v) is not None]
        number += bool(known)
        for epoch, value in known:
            at.setdefault(epoch, []).append(value or 0.0)
    epochs = [epoch for epoch in sorted(at) if 2 * len(at[epoch]) >= number]
    if not epochs:
        return None
    mean = [float(np.mean(at[epoch])) for epoch in epochs]
    apart = [float(np.std(at[epoch], ddof=1)) if len(at[epoch]) > 1 else 0.0 for epoch in epochs]
    low = [m - s for m, s in zip(mean, apart, strict=True)] if number > 1 else []
    high = [m + s for m, s in zip(mean, apart, strict=True)] if number > 1 else []
    return Series(f"{label} ({number} trial{'s' if number != 1 else ''})", epochs, mean, low=low, high=high)
