"""How certain the best trial is: over the validation images, over seeds, and over the choice itself."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tuner.artifacts.optuna_store import TrialArtifacts
from tuner.report.on_demand import DETAILS
from tuner.report.study_data import StudyData, TrialData, format_param, join_numbers
from tuner.report.trial_files import image_scores, is_higher_better, paired_scores, read_details

DRAWS = 4000  # of the bootstrap
MOST_DRAWN = 2000  # images, for a bootstrap; beyond, a normal distribution
SURE = 0.95  # share of the draws in which a trial must be ahead
RIVALS = 9  # next best trials that are compared with the best
CHEAPER = 0.8  # of the training time of the best: a trial below is preferred
CLOSE = 0.02  # of the best value: a cheaper trial must be this near
LAST = 8  # epochs whose jitter is measured
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
    """How certain the best trial is. `sigma` is the standard deviation of a value by chance alone."""

    best: int
    seen: float
    measured: str = ""  # name of the score of single images
    mean: float | None = None
    interval: tuple[float, float] | None = None
    images: int = 0
    rivals: tuple[Rival, ...] = ()
    tied: tuple[int, ...] = ()
    cheaper: int | None = None
    seeds: tuple[SeedGroup, ...] = ()
    runs: SeedGroup | None = None  # of the parameters of the best trial
    sigma: float | None = None
    sigma_from: str = ""
    contenders: int = 1
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
    sigma, origin = estimate_noise(study, repeated)
    judged = [compare_with_best(best, other, details, sigma) for other in study.finished[1 : RIVALS + 1]]
    rivals = tuple(rival for rival in judged if rival is not None)
    tied = tuple(rival.number for rival in rivals if rival.ahead < SURE)
    scores = image_scores(details.get(best.number, {}))
    number = count_contenders(study, sigma)
    lost = (sigma or 0.0) * expected_maximum(number)
    expected = None if sigma is None else best.final_value - lost * (1 if study.maximizes else -1)
    runs = next((one for one in repeated if best.number in one.numbers), None)
    return Certainty(
        best=best.number,
        seen=best.final_value,
        measured=str(details.get(best.number, {}).get("metric", "score")) if scores else "",
        mean=float(np.mean(scores)) if scores else None,
        interval=confidence_interval(scores) if len(scores) > 1 else None,
        images=len(scores),
        rivals=rivals,
        tied=tied,
        cheaper=find_cheaper(study, tied),
        seeds=repeated,
        sigma=sigma,
        sigma_from=origin,
        contenders=number,
        optimism=lost,
        runs=runs,
        expected=runs.mean if runs else expected,
        test=best.test.get(study.metric),
        missing=tuple(list_missing(best, scores, sigma, repeated)),
    )


def list_missing(
    best: TrialData, scores: Sequence[float], sigma: float | None, repeated: Sequence[SeedGroup]
) -> list[str]:
    missing = []
    if not scores:
        lost = f"{DETAILS} of trial {best.number} is gone, damaged or without scores"
        why = lost if DETAILS in best.files else "no scores of single validation images were kept"
        missing.append(f"{why}, so nothing is said of other images")
    if not repeated:
        missing.append("no parameters were trained twice, so how much a run changes with its seed is not known")
    if sigma is None:
        missing.append("too few epochs to say how much the values jitter")
    return missing


@lru_cache(maxsize=1)
def bootstrap_counts(number: int) -> NDArray[np.float32]:
    """Return how often each image is in each draw; reproducible."""
    counts = np.random.default_rng(0).multinomial(number, np.full(number, 1 / number), size=DRAWS)
    return counts.astype(np.float32)


def bootstrap_means(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean in each draw. Of many images it is normal, and their draws would take gigabytes."""
    number = len(values)
    if number <= MOST_DRAWN:
        return bootstrap_counts(number) @ values / number
    chance = np.random.default_rng(0).standard_normal(DRAWS)
    return float(values.mean()) + float(values.std()) / math.sqrt(number) * chance


def confidence_interval(scores: Sequence[float]) -> tuple[float, float]:
    """Return the interval of the mean in 95 % of the draws."""
    means = bootstrap_means(np.asarray(scores, np.float64))
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def share_ahead(ours: Sequence[float], theirs: Sequence[float], maximizes: bool = True) -> float:
    """Return the share of the draws in which our mean is better; equal means count half."""
    lead = bootstrap_means(np.asarray(ours, np.float64) - np.asarray(theirs, np.float64))
    lead = lead if maximizes else -lead
    return float(np.mean(lead > 1e-12) + 0.5 * np.mean(np.abs(lead) <= 1e-12))


def compare_with_best(best: TrialData, other: TrialData, details: Details, sigma: float | None) -> Rival | None:
    """Compare by the scores of images if both have them, else by the noise; None if neither is known."""
    here, there = details.get(best.number, {}), details.get(other.number, {})
    if scores := paired_scores(here, there):
        return Rival(other.number, share_ahead(*scores, is_higher_better(here)), True)
    if sigma is None:
        return None
    gap = abs(best.final_value - other.final_value)
    share = 0.5 if gap == 0 else 1.0 if sigma == 0 else 0.5 * (1 + math.erf(gap / (2 * sigma)))
    return Rival(other.number, share, False)


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
        by.setdefault(json.dumps(trial.params, sort_keys=True, default=str), []).append(trial)
    groups = [summarize_runs(trials) for trials in by.values() if len(trials) > 1]
    groups.sort(key=lambda one: (-one.mean if study.maximizes else one.mean, one.numbers))
    return tuple(replace(one, overlaps=one is not groups[0] and is_overlapping(one, groups[0])) for one in groups)


