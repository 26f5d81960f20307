"""Curves over the epochs: of single trials, and of groups of trials with a band about their mean."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from tuner.plots.charts import PALETTE, Chart, Series, no_numbers
from tuner.report.study_data import Story, Told, finite, show

SPLITS = ("train_", "val_", "test_")
MOST_GROUPS = 8
BINS = 3  # of a number that takes many values


def named(metric: str) -> str:
    """A metric as the epochs have it: "iou" is that of the validation split."""
    return metric if metric.startswith(SPLITS) else f"val_{metric}"


def in_words(metric: str) -> str:
    """'validation iou'."""
    split, _, name = named(metric).partition("_")
    return f"{'validation' if split == 'val' else split} {name}"


def curves(trials: Sequence[Told], metric: str, names: Sequence[str] = ()) -> Chart:
    """One line for each trial, its best epoch where the validation line is highest."""
    names = names or [f"trial {trial.number}" for trial in trials]
    title = in_words(metric)
    lines = []
    for trial, name in zip(trials, names, strict=True):
        epochs, values = trial.curve(named(metric))
        if any(value is not None for value in values):
            lines.append(Series(name, epochs, values))
    if not lines:
        return no_numbers(title, f"no epoch of these trials has a {title}")
    return Chart(title, "epoch", named(metric), lines)


def losses(trials: Sequence[Told], names: Sequence[str] = ()) -> Chart:
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
        return no_numbers("loss", "no epoch of these trials has a loss")
    return Chart("loss: train (dashed) and validation", "epoch", "loss", lines)


Groups = list[tuple[str, list[Told]]]


def groups(story: Story, name: str) -> Groups:
    """The trials by a parameter's value; of a number with many values, by thirds of the trials."""
    levels = story.levels(name)
    mine = [trial for trial in usable(story) if name in trial.params]
    if story.is_number(name) and len(levels) > MOST_GROUPS:
        return thirds(mine, name)
    by = [(f"{name}={show(level)}", [t for t in mine if same(t.params[name], level)]) for level in levels]
    return [(label, trials) for label, trials in by if trials]


def same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and one == other


def usable(story: Story) -> list[Told]:
    """The trials that trained to their end; where there are none, all that have epochs."""
    done = [trial for trial in story.trials if trial.state == "COMPLETE" and trial.epochs]
    return done or [trial for trial in story.trials if trial.epochs]


def thirds(trials: list[Told], name: str) -> Groups:
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
        found.append((f"{name}={show(first)} to {show(last)}", some))
    return found


def banded(made: Groups, metric: str, title: str = "") -> Chart:
    """The mean of each group over the epochs that all of it reached, in a band of a standard deviation."""
    title = title or in_words(metric)
    lines = [line for label, trials in made[:MOST_GROUPS] if (line := mean_line(label, trials, named(metric)))]
    if not lines:
        return no_numbers(title, f"no epoch of these trials has a {in_words(metric)}")
    note = "Mean of each group; the band is one standard deviation of its trials."
    return Chart(title, "epoch", named(metric), lines, note=note)


def mean_line(label: str, trials: Iterable[Told], name: str) -> Series | None:
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
