"""Compare trials of one or several studies with each other, or groups of trials by a parameter."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy.engine import Engine

from tuner.artifacts.optuna_store import TrialArtifacts
from tuner.errors import StudyError, did_you_mean, format_names, printable
from tuner.plots.charts import Chart
from tuner.recipe import parse_whole
from tuner.report.group_curves import (
    TrialGroups,
    add_split,
    group_curves,
    group_trials,
    loss_curves,
    split_finished,
    trial_curves,
)
from tuner.report.resampling import share_ahead
from tuner.report.study_data import StudyData, TrialData, finite, format_param, read_study
from tuner.report.trial_files import draw_groups, is_higher_better, paired_scores, read_details
from tuner.study import queries
from tuner.tasks import MINIMIZED_METRICS


@dataclass(frozen=True)
class ComparedTrial:
    """A trial of a comparison; its name includes the study if there are several."""

    name: str
    study: StudyData
    trial: TrialData


@dataclass(frozen=True)
class Wins:
    """The share of the validation images on which a trial is better than the first one of a comparison.

    `ahead` is the share of the bootstrap draws in which its mean is, None if the images are too few to tell, which
    `unknown` says in words.
    """

    images: float
    ahead: float | None = None
    unknown: str = ""


@dataclass(frozen=True)
class TrialComparison:
    """Trials compared by a metric; `wins` are those of each trial, None without scores of single images."""

    metric: str
    sides: tuple[ComparedTrial, ...]
    wins: tuple[Wins | None, ...]

    @property
    def note(self) -> str:
        """Return why the share of the draws is not given, "" if it is."""
        return next((win.unknown for win in self.wins if win and win.unknown), "")


def compare_trials(
    engine: Engine, names: Sequence[str], study_name: str | None, metric: str | None, artifacts: TrialArtifacts
) -> TrialComparison:
    """Compare the trials with names such as "3" or "STUDY#3"; StudyError for an unknown one."""
    if len(set(names)) < 2:
        raise StudyError("give two trials or more to compare, such as 3 7, or --by PARAMETER.")
    own = queries.find_study(engine, study_name)
    studies: dict[str, StudyData] = {}
    sides = []
    for name in dict.fromkeys(names):
        other, number = parse_trial_name(name)
        info = queries.find_study(engine, other) if other else own
        study = studies.get(info.name) or read_study(engine, info)
        studies[info.name] = study
        sides.append(ComparedTrial(f"trial {number}", study, find_trial(study, number, name)))
    if len(studies) > 1:
        sides = [replace(side, name=f"{side.study.info.name}#{side.trial.number}") for side in sides]
    wanted = resolve_metric([side.trial for side in sides], metric or sides[0].study.metric)
    return TrialComparison(wanted, tuple(sides), count_wins(sides, artifacts))


def parse_trial_name(name: str) -> tuple[str, int]:
    """Return the study, "" if not given, and the number of a trial from a name such as "3", "#3" or "STUDY#3"."""
    study, _, number = name.rpartition("#")
    if (found := parse_whole(number)) is None:
        raise StudyError(
            f"'{printable(name)}' is not a trial. Give its number, such as 3, or STUDY#3 for a trial of another "
            "study."
        )
    return study, found


def find_trial(study: StudyData, number: int, name: str) -> TrialData:
    trial = next((trial for trial in study.trials if trial.number == number), None)
    if trial is None:
        known = format_names((str(trial.number) for trial in study.trials), 12) or "none yet"
        raise StudyError(f"study '{study.info.name}' has no trial {number}. It has: {known}.")
    if not trial.epochs:
        raise StudyError(f"trial {name} has no epoch yet ({trial.state.lower()}); there is nothing to compare.")
    return trial


def resolve_metric(trials: Sequence[TrialData], metric: str) -> str:
    """Return the metric with its split; StudyError if no epoch of the trials has it."""
    keys = {key for trial in trials for row in trial.epochs for key in row}
    known = sorted(key for key in keys if key.startswith(("train_", "val_")))
    wanted = add_split(metric)
    if wanted not in known:
        bare = sorted({key.partition("_")[2] for key in known})
        close, listed = did_you_mean(metric, [*bare, *known]), ", ".join(bare) or "none"
        raise StudyError(f"no metric '{metric}'.{close} Known: {listed}; train_... for training.")
    return wanted


def count_wins(sides: Sequence[ComparedTrial], artifacts: TrialArtifacts) -> tuple[Wins | None, ...]:
    """Return `TrialComparison.wins`, from the scores of single images that the trials of the same data have."""
    first, *others = sides
    details = read_details(first.trial, artifacts)
    wins: list[Wins | None] = [None]
    for side in others:
        is_same_data = side.study.info.data == first.study.info.data
        wins.append(image_wins(read_details(side.trial, artifacts), details) if is_same_data else None)
    return tuple(wins)


def image_wins(theirs: dict[str, Any], ours: dict[str, Any]) -> Wins | None:
    """Return on how many of the images, drawn in the groups of ours, they are better; equal ones count half."""
    scores, groups, up = paired_scores(theirs, ours), draw_groups(ours), is_higher_better(ours)
    if scores is None or groups is None:
        return None
    better = statistics.fmean(0.5 if a == b else float((a > b) == up) for a, b in zip(*scores, strict=True))
    if groups.are_few:
        return Wins(better, unknown=f"{groups.describe_few()}, too few to say which trial others would prefer")
    return Wins(better, share_ahead(*scores, groups, up))


def best_metric(trial: TrialData, metric: str) -> float | None:
    """Return a metric at the best epoch of a trial, at the last epoch of one that still trains."""
    row = trial.at_best or (trial.epochs[-1] if trial.epochs else {})
    return finite(row.get(metric))


def differing_params(sides: Sequence[ComparedTrial]) -> list[str]:
    names = dict.fromkeys(name for side in sides for name in side.trial.params)
    absent = object()
    return [name for name in names if len({repr(side.trial.params.get(name, absent)) for side in sides}) > 1]


def trial_rows(comparison: TrialComparison) -> list[dict[str, Any]]:
    """Return a row for each trial, as plain JSON."""
    names = differing_params(comparison.sides)
    return [
        {
            "trial": side.name,
            "study": side.study.info.name,
            "number": side.trial.number,
            "state": side.trial.state,
            comparison.metric: best_metric(side.trial, comparison.metric),
            "best_epoch": side.trial.best_epoch or None,
            "epochs": len(side.trial.epochs),
            "seconds": side.trial.seconds,
            "params": {name: side.trial.params.get(name) for name in names},
            "better_images": win and win.images,
            "ahead": win and win.ahead,
            "ahead_unknown": (win and win.unknown) or None,
        }
        for side, win in zip(comparison.sides, comparison.wins, strict=True)
    ]


def trial_charts(comparison: TrialComparison) -> list[Chart]:
    """Return a chart of the metric, and one of training and validation loss."""
    trials, names = [side.trial for side in comparison.sides], [side.name for side in comparison.sides]
    return [trial_curves(trials, comparison.metric, names), loss_curves(trials, names)]


@dataclass(frozen=True)
class GroupComparison:
    """The trials of a study in groups by a parameter: the label and the trials of each group."""

    study: StudyData
    parameter: str
    metric: str
    groups: TrialGroups


def compare_groups(engine: Engine, parameter: str, study_name: str | None, metric: str | None) -> GroupComparison:
    study = read_study(engine, queries.find_study(engine, study_name))
    if parameter not in study.names:
        known = ", ".join(study.names) or "none"
        close = did_you_mean(parameter, study.names)
        raise StudyError(f"study '{study.info.name}' has no parameter '{parameter}'.{close} Known: {known}.")
    groups = group_trials(study, parameter)
    if not groups:
        raise StudyError(f"no trial of study '{study.info.name}' has an epoch yet; there is nothing to compare.")
    wanted = resolve_metric([trial for _, trials in groups for trial in trials], metric or study.metric)
    return GroupComparison(study, parameter, wanted, groups)


def group_rows(comparison: GroupComparison) -> list[dict[str, Any]]:
    """Return a row for each group: mean and best of its finished trials, and the mean of all at one epoch.

    That is the last epoch which all ended trials have reached; it is left out where all have finished.
    """
    lines = []
    best_of = min if is_less_better(comparison) else max
    every = [trial for _, trials in comparison.groups for trial in trials]
    at_epoch = 0 if all(trial.state == "COMPLETE" for trial in every) else common_epoch(every)
    for label, trials in comparison.groups:
        done, early = split_finished(trials)
        values = [value for trial in done if (value := best_metric(trial, comparison.metric)) is not None]
        reached = [
            value for trial in trials if (value := metric_at(trial, comparison.metric, at_epoch)) is not None
        ]
        lines.append(
            {
                "group": label,
                "trials": len(trials),
                "finished": len(done) if at_epoch else None,
                "not_finished": count_states(early) or None,
                "numbers": [trial.number for trial in trials],
                "mean": statistics.fmean(values) if values else None,
                "deviation": statistics.stdev(values) if len(values) > 1 else None,
                "best": best_of(values, default=None),
                "at_epoch": at_epoch or None,
                "mean_at_epoch": statistics.fmean(reached) if reached else None,
                "epochs": statistics.fmean(len(trial.epochs) for trial in trials),
                "seconds": statistics.fmean(trial.seconds for trial in trials),
            }
        )
    return lines


def common_epoch(trials: Sequence[TrialData]) -> int:
    """Return the last epoch that all ended trials have reached; that all have, if none has ended."""
    ended = [trial for trial in trials if trial.state in ("COMPLETE", "PRUNED")]
    return min(trial.epochs[-1]["epoch"] for trial in ended or trials)


def metric_at(trial: TrialData, metric: str, epoch: int) -> float | None:
    """Return a metric at an epoch, or at the last one before with a value; None if the trial did not reach it."""
    if not epoch or trial.epochs[-1]["epoch"] < epoch:
        return None
    values = (finite(row.get(metric)) for row in reversed(trial.epochs) if row["epoch"] <= epoch)
    return next((value for value in values if value is not None), None)


def count_states(trials: Sequence[TrialData]) -> str:
    """Return the number of trials in each state, such as "3 pruned, 1 failed"."""
    states = Counter(trial.state_word for trial in trials)
    return ", ".join(f"{number} {word}" for word, number in states.items())


def is_less_better(comparison: GroupComparison) -> bool:
    bare = comparison.metric.partition("_")[2]
    return not comparison.study.maximizes if bare == comparison.study.metric else bare in MINIMIZED_METRICS


def group_charts(comparison: GroupComparison) -> list[Chart]:
    metrics = dict.fromkeys([comparison.metric, "train_loss", "val_loss"])
    return [group_curves(comparison.groups, metric) for metric in metrics]


OMITTED = ("params", "study", "number", "numbers", "at_epoch", "ahead_unknown")
HEADINGS = {"epochs": "epochs run"}  # a parameter often has the name epochs


def text_rows(lines: Sequence[dict[str, Any]], params: Sequence[str]) -> list[dict[str, str]]:
    """Return the rows as text, without columns that no row has."""
    texts: list[dict[str, str]] = []
    for line in lines:
        headings = HEADINGS | {"mean_at_epoch": f"mean at epoch {line.get('at_epoch')}"}
        plain = {headings.get(name, name): value for name, value in line.items() if name not in OMITTED}
        plain |= {name: line["params"].get(name) for name in params}
        texts.append({name: "-" if value is None else format_param(value) for name, value in plain.items()})
    columns = [name for name in (texts[0] if texts else {}) if any(row[name] != "-" for row in texts)]
    return [{name: row[name] for name in columns} for row in texts]
