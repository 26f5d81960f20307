"""Trials beside each other: of one study or of several, one by one or in groups by a parameter."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.engine import Engine

from tuner.errors import StudyError, did_you_mean, format_names
from tuner.plots.charts import Chart
from tuner.report.certainty import share_ahead
from tuner.report.group_curves import add_split, group_curves, group_trials, loss_curves, trial_curves
from tuner.report.study_data import StudyData, TrialData, finite, format_param, read_study
from tuner.report.trial_files import is_higher_better, paired_scores
from tuner.study import queries
from tuner.study.info import StudyInfo
from tuner.tasks import MINIMIZED_METRICS

FEWEST = 2


@dataclass(frozen=True)
class ComparedTrial:
    """A trial as it was asked for, with its study where there is more than one."""

    name: str
    story: StudyData
    trial: TrialData


@dataclass(frozen=True)
class TrialComparison:
    """Trials beside each other, by a metric.

    `wins` holds, for each, the share of the validation images on which it is better than the first, and the
    share of the draws in which its mean is; None where that is not known.
    """

    metric: str
    sides: tuple[ComparedTrial, ...]
    wins: tuple[tuple[float, float] | None, ...]


def compare_trials(engine: Engine, names: Sequence[str], study: str | None, metric: str | None) -> TrialComparison:
    """The trials named "3" or "STUDY#3". StudyError for one that is not there."""
    if len(set(names)) < FEWEST:
        raise StudyError("give two trials or more to compare, such as: tuner compare 3 7; or --by PARAMETER")
    infos = queries.read_studies(engine)
    own = queries.find_study(engine, study)
    stories: dict[str, StudyData] = {}
    sides = []
    for name in dict.fromkeys(names):
        of, number = parse_trial_name(name, own, infos)
        if of.name not in stories:
            stories[of.name] = read_study(engine, of)
        sides.append(ComparedTrial(name, stories[of.name], find_trial(stories[of.name], number, name)))
    if len(stories) > 1:
        sides = [ComparedTrial(f"{one.story.info.name}#{one.trial.number}", one.story, one.trial) for one in sides]
    else:
        sides = [ComparedTrial(f"trial {one.trial.number}", one.story, one.trial) for one in sides]
    return TrialComparison(
        resolve_metric([one.trial for one in sides], metric or sides[0].story.metric), tuple(sides), ()
    )


def parse_trial_name(name: str, own: StudyInfo, infos: Sequence[StudyInfo]) -> tuple[StudyInfo, int]:
    """The study and the number that a name such as "3", "#3" or "STUDY#3" is of."""
    study, _, number = name.rpartition("#")
    if not number.isascii() or not number.isdecimal():
        raise StudyError(f"'{name}' is no trial. Write its number, such as 3, or STUDY#3 for another study's.")
    if not study:
        return own, int(number)
    for info in infos:
        if info.name == study:
            return info, int(number)
    names = [info.name for info in infos]
    raise StudyError(f"no study '{study}'.{did_you_mean(study, names)} Known: {', '.join(names)}.")


def find_trial(story: StudyData, number: int, name: str) -> TrialData:
    for trial in story.trials:
        if trial.number == number:
            if not trial.epochs:
                raise StudyError(
                    f"trial {name} has no epoch yet ({trial.state.lower()}); there is nothing to compare."
                )
            return trial
    known = format_names((str(trial.number) for trial in story.trials), 12) or "none yet"
    raise StudyError(f"study '{story.info.name}' has no trial {number}. It has: {known}.")


def resolve_metric(trials: Sequence[TrialData], metric: str) -> str:
    """The metric with its split; StudyError where no epoch of these trials has it."""
    known = sorted(
        {key for trial in trials for row in trial.epochs for key in row if key.startswith(("train_", "val_"))}
    )
    wanted = add_split(metric)
    if wanted not in known:
        bare = sorted({key.partition("_")[2] for key in known})
        listed = ", ".join(bare) or "none"
        raise StudyError(
            f"no metric '{metric}'.{did_you_mean(metric, [*bare, *known])} "
            f"Known: {listed}; train_... for training."
        )
    return wanted


def add_wins(found: TrialComparison, details: Mapping[str, dict[str, Any]]) -> TrialComparison:
    """The same, judged image by image against the first; `details` by the name of each side."""
    first = details.get(found.sides[0].name, {})
    wins = []
    for side in found.sides:
        other = side.story.info.data == found.sides[0].story.info.data and side is not found.sides[0]
        scores = paired_scores(details.get(side.name, {}), first) if other else None
        wins.append(image_wins(*scores, is_higher_better(first)) if scores else None)
    return TrialComparison(found.metric, found.sides, tuple(wins))


def image_wins(theirs: Sequence[float], ours: Sequence[float], up: bool) -> tuple[float, float]:
    """On which share of the images, and in which share of the draws, they are better; an equal one counts half."""
    better = [0.5 if a == b else float((a > b) == up) for a, b in zip(theirs, ours, strict=True)]
    return statistics.fmean(better), share_ahead(theirs, ours, up)


def best_metric(trial: TrialData, metric: str) -> float | None:
    """A metric at the trial's best epoch; of one that has not ended, at its last."""
    row = trial.at_best or (trial.epochs[-1] if trial.epochs else {})
    return finite(row.get(metric))


