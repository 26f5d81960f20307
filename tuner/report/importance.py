"""How much of the differences between the values of a study each parameter explains, with its uncertainty.

One answer for the report, the note and the panel of the dashboard. Nothing is claimed that shuffled values show
too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tuner.report.study_data import StudyData, TrialData, finite
from tuner.report.variance import Share, explain_variance
from tuner.wording import pluralize

FEWEST = 6  # trials, for shares to be computed
FEWEST_GAINS = 3  # finished trials that show what is gained after an epoch
Counted = list[tuple[TrialData, float]]  # trials with their values


@dataclass(frozen=True)
class Importances:
    """The shares of the varied parameters, those that count first; `reason` says why there are none.

    `rivals` are parameters of which it cannot be told whether they matter as much as the first.
    """

    shares: tuple[Share, ...] = ()
    rivals: tuple[str, ...] = ()
    finished: int = 0
    pruned: int = 0
    paused: int = 0
    reason: str = ""

    @property
    def told(self) -> list[Share]:
        """Return the shares that are larger than chance gives."""
        return [one for one in self.shares if one.is_told]

    @property
    def names(self) -> list[str]:
        return [one.name for one in self.shares]

    @property
    def count(self) -> str:
        """Return the trials that were counted, as text."""
        early = [(number, word) for number, word in ((self.pruned, "pruned"), (self.paused, "paused")) if number]
        *others, (number, word) = [(self.finished, "finished"), *early]
        return join_words([*(f"{one} {state}" for one, state in others), pluralize(number, f"{word} trial")])


def param_importances(study: StudyData, metric: str = "") -> Importances:
    """Return what each varied parameter explains of the goal, or of the further goal `metric`.

    Parameters that only some of the trials have cannot be compared with the others and are omitted.
    """
    further = metric and metric != study.metric
    counted = further_values(study, metric) if further else comparable_values(study)
    finished = sum(trial.state == "COMPLETE" for trial, _ in counted)
    paused = sum(trial.paused_at is not None for trial, _ in counted)
    pruned = len(counted) - finished - paused
    if len(counted) < FEWEST:
        few = f"{pluralize(len(counted), 'trial')} with a value: too few to say which parameter matters"
        return Importances((), (), finished, pruned, paused, f"{few}; {FEWEST} are needed")
    trials = [trial for trial, _ in counted]
    columns = {name: found for name in study.varied if (found := describe_column(study, name, trials)) is not None}
    if not columns:
        none = Importances((), (), finished, pruned, paused)
        why = f"no parameter that all {none.count} have was varied among them"
        return replace(
            none, reason=why if any(trial.params for trial in trials) else "the trials have no parameters"
        )
    if len({value for _, value in counted}) == 1:
        same = f"all {Importances((), (), finished, pruned, paused).count} have the same {metric or study.metric}"
        return Importances((), (), finished, pruned, paused, f"{same}, so there are no differences to explain")
    shares, rivals = explain_variance(np.array([value for _, value in counted]), columns)
    return Importances(tuple(shares), tuple(rivals), finished, pruned, paused)


def further_values(study: StudyData, metric: str) -> Counted:
    return [(trial, trial.values[metric]) for trial in study.finished if metric in trial.values]


def comparable_values(study: StudyData) -> Counted:
    """Return the finished trials with their values, and the pruned and paused ones as far as they came.

    Such a trial has the value it reached, plus what the finished trials gained from its last epoch on in the
    median. It is omitted where fewer than three of these show that, or it lacks a parameter that they have.
    """
    counted = [(trial, trial.final_value) for trial in study.finished]
    curves = [best_so_far(trial, study) for trial in study.finished]
    common = study.common_params(study.varied)
    for trial in study.of("PRUNED"):
        epochs, reached = len(trial.epochs), trial.reached(study.metric)
        if reached is None or not epochs or any(name not in trial.params for name in common):
            continue
        gains = [
            one.final_value - curve[epochs - 1]
            for one, curve in zip(study.finished, curves, strict=True)
            if len(curve) >= epochs and math.isfinite(curve[epochs - 1])
        ]
        if len(gains) >= FEWEST_GAINS:
            counted.append((trial, reached + float(np.median(gains))))
    return sorted(counted, key=lambda pair: pair[0].number)


def best_so_far(trial: TrialData, study: StudyData) -> NDArray[np.float64]:
    """Return the best value up to each epoch, NaN before the first one that is known."""
    values = [finite(row.get(f"val_{study.metric}")) for row in trial.epochs]
    known = np.array([math.nan if value is None else value for value in values], np.float64)
    return np.fmax.accumulate(known) if study.maximizes else np.fmin.accumulate(known)


def describe_column(study: StudyData, name: str, trials: Sequence[TrialData]) -> NDArray[np.float64] | None:
    """Return a parameter as columns: a number and its square, on its scale, or a column for each choice.

    None if some of the trials lack it or all have the same value.
    """
    if any(name not in trial.params for trial in trials):
        return None
    if not study.is_number(name):
        levels = study.level_indices(name, trials)
        column = np.eye(max(levels) + 1)[levels]
        return column[:, column.any(axis=0)] if len(set(levels)) > 1 else None
    plain = np.array([float(trial.params[name]) for trial in trials])
    number = np.log(plain) if study.is_log(name) else plain
    if not np.isfinite(number).all() or np.ptp(number) == 0:
        return None
    scaled = (number - number.mean()) / number.std()
    return np.stack([scaled, scaled**2], axis=1)


def describe_importance(found: Importances) -> str:
    """Return which parameters matter, as far as it can be told from the trials."""
    if found.reason:
        return found.reason[0].upper() + found.reason[1:] + "."
    if not found.told:
        return (
            f"From {found.count} no parameter can be told to matter: what each explains of the differences "
            "between their values is no more than chance gives."
        )
    first, *others = found.told
    of = f"of the differences between the values of {found.count}"
    rivals = [one for one in found.shares if one.name in found.rivals]
    if not rivals:
        sentences = [f"{first.name} matters most: it explains {format_interval(first)} {of}."]
    elif all(one.is_told for one in rivals):
        parts = join_words([f"{one.name} explains {format_interval(one)}" for one in (first, *rivals)])
        sentences = [f"Which matters most cannot be told: {parts} {of}."]
    else:
        parts = join_words([f"{one.name} explains {one.alone:.0%}" for one in (first, *rivals)])
        sentences = [f"Which of these matters cannot be told, because they varied together: alone, {parts} {of}."]
    if more := [f"{one.name} explains {format_interval(one)}" for one in others if one not in rivals]:
        sentences.append(f"Beyond that, {join_words(more)}.")
    unknown = [one.name for one in found.shares if not one.is_told and one not in rivals]
    if unknown:
        sentences.append(f"Of {join_words(unknown)} no effect can be told from chance.")
    return " ".join(sentences)


def format_interval(one: Share) -> str:
    return f"{one.share:.0%} ({one.low:.0%} to {one.high:.0%})"


def join_words(words: Sequence[str]) -> str:
    *others, last = words
    return f"{', '.join(others)} and {last}" if others else last
