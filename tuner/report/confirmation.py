"""What a confirmation says: which candidate won, how good it is on other images, and by how much it leads.

Scores of single images are averaged over the runs of a candidate. Two things vary: which images there are, in
groups of those that belong together, and the run.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy.engine import Engine

from tuner.artifacts.optuna_store import TrialArtifacts
from tuner.report.resampling import ImageGroups, bootstrap_means, choose_groups, pooled_variance
from tuner.report.study_data import StudyData, TrialData, read_study
from tuner.report.trial_files import image_groups, image_scores, is_higher_better, read_details
from tuner.study.confirmations import (
    CANDIDATE,
    DEFAULT,
    LookAtTest,
    choose_run,
    find_confirmation,
    read_test_looks,
)
from tuner.study.info import StudyInfo
from tuner.study.verdict import Verdict, judge_trial
from tuner.wording import pluralize

CONFIDENCE = 0.9
Interval = tuple[float, float]


@dataclass(frozen=True)
class ConfirmedCandidate:
    """A candidate and its runs with fresh seeds, by the metric of the goal."""

    name: str
    params: Mapping[str, Any]
    runs: tuple[int, ...]  # numbers of trials
    values: tuple[float, ...]
    searched: float | None = None  # its value in the search, which chose it

    @property
    def mean(self) -> float:
        return fmean(self.values)

    @property
    def spread(self) -> str:
        """The mean with the standard deviation of the runs, as text."""
        if len(self.values) == 1:
            return f"{self.mean:.4f} (1 seed)"
        return f"{self.mean:.4f} ± {stdev(self.values):.4f} ({len(self.values)} seeds)"


@dataclass(frozen=True)
class Lead:
    """By how much the winner leads another candidate in a metric, positive if it is better; `interval` of 90 %."""

    other: str
    by: float
    interval: Interval
    metric: str = ""

    @property
    def is_apart(self) -> bool:
        return self.interval[0] > 0 or self.interval[1] < 0

    def __str__(self) -> str:
        low, high = self.interval
        if not self.is_apart:
            return f"not told apart ({self.metric} {self.by:+.4f}, 90 % interval {low:+.4f} to {high:+.4f})"
        word = "better" if self.by > 0 else "worse"
        near, far = sorted((abs(low), abs(high)))
        return f"{word} by {abs(self.by):.4f} in {self.metric} (90 % interval {near:.4f} to {far:.4f})"


@dataclass(frozen=True)
class Confirmation:
    """The outcome of `tuner confirm`. `best_run` is the run of the winner that is exported."""

    study: StudyInfo  # of the runs
    metric: str
    seeds: int  # of the winner
    candidates: tuple[ConfirmedCandidate, ...]  # those with all seeds first, by their means
    best_run: int
    measured: str = ""  # the name of the score of single images; "" if there are none
    mean: float | None = None  # of these, over images and runs
    interval: Interval | None = None  # of one run on as many other images
    groups: ImageGroups | None = None
    leads: tuple[Lead, ...] = ()  # over the next candidate and the default
    looks: tuple[LookAtTest, ...] = ()  # at the test split
    verdict: Verdict = Verdict()  # what the best run does not find

    @property
    def winner(self) -> ConfirmedCandidate:
        return self.candidates[0]

    @property
    def is_confirmed(self) -> bool:
        """Whether the winner was trained with two seeds or more."""
        return self.seeds > 1

    @property
    def luck(self) -> float | None:
        """By how much the value in the search was better than the mean of the fresh runs; None for the default."""
        if self.winner.searched is None:
            return None
        return (self.winner.searched - self.winner.mean) * (1 if self.study.is_maximized else -1)

    def to_json(self) -> dict[str, Any]:
        return {
            "study": self.study.name,
            "metric": self.metric,
            "winner": self.winner.name,
            "params": dict(self.winner.params),
            "mean": self.winner.mean,
            "values": list(self.winner.values),
            "searched": self.winner.searched,
            "luck": self.luck,
            "trial": self.best_run,
            "images": {"metric": self.measured, "mean": self.mean, "interval_90": self.interval},
            "leads": [vars(lead) | {"apart": lead.is_apart} for lead in self.leads],
            "candidates": [
                {
                    "name": one.name,
                    "params": dict(one.params),
                    "runs": one.runs,
                    "values": one.values,
                    "mean": one.mean,
                }
                for one in self.candidates
            ],
            "test": [vars(look) for look in self.looks],
        }


def read_confirmation(engine: Engine, info: StudyInfo, artifacts: TrialArtifacts) -> Confirmation | None:
    """Return what confirms a study, or what a confirmation says; None while no candidate has a run."""
    confirming = find_confirmation(engine, info)
    if confirming is None:
        return None
    study = read_study(engine, confirming)
    with engine.connect() as db:
        looks = read_test_looks(db, confirming.id)
    return assess_confirmation(study, lambda trial: read_details(trial, artifacts), looks)


def assess_confirmation(study: StudyData, details_of: Any, looks: Sequence[LookAtTest]) -> Confirmation | None:
    """Return the outcome of a study of fresh runs; `details_of` returns the file of numbers of a trial."""
    by_name: dict[str, dict[int, TrialData]] = {}
    for trial in study.finished:
        candidate = trial.notes.get(CANDIDATE)
        if isinstance(candidate, dict):
            by_name.setdefault(str(candidate["name"]), {})[int(trial.notes["repeat"])] = trial
    if not by_name:
        return None
    candidates = sorted(
        (summarize(name, runs) for name, runs in by_name.items()),
        key=lambda one: (-len(one.values), -one.mean if study.maximizes else one.mean, one.name),
    )
    winner = candidates[0]
    best_run = choose_run(by_name[winner.name].values(), study.maximizes)
    found = Confirmation(
        study.info,
        study.metric,
        len(winner.values),
        tuple(candidates),
        best_run.number,
        looks=tuple(looks),
        verdict=judge_trial(study.info.goal, best_run.value, best_run.result),
    )
    rivals = [one.name for one in candidates[1:2]]
    rivals += [DEFAULT] if DEFAULT in by_name and DEFAULT not in (winner.name, *rivals) else []
    scores = {name: read_scores(by_name[name], details_of) for name in (winner.name, *rivals)}
    return add_images(found, rivals, scores, details_of(best_run), by_name)


def summarize(name: str, runs: Mapping[int, TrialData]) -> ConfirmedCandidate:
    ordered = [runs[repeat] for repeat in sorted(runs)]
    return ConfirmedCandidate(
        name,
        ordered[0].params,
        tuple(trial.number for trial in ordered),
        tuple(trial.final_value for trial in ordered),
        ordered[0].notes[CANDIDATE].get("searched"),
    )


def read_scores(runs: Mapping[int, TrialData], details_of: Any) -> dict[int, NDArray[np.float64]]:
    """Return the scores of single images of each run that has them, by its seed."""
    found = {repeat: image_scores(details_of(trial)) for repeat, trial in runs.items()}
    return {repeat: np.asarray(scores, np.float64) for repeat, scores in found.items() if len(scores) > 1}


def add_images(
    found: Confirmation,
    rivals: Sequence[str],
    scores: Mapping[str, Mapping[int, NDArray[np.float64]]],
    details: dict[str, Any],
    by_name: Mapping[str, Mapping[int, TrialData]],
) -> Confirmation:
    """Return the outcome with what the scores of single images say; without scores, by the values of the runs."""
    ours = scores[found.winner.name]
    sizes = {len(one) for some in scores.values() for one in some.values()}
    if not ours or len(sizes) != 1:
        noise, free = pooled_variance([[run.final_value for run in runs.values()] for runs in by_name.values()])
        sign = 1 if found.study.is_maximized else -1
        values = {one.name: one.values for one in found.candidates}
        leads = [lead_by_values(found.winner.values, values[name], name, sign, noise, free) for name in rivals]
        return replace(found, leads=tuple(replace(lead, metric=found.metric) for lead in leads if lead))
    up, measured = is_higher_better(details), str(details.get("metric", "score"))
    average = np.mean(list(ours.values()), axis=0)
    groups = choose_groups(average.tolist(), image_groups(details) or {})
    means = {name: [float(one.mean()) for one in some.values()] for name, some in scores.items()}
    noise, free = pooled_variance([*means.values()])
    own = pooled_variance([means[found.winner.name]]) if len(ours) > 2 else (noise, free)
    interval = None if groups.are_few else widen(average, groups, *own, len(ours))
    leads = [] if groups.are_few else [
        lead_by_images(ours, scores[name], name, groups, 1 if up else -1, noise, free) for name in rivals
    ]  # fmt: skip
    return replace(
        found,
        measured=measured,
        mean=float(average.mean()),
        interval=interval,
        groups=groups,
        leads=tuple(replace(lead, metric=measured) for lead in leads if lead),
    )


def widen(average: NDArray[np.float64], groups: ImageGroups, noise: float, free: int, runs: int) -> Interval:
    """Return where the mean of one run on as many other images lies in 90 % of cases."""
    parts = [(2 * variance_by_images(average, groups), groups.effective - 1), (noise * (1 + 1 / runs), free)]
    half, mean = half_width(parts), float(average.mean())
    low, high = mean - half, mean + half
    is_share = average.min() >= 0 and average.max() <= 1
    return (max(0.0, low), min(1.0, high)) if is_share else (low, high)


def lead_by_images(
    ours: Mapping[int, NDArray[np.float64]],
    theirs: Mapping[int, NDArray[np.float64]],
    other: str,
    groups: ImageGroups,
    sign: int,
    noise: float,
    free: int,
) -> Lead | None:
    """Compare image by image over the seeds that both have."""
    common = sorted(ours.keys() & theirs.keys())
    if not common or not free:
        return None
    apart = sign * np.mean([ours[repeat] - theirs[repeat] for repeat in common], axis=0)
    by = float(apart.mean())
    parts = [(variance_by_images(apart, groups), groups.effective - 1), (2 * noise / len(common), free)]
    half = half_width(parts)
    is_share = all(one.min() >= 0 and one.max() <= 1 for one in (*ours.values(), *theirs.values()))
    most = 1.0 if is_share else math.inf
    return Lead(other, by, (max(by - half, -most), min(by + half, most)))


def lead_by_values(
    ours: Sequence[float], theirs: Sequence[float], other: str, sign: int, noise: float, free: int
) -> Lead | None:
    """Compare the means of the runs, where no scores of single images are kept."""
    if not free:
        return None
    by = sign * (fmean(ours) - fmean(theirs))
    half = half_width([(noise * (1 / len(ours) + 1 / len(theirs)), free)])
    return Lead(other, by, (by - half, by + half))


def variance_by_images(values: NDArray[np.float64], groups: ImageGroups) -> float:
    """Return the variance of the mean over other groups of images."""
    number = max(2.0, groups.effective)
    return float(bootstrap_means(values, groups.labels).var()) * number / (number - 1)


def half_width(parts: Sequence[tuple[float, float]]) -> float:
    """Return half of the interval for a sum of variances, each with its degrees of freedom.

    The degrees of freedom of the sum are those of Welch and Satterthwaite.
    """
    from scipy.special import stdtrit

    known = [(variance, free) for variance, free in parts if variance > 0 and free > 0]
    total = sum(variance for variance, _ in known)
    if not total:
        return 0.0
    free = total**2 / sum(variance**2 / freedom for variance, freedom in known)
    return float(stdtrit(free, 0.5 + CONFIDENCE / 2)) * math.sqrt(total)


def advise_shipping(found: Confirmation) -> str:
    """Return whether to ship the best run of the winner."""
    run = f"trial {found.best_run} of {found.study.name}"
    if not found.is_confirmed:
        return "Not confirmed yet"
    if not found.verdict.is_usable:
        return f"Do not ship {run} yet: {found.verdict.sentence}."
    return f"Ship the confirmed {run}."


def describe_confirmation(found: Confirmation) -> Iterator[str]:
    """Yield the answer, one sentence each: which candidate won, how good it is, and what it is better than."""
    winner = found.winner
    if not found.is_confirmed:
        yield f"Only 1 seed is trained: {winner.name} is ahead, and nothing is confirmed yet."
        return
    yield f"Confirmed: {winner.name}, {found.metric} {winner.spread}, with seeds that the search has not used."
    for lead in found.leads:
        whom = "the default" if lead.other == DEFAULT else f"the next, {lead.other},"
        yield f"Against {whom} it is {lead}."
    if found.luck is not None and winner.searched is not None:
        told = f"The search saw {winner.searched:.4f} for it"
        if found.luck > 0:
            yield f"{told}: {found.luck:.4f} of that was the luck of being chosen."
        else:
            yield f"{told}, no better than the fresh runs."
    if found.interval and found.groups:
        low, high = found.interval
        images = pluralize(len(found.groups.labels), "validation image")
        yield (
            f"On {images} its mean {found.measured.removeprefix('mean ')} is {found.mean:.3f}; one run would have "
            f"{low:.3f} to {high:.3f} on as many others like them (90 %)."
        )
    elif found.groups:
        groups = pluralize(found.groups.count, "group")
        yield f"Its validation images form {groups}, too few to say what others would give."
    if found.looks:
        yield describe_look(found)


def describe_look(found: Confirmation) -> str:
    """Return the score on the test split, and how often it was looked at."""
    look, number = found.looks[-1], len(found.looks)
    score = f"{found.metric} {look.scores[found.metric]:.4f}" if found.metric in look.scores else "scored"
    told = f"On the test split, trial {look.trial} of '{found.study.name}' has {score}"
    if number == 1:
        return f"{told}; it was looked at once, on {look.at[:10]}."
    return f"{told}; this was look {number} at it, so it is no longer untouched."
