"""How certain the best trial is: over the validation images, over seeds, and over the choice itself.

Nothing is said of luck without noise that was measured: runs of the same parameters.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np

from tuner.artifacts.optuna_store import TrialArtifacts
from tuner.report.on_demand import DETAILS
from tuner.report.resampling import ImageGroups, predict_interval, share_ahead
from tuner.report.study_data import StudyData, TrialData, format_param, join_numbers
from tuner.report.trial_files import (
    draw_groups,
    image_groups,
    image_scores,
    is_higher_better,
    paired_scores,
    read_details,
)
from tuner.wording import pluralize

SURE = 0.95  # share of the draws in which a trial must be ahead
RIVALS = 9  # next best trials that are compared with the best
CHEAPER = 0.8  # of the training time of the best: a trial below is preferred
CLOSE = 0.02  # of the best value: a cheaper trial must be this near
Details = Mapping[int, dict[str, Any]]  # by trial number


@dataclass(frozen=True)
class Rival:
    """Another trial, and the share of the bootstrap draws of the images in which the best stays ahead of it."""

    number: int
    ahead: float
    by_images: bool  # False: from the noise between runs alone


@dataclass(frozen=True)
class SeedGroup:
    """The runs of the same parameters."""

    params: dict[str, Any]
    numbers: tuple[int, ...]
    mean: float
    deviation: float
    overlaps: bool  # with the best group, within a deviation of each

    def __str__(self) -> str:
        return f"{self.mean:.4f} ± {self.deviation:.4f} ({len(self.numbers)} runs)"


@dataclass(frozen=True)
class Certainty:
    """How certain the best trial is.

    `sigma` is the standard deviation of a value between runs of the same parameters, `reach` what two such runs
    differ by at most in 95 of 100 cases; both are None if no parameters were trained twice.
    """

    best: int
    seen: float
    metric: str = "value"
    measured: str = ""  # name of the score of single images
    mean: float | None = None
    interval: tuple[float, float] | None = None
    images: int = 0
    groups: ImageGroups | None = None  # of the images
    rivals: tuple[Rival, ...] = ()
    tied: tuple[int, ...] = ()
    cheaper: int | None = None
    seeds: tuple[SeedGroup, ...] = ()
    runs: SeedGroup | None = None  # of the parameters of the best trial
    sigma: float | None = None
    reach: float | None = None
    contenders: int = 1
    is_only: bool = False  # no other trial has finished
    optimism: float = 0.0
    expected: float | None = None
    test: float | None = None
    missing: tuple[str, ...] = ()

    @property
    def ship(self) -> int:
        """Return the number of the trial to use."""
        return self.best if self.cheaper is None else self.cheaper


def read_top_details(study: StudyData, artifacts: TrialArtifacts) -> Details:
    """Return the details of the best trial and of its rivals."""
    return {trial.number: read_details(trial, artifacts) for trial in study.finished[: RIVALS + 1]}


def assess_certainty(study: StudyData, details: Details) -> Certainty | None:
    """Return how certain the best trial is, None while no trial has finished."""
    best = study.best
    if best is None:
        return None
    repeated = group_by_params(study)
    sigma, reach = estimate_noise(repeated)
    scores = image_scores(details.get(best.number, {}))
    groups = draw_groups(details.get(best.number, {}))
    judged = [compare_with_best(best, other, details, reach, groups) for other in study.finished[1 : RIVALS + 1]]
    rivals = tuple(rival for rival in judged if rival is not None)
    tied = tuple(rival.number for rival in rivals if rival.ahead < SURE)
    number = count_contenders(study, reach)
    lost = (sigma or 0.0) * expected_maximum(number)
    expected = None if sigma is None else best.final_value - lost * (1 if study.maximizes else -1)
    runs = next((one for one in repeated if best.number in one.numbers), None)
    return Certainty(
        best=best.number,
        seen=best.final_value,
        metric=study.metric,
        measured=str(details.get(best.number, {}).get("metric", "score")) if scores else "",
        mean=float(np.mean(scores)) if scores else None,
        interval=predict_interval(scores, groups) if groups and not groups.are_few else None,
        images=len(scores),
        groups=groups,
        rivals=rivals,
        tied=tied,
        cheaper=find_cheaper(study, tied),
        seeds=repeated,
        sigma=sigma,
        reach=reach,
        contenders=number,
        is_only=len(study.finished) == 1,
        optimism=lost,
        runs=runs,
        expected=runs.mean if runs else expected,
        test=best.test.get(study.metric),
        missing=tuple(list_missing(study, best, details.get(best.number, {}), groups, repeated)),
    )


def list_missing(
    study: StudyData,
    best: TrialData,
    details: dict[str, Any],
    groups: ImageGroups | None,
    repeated: Sequence[SeedGroup],
) -> list[str]:
    missing = []
    if not image_scores(details):
        lost = f"{DETAILS} of trial {best.number} is gone, damaged or without scores"
        why = lost if DETAILS in best.files else "no scores of single validation images were kept"
        missing.append(f"{why}, so nothing is said of other images")
    elif groups and groups.are_few:
        few = groups.describe_few()
        missing.append(f"{few}, too few to say what other images would give or which trial they would prefer")
    elif image_groups(details) is None:
        missing.append("which validation images belong together was not recorded, so each counts as independent")
    if not repeated:
        missing.append(describe_unrepeated(study))
    return missing


def describe_unrepeated(study: StudyData) -> str:
    """Return why the noise between runs is not known: no repeats, or none that were trained to their end."""
    known: dict[str, list[TrialData]] = {}
    for trial in study.of("COMPLETE", "PRUNED"):
        if trial.curve(f"val_{study.metric}")[0]:
            known.setdefault(params_key(trial), []).append(trial)
    runs = max(known.values(), key=len, default=[])
    end = "so how much a run changes with its seed is not known"
    if len(runs) < 2:
        return f"no parameters were trained twice, {end}"
    epoch = min(len(trial.epochs) for trial in runs)
    values = [value for trial in runs if (value := trial.curve(f"val_{study.metric}")[1][epoch - 1]) is not None]
    spread = (
        f"; after epoch {epoch}, their {study.metric} was {min(values):.4f} to {max(values):.4f}" if values else ""
    )
    alike = f"trials {join_numbers([trial.number for trial in runs])} have the same parameters{spread}"
    return f"{alike}, but fewer than two of them were trained to the end, {end}"


def params_key(trial: TrialData) -> str:
    return json.dumps(trial.params, sort_keys=True, default=str)


def compare_with_best(
    best: TrialData, other: TrialData, details: Details, reach: float | None, groups: ImageGroups | None
) -> Rival | None:
    """Compare by the scores of images if both have them, else by the noise; None if neither is known."""
    here, there = details.get(best.number, {}), details.get(other.number, {})
    if groups and not groups.are_few and (scores := paired_scores(here, there)):
        return Rival(other.number, share_ahead(*scores, groups, is_higher_better(here)), True)
    if not reach:
        return None
    return Rival(other.number, share_beyond_noise(abs(best.final_value - other.final_value), reach), False)


def share_beyond_noise(gap: float, reach: float) -> float:
    """Return the share of repeats of both trials in which the one that leads by `gap` would lead again."""
    return 0.5 * (1 + math.erf(1.96 * gap / reach / math.sqrt(2))) if reach else float(gap > 0)


def find_cheaper(study: StudyData, tied: Sequence[int]) -> int | None:
    """Return the tied trial that trains fastest, if clearly faster than the best, else None.

    Its value must also be near the best one, because few images distinguish hardly any trials.
    """
    best = study.finished[0]
    near = [trial for trial in find_near(study, CLOSE * abs(best.final_value)) if trial.number in tied]
    faster = [trial for trial in near if 0 < trial.seconds < CHEAPER * best.seconds]
    least = min(faster, key=lambda trial: (trial.seconds, trial.number), default=None)
    return least.number if least else None


def find_near(study: StudyData, reach: float) -> list[TrialData]:
    """Return the trials, with the best, whose values differ from the best one by at most `reach`."""
    best = study.finished[0].final_value
    return [trial for trial in study.finished if abs(trial.final_value - best) <= reach]


def group_by_params(study: StudyData) -> tuple[SeedGroup, ...]:
    """Return a group for all parameters that were trained more than once, the best mean first."""
    by: dict[str, list[TrialData]] = {}
    for trial in study.finished:
        by.setdefault(params_key(trial), []).append(trial)
    groups = [summarize_runs(trials) for trials in by.values() if len(trials) > 1]
    groups.sort(key=lambda one: (-one.mean if study.maximizes else one.mean, one.numbers))
    return tuple(replace(one, overlaps=one is not groups[0] and is_overlapping(one, groups[0])) for one in groups)


def summarize_runs(trials: Sequence[TrialData]) -> SeedGroup:
    values = [trial.final_value for trial in trials]
    numbers = tuple(sorted(trial.number for trial in trials))
    return SeedGroup(trials[0].params, numbers, float(np.mean(values)), float(np.std(values, ddof=1)), False)


def is_overlapping(one: SeedGroup, other: SeedGroup) -> bool:
    return abs(one.mean - other.mean) <= one.deviation + other.deviation


def estimate_noise(repeated: Sequence[SeedGroup]) -> tuple[float | None, float | None]:
    """Return the deviation of a value between runs, and what two runs differ by at most in 95 of 100 cases.

    Of repeated parameters the better half counts, because poor ones vary far more from run to run. Both are None
    without any. A deviation from few runs is itself uncertain, which Student's distribution takes into account.
    """
    from scipy.special import stdtrit

    if not repeated:
        return None, None
    better = better_half(repeated)
    free = sum(len(one.numbers) - 1 for one in better)
    sigma = math.sqrt(sum((len(one.numbers) - 1) * one.deviation**2 for one in better) / free)
    return sigma, float(stdtrit(free, 0.975)) * math.sqrt(2) * sigma


def better_half(repeated: Sequence[SeedGroup]) -> Sequence[SeedGroup]:
    return repeated[: -(-len(repeated) // 2)]


def count_contenders(study: StudyData, reach: float | None) -> int:
    """Return the number of trials, with the best, that it does not lead by more than the noise between runs."""
    if reach is None:
        return 1
    best = study.finished[0].final_value
    return sum(share_beyond_noise(abs(best - trial.final_value), reach) < SURE for trial in study.finished)


@cache
def expected_maximum(number: int) -> float:
    """Return the expected maximum of draws from a normal distribution, in deviations: 0 of one, 2.25 of fifty."""
    if number < 2:
        return 0.0
    x = np.linspace(-8, 8, 8001)
    below = np.array([0.5 * (1 + math.erf(at / math.sqrt(2))) for at in x])
    return float(np.sum(x * np.diff(below**number, prepend=0.0)))


def format_share(part: float) -> str:
    """Return a share of draws as text; never 0 or 100 %, because no number of draws makes it certain."""
    return "over 99%" if part > 0.99 else "under 1%" if part < 0.01 else f"{part:.0%}"


def describe_certainty(certainty: Certainty) -> list[str]:
    """Return how certain the choice of the best trial is, one sentence each."""
    return [
        *describe_rivals(certainty),
        *describe_interval(certainty),
        *describe_seeds(certainty),
        *describe_expectation(certainty),
    ]


def describe_rivals(certainty: Certainty) -> list[str]:
    """Return from which trials the best cannot be told apart, else which it leads, by what each was judged by."""
    best, measured = certainty.best, certainty.measured
    by_images = sorted(one.number for one in certainty.rivals if one.by_images)
    if certainty.tied:
        sentences = []
        for how, tied in (
            (f"the {measured} of the validation images", [at for at in certainty.tied if at in by_images]),
            ("the noise between runs", [at for at in certainty.tied if at not in by_images]),
        ):
            if tied:
                sentences.append(f"By {how}, trial {best} cannot be told apart from {name_trials(tied)}.")
        if certainty.cheaper is not None:
            sentences.append(f"So prefer the cheaper one, trial {certainty.cheaper}: it trains clearly faster.")
        return sentences
    sentences = []
    if by_images:
        least = format_share(min(one.ahead for one in certainty.rivals if one.by_images))
        least += " or more" if len(by_images) > 1 and "over" not in least else ""
        images = f"of the draws of validation images, by their {measured}"
        sentences.append(f"It stays ahead of {name_trials(by_images, 'each of ')} in {least} {images}.")
    if by_noise := sorted(one.number for one in certainty.rivals if not one.by_images):
        runs = [one for one in better_half(certainty.seeds) if one.deviation]
        few = ", as far as 2 runs show it" if [len(one.numbers) for one in runs] == [2] else ""
        sentences.append(f"It leads {name_trials(by_noise, 'each of ')} by more than the noise between runs{few}.")
    return sentences


def name_trials(numbers: Sequence[int], each: str = "") -> str:
    return f"{each}trials {join_numbers(numbers)}" if len(numbers) > 1 else f"trial {numbers[0]}"


def describe_interval(certainty: Certainty) -> list[str]:
    """Return the mean over the images, and where it lies on others; nothing of others if they are too few."""
    groups = certainty.groups
    if groups is None or certainty.mean is None:
        return []
    its = "its" if certainty.cheaper is None else f"trial {certainty.best}'s"  # the numbers are those of the best
    mean = f"{its} mean {certainty.measured.removeprefix('mean ')} is {certainty.mean:.3f}"
    if not certainty.interval:
        return [f"On {pluralize(certainty.images, 'validation image')} {mean}."]
    low, high = certainty.interval
    others = f"it would lie between {low:.3f} and {high:.3f} (95 %)"
    if not groups.found_by:
        return [f"On {certainty.images} validation images {mean}; on as many others like them {others}."]
    images = f"{certainty.images} validation images in {groups.count} groups, by {groups.found_by},"
    return [f"On {images} {mean}; on as many other groups like them {others}."]


def describe_seeds(certainty: Certainty) -> list[str]:
    if not certainty.seeds:
        return []
    first, *others = certainty.seeds
    if not others:
        return [f"Trials {join_numbers(first.numbers)} have the same parameters: {certainty.metric} {first}."]
    best = f"those of trials {join_numbers(first.numbers)} are best on average: {certainty.metric} {first}"
    sentences = [f"Of the parameters trained more than once, {best}."]
    if overlapping := [number for one in others if one.overlaps for number in one.numbers]:
        sentences.append(f"Trials {join_numbers(overlapping)} overlap with them.")
    return sentences


def describe_expectation(certainty: Certainty) -> list[str]:
    """Return what to expect from another run, and the value on the test images."""
    sentences, is_best = [], certainty.cheaper is None
    if certainty.expected is not None and (certainty.runs or certainty.optimism > 0):
        why = f"the best of {pluralize(certainty.contenders, 'near equal')} looks better than it is"
        if certainty.runs:
            why = f"so much its parameters give on average over {len(certainty.runs.numbers)} runs"
        seen = f"{format_param(certainty.seen)} seen{'' if is_best else f', by trial {certainty.best}'}"
        what = f"{certainty.metric} of about {certainty.expected:.3f}"
        sentences.append(f"From another run expect {what} ({seen}): {why}.")
    if certainty.test is not None:
        which = "it" if is_best else f"trial {certainty.best}"
        has = f"{which} has {certainty.metric} {certainty.test:.4f}"
        sentences.append(f"On the test images, which no choice was made by, {has}.")
    return sentences