def summarize_runs(trials: Sequence[TrialData]) -> SeedGroup:
    values = [trial.final_value for trial in trials]
    numbers = tuple(sorted(trial.number for trial in trials))
    return SeedGroup(trials[0].params, numbers, float(np.mean(values)), float(np.std(values, ddof=1)), False)


def is_overlapping(one: SeedGroup, other: SeedGroup) -> bool:
    return abs(one.mean - other.mean) <= one.deviation + other.deviation


def estimate_noise(study: StudyData, repeated: Sequence[SeedGroup]) -> tuple[float | None, str]:
    """Return the standard deviation of a value by chance and its origin, None if it is not known.

    Of repeated parameters the better half counts, because poor ones vary far more from run to run.
    """
    if repeated:
        better = repeated[: max(1, -(-len(repeated) // 2))]
        parts = [((len(one.numbers) - 1) * one.deviation**2, len(one.numbers) - 1) for one in better]
        pooled = math.sqrt(sum(square for square, _ in parts) / sum(free for _, free in parts))
        return pooled, "runs of the same parameters"
    found = [epoch_jitter(trial.curve(f"val_{study.metric}")[1]) for trial in study.finished[:RIVALS]]
    jitters = [jitter for jitter in found if jitter is not None]
    return (float(np.median(jitters)), "the jitter of the last epochs") if jitters else (None, "")


def epoch_jitter(values: Sequence[float | None]) -> float | None:
    """Return the deviation of the last values from the mean of their neighbours, None for too few."""
    known = np.array([value for value in values if value is not None][-LAST:])
    if len(known) < 4:
        return None
    # 0 on a straight line; their variance is 1.5 times that of the values
    residuals = known[1:-1] - (known[:-2] + known[2:]) / 2
    return float(np.sqrt(np.mean(residuals**2) / 1.5))


def count_contenders(study: StudyData, sigma: float | None) -> int:
    """Return the number of trials, with the best, so near to the best that chance may have chosen among them."""
    return 1 if sigma is None else len(find_near(study, 2 * math.sqrt(2) * sigma))


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
    """Return the conclusions for the reader, one sentence each."""
    return [
        f"Ship trial {certainty.ship}.",
        *describe_rivals(certainty),
        *describe_interval(certainty),
        *describe_seeds(certainty),
        *describe_expectation(certainty),
    ]


def describe_rivals(certainty: Certainty) -> list[str]:
    best, by_images = certainty.best, any(rival.by_images for rival in certainty.rivals)
    if certainty.tied:
        how = "the validation images" if by_images else "the noise between runs"
        tied = f"trial{'s' * (len(certainty.tied) > 1)} {join_numbers(certainty.tied)}"
        sentences = [f"By {how}, trial {best} cannot be told apart from {tied}."]
        if certainty.cheaper is not None:
            sentences.append(f"So prefer the cheaper one, trial {certainty.cheaper}: it trains clearly faster.")
        return sentences
    if not certainty.rivals:
        return []
    least, number = min(rival.ahead for rival in certainty.rivals), len(certainty.rivals)
    others = f"each of the next {number}" if number > 1 else "the next one"
    if by_images:
        return [f"It stays ahead of {others} in {format_share(least)} of the draws of validation images."]
    return [f"It leads {others} by more than the noise between runs."]


def describe_interval(certainty: Certainty) -> list[str]:
    if not certainty.interval or certainty.mean is None:
        return []
    low, high = certainty.interval
    its = "its" if certainty.cheaper is None else f"trial {certainty.best}'s"  # the numbers are those of the best
    mean = f"{its} mean {certainty.measured.removeprefix('mean ')} is {certainty.mean:.3f}"
    others = f"on as many others like them it would lie between {low:.3f} and {high:.3f} (95 %)"
    return [f"On {certainty.images} validation images {mean}; {others}."]


def describe_seeds(certainty: Certainty) -> list[str]:
    if not certainty.seeds:
        return []
    first, *others = certainty.seeds
    best = f"those of trials {join_numbers(first.numbers)} are best on average: {first}"
    sentences = [f"Of the parameters trained more than once, {best}."]
    if overlapping := [number for one in others if one.overlaps for number in one.numbers]:
        sentences.append(f"Trials {join_numbers(overlapping)} overlap with them.")
    return sentences


def describe_expectation(certainty: Certainty) -> list[str]:
    """Return what to expect on new images, and the value on the test images."""
    sentences, is_best = [], certainty.cheaper is None
    if certainty.expected is not None and (certainty.runs or certainty.optimism > 0):
        why = f"the best of {certainty.contenders} near equals looks better than it is"
        if certainty.runs:
            why = f"so much its parameters give on average over {len(certainty.runs.numbers)} runs"
        seen = f"{format_param(certainty.seen)} seen{'' if is_best else f', by trial {certainty.best}'}"
        sentences.append(f"Expect about {certainty.expected:.3f} on new images ({seen}): {why}.")
    if certainty.test is not None:
        which = "it" if is_best else f"trial {certainty.best}"
        sentences.append(f"On the test images, which no choice was made by, {which} has {certainty.test:.4f}.")
    return sentences
