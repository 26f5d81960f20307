"""How sure one may be of the best trial: over the validation images, over seeds, and over the choice itself."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tuner.report.on_demand import DETAILS
from tuner.report.study_data import StudyData, TrialData, format_param, join_numbers
from tuner.report.trial_files import image_scores, is_higher_better, paired_scores

DRAWS = 4000  # of a bootstrap
MOST_DRAWN = 2000  # images that are drawn one by one
SURE = 0.95  # of the draws: ahead in so many, it is ahead
RIVALS = 9  # the next best that are compared with the best
CHEAPER = 0.8  # of the best one's time: worth preferring
CLOSE = 0.02  # of the best value: near enough to be preferred for its cost
LAST = 8  # epochs whose jitter is looked at
Details = Mapping[int, dict[str, Any]]  # by the trial's number


@dataclass(frozen=True)
class Rival:
    """How often the best stays ahead of another trial, if the validation images are drawn anew."""

    number: int
    ahead: float
    by_images: bool  # False: judged by the noise between runs alone


@dataclass(frozen=True)
class SeedGroup:
    """Runs of the same parameters."""

    params: dict[str, Any]
    numbers: tuple[int, ...]
    mean: float
    deviation: float
    overlaps: bool  # with the best of them, within a deviation of each

    def __str__(self) -> str:
        return f"{self.mean:.4f} ± {self.deviation:.4f} ({len(self.numbers)} runs)"


@dataclass(frozen=True)
class Certainty:
    """What is known of the best trial's standing. `sigma` is how much a value changes by chance alone."""

    best: int
    seen: float
    measured: str = ""  # the score of single images that the bootstrap is of
    mean: float | None = None
    interval: tuple[float, float] | None = None
    images: int = 0
    rivals: tuple[Rival, ...] = ()
    tied: tuple[int, ...] = ()
    cheaper: int | None = None
    seeds: tuple[SeedGroup, ...] = ()
    runs: SeedGroup | None = None  # those of the best one's parameters
    sigma: float | None = None
    sigma_from: str = ""
    contenders: int = 1
    optimism: float = 0.0
    expected: float | None = None
    test: float | None = None
    missing: tuple[str, ...] = ()

    @property
    def ship(self) -> int:
        """The trial to use."""
        return self.best if self.cheaper is None else self.cheaper


def assess_certainty(story: StudyData, details: Details) -> Certainty | None:
    """All of it, from what there is; None while no trial has finished."""
    best = story.best
    if best is None or best.value is None:
        return None
    repeated = group_by_params(story)
    sigma, origin = estimate_noise(story, repeated)
    judged = [compare_with_best(best, other, details, sigma) for other in story.finished[1 : RIVALS + 1]]
    rivals = tuple(rival for rival in judged if rival is not None)
    tied = tuple(rival.number for rival in rivals if rival.ahead < SURE)
    scores = image_scores(details.get(best.number, {}))
    number = count_contenders(story, sigma)
    lost = (sigma or 0.0) * expected_maximum(number)
    runs = next((one for one in repeated if best.number in one.numbers), None)
    test = best.result.get("test")
    return Certainty(
        best=best.number,
        seen=best.value,
        measured=str(details.get(best.number, {}).get("metric", "score")) if scores else "",
        mean=float(np.mean(scores)) if scores else None,
        interval=confidence_interval(scores) if len(scores) > 1 else None,
        images=len(scores),
        rivals=rivals,
        tied=tied,
        cheaper=find_cheaper(story, tied),
        seeds=repeated,
        sigma=sigma,
        sigma_from=origin,
        contenders=number,
        optimism=lost,
        runs=runs,
        expected=runs.mean
        if runs
        else None
        if sigma is None
        else best.value - lost * (1 if story.maximizes else -1),
        test=test.get(story.metric) if isinstance(test, dict) else None,
        missing=tuple(list_missing(best, scores, sigma, repeated)),
    )


def list_missing(
    best: TrialData, scores: Sequence[float], sigma: float | None, repeated: Sequence[SeedGroup]
) -> list[str]:
    found = []
    if not scores:
        lost = f"{DETAILS} of trial {best.number} is gone, damaged or without scores"
        why = lost if DETAILS in best.files else "no scores of single validation images were kept"
        found.append(f"{why}, so nothing is said of other images")
    if not repeated:
        found.append("no parameters were trained twice, so how much a run changes with its seed is not known")
    if sigma is None:
        found.append("too few epochs to say how much the values jitter")
    return found