def differing_params(sides: Sequence[ComparedTrial]) -> list[str]:
    """The parameters that are not the same in all."""
    names = dict.fromkeys(name for side in sides for name in side.trial.params)
    absent = object()
    return [name for name in names if len({repr(side.trial.params.get(name, absent)) for side in sides}) > 1]


def trial_rows(found: TrialComparison) -> list[dict[str, Any]]:
    """A line for each trial, as plain JSON."""
    names = differing_params(found.sides)
    wins = found.wins or (None,) * len(found.sides)
    return [
        {
            "trial": side.name,
            "study": side.story.info.name,
            "number": side.trial.number,
            "state": side.trial.state,
            found.metric: best_metric(side.trial, found.metric),
            "best_epoch": side.trial.best_epoch or None,
            "epochs": len(side.trial.epochs),
            "seconds": side.trial.seconds,
            "params": {name: side.trial.params.get(name) for name in names},
            "better_images": win and win[0],
            "ahead": win and win[1],
        }
        for side, win in zip(found.sides, wins, strict=True)
    ]


def trial_charts(found: TrialComparison) -> list[Chart]:
    """The metric of each, and training and validation loss over one pair of axes."""
    trials, names = [side.trial for side in found.sides], [side.name for side in found.sides]
    return [trial_curves(trials, found.metric, names), loss_curves(trials, names)]


@dataclass(frozen=True)
class GroupComparison:
    """The trials of a study in groups by a parameter."""

    story: StudyData
    parameter: str
    metric: str
    made: tuple[tuple[str, tuple[TrialData, ...]], ...]


def compare_groups(engine: Engine, parameter: str, study: str | None, metric: str | None) -> GroupComparison:
    story = read_study(engine, queries.find_study(engine, study))
    if parameter not in story.names:
        known = ", ".join(story.names) or "none"
        close = did_you_mean(parameter, story.names)
        raise StudyError(f"study '{story.info.name}' has no parameter '{parameter}'.{close} Known: {known}.")
    made = group_trials(story, parameter)
    if not made:
        raise StudyError(f"no trial of study '{story.info.name}' has an epoch yet; there is nothing to compare.")
    everyone = [trial for _, trials in made for trial in trials]
    wanted = resolve_metric(everyone, metric or story.metric)
    return GroupComparison(story, parameter, wanted, tuple((label, tuple(trials)) for label, trials in made))


def group_rows(found: GroupComparison) -> list[dict[str, Any]]:
    lines = []
    for label, trials in found.made:
        values = [value for trial in trials if (value := best_metric(trial, found.metric)) is not None]
        best = (min if is_less_better(found) else max)(values, default=None)
        lines.append(
            {
                "group": label,
                "trials": len(trials),
                "numbers": [trial.number for trial in trials],
                "mean": statistics.fmean(values) if values else None,
                "deviation": statistics.stdev(values) if len(values) > 1 else None,
                "best": best,
                "epochs": statistics.fmean(len(trial.epochs) for trial in trials),
                "seconds": statistics.fmean(trial.seconds for trial in trials),
            }
        )
    return lines


def is_less_better(found: GroupComparison) -> bool:
    bare = found.metric.partition("_")[2]
    return not found.story.maximizes if bare == found.story.metric else bare in MINIMIZED_METRICS


def group_charts(found: GroupComparison) -> list[Chart]:
    made = [(label, list(trials)) for label, trials in found.made]
    shown = [group_curves(made, found.metric)]
    return [*shown, *(group_curves(made, name) for name in ("train_loss", "val_loss") if name != found.metric)]


HEADS = {"epochs": "epochs run"}  # a parameter is mostly named epochs


def text_rows(lines: Sequence[dict[str, Any]], params: Sequence[str]) -> list[dict[str, str]]:
    """The lines as text, without what no line has."""
    shown: list[dict[str, str]] = []
    for line in lines:
        plain = {k: v for k, v in line.items() if k not in ("params", "study", "number", "numbers")}
        shown.append(
            {HEADS.get(k, k): format_cell(v) for k, v in plain.items()}
            | {name: format_cell(line["params"].get(name)) for name in params}
        )
    kept = [name for name in (shown[0] if shown else {}) if any(row[name] != "-" for row in shown)]
    return [{name: row[name] for name in kept} for row in shown]


def format_cell(value: Any) -> str:
    return "-" if value is None else f"{value:.4g}" if isinstance(value, float) else format_param(value)