@lru_cache(maxsize=1)
def bootstrap_counts(number: int) -> NDArray[np.float32]:
    """How often each of so many images is in each draw; the same every time."""
    counts = np.random.default_rng(0).multinomial(number, np.full(number, 1 / number), size=DRAWS)
    return counts.astype(np.float32)


def bootstrap_means(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean in each draw. Of many images it is normal, and the draws would take gigabytes."""
    number = len(values)
    if number <= MOST_DRAWN:
        return bootstrap_counts(number) @ values / number
    chance = np.random.default_rng(0).standard_normal(DRAWS)
    return float(values.mean()) + float(values.std()) / math.sqrt(number) * chance


def confidence_interval(scores: Sequence[float]) -> tuple[float, float]:
    """Where the mean lies in 95 % of the draws of as many images."""
    means = bootstrap_means(np.asarray(scores, np.float64))
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def share_ahead(ours: Sequence[float], theirs: Sequence[float], maximizes: bool = True) -> float:
    """The share of the draws in which our mean is better, image by image; half of those that are equal."""
    apart = bootstrap_means(np.asarray(ours, np.float64) - np.asarray(theirs, np.float64))
    apart = apart if maximizes else -apart
    return float(np.mean(apart > 1e-12) + 0.5 * np.mean(np.abs(apart) <= 1e-12))


def compare_with_best(best: TrialData, other: TrialData, details: Details, sigma: float | None) -> Rival | None:
    """By the images where both have their scores; else by the noise between runs; None where neither is known."""
    here, there = details.get(best.number, {}), details.get(other.number, {})
    if scores := paired_scores(here, there):
        return Rival(other.number, share_ahead(*scores, is_higher_better(here)), True)
    if sigma is None or best.value is None or other.value is None:
        return None
    gap = abs(best.value - other.value)
    share = 0.5 if gap == 0 else 1.0 if sigma == 0 else 0.5 * (1 + math.erf(gap / (2 * sigma)))
    return Rival(other.number, share, False)


def find_cheaper(story: StudyData, tied: Sequence[int]) -> int | None:
    """Of the trials that cannot be told apart, the one that trains fastest, if clearly faster than the best.

    Few images tell hardly anything apart: its value must be near the best one's, too.
    """
    best = story.best
    if best is None or best.value is None:
        return None
    reach = CLOSE * abs(best.value)
    near = [t for t in story.finished if t.number in tied and abs((t.value or 0.0) - (best.value or 0.0)) <= reach]
    some = [trial for trial in near if trial.seconds > 0]
    if not some:
        return None
    least = min(some, key=lambda trial: (trial.seconds, trial.number))
    return least.number if least.seconds < CHEAPER * best.seconds else None


def group_by_params(story: StudyData) -> tuple[SeedGroup, ...]:
    """Parameters that were trained more than once, the best mean first."""
    by: dict[str, list[TrialData]] = {}
    for trial in story.finished:
        by.setdefault(json.dumps(trial.params, sort_keys=True, default=str), []).append(trial)
    found = [made for trials in by.values() if len(trials) > 1 for made in [summarize_runs(trials)]]
    found.sort(key=lambda one: (-one.mean if story.maximizes else one.mean, one.numbers))
    return tuple(
        SeedGroup(
            one.params, one.numbers, one.mean, one.deviation, is_overlapping(one, found[0]) and one is not found[0]
        )
        for one in found
    )


def summarize_runs(trials: Sequence[TrialData]) -> SeedGroup:
    values = [trial.value for trial in trials if trial.value is not None]
    numbers = tuple(sorted(trial.number for trial in trials))
    return SeedGroup(trials[0].params, numbers, float(np.mean(values)), float(np.std(values, ddof=1)), False)


def is_overlapping(one: SeedGroup, other: SeedGroup) -> bool:
    return abs(one.mean - other.mean) <= one.deviation + other.deviation


def estimate_noise(story: StudyData, repeated: Sequence[SeedGroup]) -> tuple[float | None, str]:
    """How much a value changes by chance, and from what that is known.

    Of repeated parameters the better half speaks: what hardly learns at all changes far more from run to run.
    """
    if repeated:
        better = repeated[: max(1, -(-len(repeated) // 2))]
        parts = [((len(one.numbers) - 1) * one.deviation**2, len(one.numbers) - 1) for one in better]
        pooled = math.sqrt(sum(square for square, _ in parts) / sum(free for _, free in parts))
        return pooled, "runs of the same parameters"
    name = f"val_{story.metric}"
    jitters = [
        jitter for trial in story.finished[:RIVALS] if (jitter := epoch_jitter(trial.curve(name)[1])) is not None
    ]
    return (float(np.median(jitters)), "the jitter of the last epochs") if jitters else (None, "")


def epoch_jitter(values: Sequence[float | None]) -> float | None:
    """The deviation of the last epochs' values about the mean of their neighbours."""
    known = np.array([value for value in values if value is not None][-LAST:])
    if len(known) < 4:
        return None
    about = (
        known[1:-1] - (known[:-2] + known[2:]) / 2
    )  # a straight line has none; the variance is 1.5 times theirs
    return float(np.sqrt(np.mean(about**2) / 1.5))


def count_contenders(story: StudyData, sigma: float | None) -> int:
    """How many trials stand so near to the best that chance may have chosen among them, the best included."""
    best = story.best
    if best is None or best.value is None or sigma is None:
        return 1
    reach = 2 * math.sqrt(2) * sigma
    return sum(abs((trial.value or 0.0) - best.value) <= reach for trial in story.finished)


@cache
def expected_maximum(number: int) -> float:
    """Of so many draws from a normal distribution, in deviations: 0 of one, 2.25 of fifty."""
    if number < 2:
        return 0.0
    x = np.linspace(-8, 8, 8001)
    below = np.array([0.5 * (1 + math.erf(at / math.sqrt(2))) for at in x])
    return float(np.sum(x * np.diff(below**number, prepend=0.0)))


def describe_lead(rivals: Sequence[Rival]) -> str:
    least, number = min(rival.ahead for rival in rivals), len(rivals)
    of = f"each of the next {number}" if number > 1 else "the next one"
    if any(rival.by_images for rival in rivals):
        return f"It stays ahead of {of} in {format_share(least)} of the draws of validation images."
    return f"It leads {of} by more than the noise between runs."


def format_share(part: float) -> str:
    """A share of draws: never certain, as no number of draws makes it."""
    return "over 99%" if part > 0.99 else "under 1%" if part < 0.01 else f"{part:.0%}"


def describe_seeds(found: Certainty) -> list[str]:
    if not found.seeds:
        return []
    first, *others = found.seeds
    said = [
        f"Of the parameters trained more than once, those of trials {join_numbers(first.numbers)} are best "
        f"on average: {first}."
    ]
    near = [number for one in others if one.overlaps for number in one.numbers]
    if near:
        said.append(f"Trials {join_numbers(near)} overlap with them.")
    return said


def describe_certainty(found: Certainty) -> list[str]:
    """What a newcomer is to do with it, a sentence each."""
    said = [f"Ship trial {found.ship}."]
    its = "its" if found.cheaper is None else f"trial {found.best}'s"  # the numbers are the best one's
    if found.tied:
        how = "the validation images" if any(r.by_images for r in found.rivals) else "the noise between runs"
        tied = join_numbers(found.tied)
        said.append(
            f"By {how}, trial {found.best} cannot be told apart from trial{'s' * (len(found.tied) > 1)} {tied}."
        )
        if found.cheaper is not None:
            said.append(f"So prefer the cheaper one, trial {found.cheaper}: it trains clearly faster.")
    elif found.rivals:
        said.append(describe_lead(found.rivals))
    if found.interval and found.mean is not None:
        low, high = found.interval
        said.append(
            f"On {found.images} validation images {its} mean {found.measured.removeprefix('mean ')} is "
            f"{found.mean:.3f}; on as many "
            f"others like them it would lie between {low:.3f} and {high:.3f} (95 %)."
        )
    said += describe_seeds(found)
    if found.expected is not None and (found.runs or found.optimism > 0):
        why = (
            f"so much its parameters give on average over {len(found.runs.numbers)} runs"
            if found.runs
            else f"the best of {found.contenders} near equals looks better than it is"
        )
        by = "" if found.cheaper is None else f", by trial {found.best}"
        said.append(
            f"Expect about {found.expected:.3f} on new images ({format_param(found.seen)} seen{by}): {why}."
        )
    if found.test is not None:
        who = "it" if found.cheaper is None else f"trial {found.best}"
        said.append(f"On the test images, which no choice was made by, {who} has {found.test:.4f}.")
    return said
