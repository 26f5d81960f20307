"""What `tuner confirm` promises, on drawn studies whose truth is known: its interval, its winner, and its race.

A trial has a skill, a run of it adds the luck of its seed, and each image is easy or hard. The program's own race
and assessment see the scores of single images only. The skill of the default varies half as much.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.measure import Row, Section, Setting
from tuner.goal import maximize
from tuner.report.confirmation import Confirmation, assess_confirmation
from tuner.report.study_data import StudyData, TrialData
from tuner.search.racing import select_racers
from tuner.study.confirmations import CANDIDATE, DEFAULT
from tuner.study.info import StudyInfo, StudyKind

TRIALS, TOP, IMAGES = 30, 3, 60
EASE, RESIDUE = 0.08, 0.03  # deviations: of how easy an image is, and of a run on one image
SEED_NOISE = 0.01  # deviation between runs of the same parameters
SPREADS = {"as much as": 1.0, "twice as much as": 2.0, "half as much as": 0.5}  # of skill, in units of that
Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Outcome:
    """What became of a drawn study."""

    is_held: bool | None  # whether the interval held the score on other images; None without an interval
    is_worse: bool  # than the default: the confirmed winner
    is_plain_worse: bool  # the best of the search
    cost: float  # of the runs of all candidates with all seeds
    is_same: bool  # as the winner of these


def measure(setting: Setting) -> Section:
    rows: list[Row] = []
    number = setting.pick(1000, 20)
    for words, spread in SPREADS.items():
        for seeds in (3, 5):
            rng = np.random.default_rng([int(10 * spread), seeds])
            found = [draw_outcome(rng, spread * SEED_NOISE, seeds) for _ in range(number)]
            rows += summarize(found, f"skills differ {words} seeds, {seeds} seeds")
    reading = [
        f"{number} drawn studies for each row: {TRIALS} trials, of which the best {TOP} and the default are "
        f"confirmed on {IMAGES} validation images; the interval is for as many others. The skill of a trial, the "
        "luck of a seed and the ease of an image are normally distributed. Worse than the default means by true "
        "skill."
    ]
    return Section(
        "confirming", "Confirming the best trial", ("", "tuner confirm", "best of the search"), rows, reading
    )


def summarize(found: list[Outcome], words: str) -> Iterator[Row]:
    held = [one.is_held for one in found if one.is_held is not None]
    number, cost = len(found), float(np.mean([one.cost for one in found]))
    worse, plain = (sum(getattr(one, name) for one in found) for name in ("is_worse", "is_plain_worse"))
    same = sum(one.is_same for one in found)
    yield Row(
        f"{words}: interval holds", f"{sum(held)} of {len(held)}", "", f"{sum(held) / len(held):.3f}", "0.90", None
    )
    yield Row(f"{words}: worse than the default", f"{worse} of {number}", f"{plain} of {number}",
              f"{worse / max(1, plain):.2f}", "at most 0.02 of all", worse <= 0.02 * number)  # fmt: skip
    yield Row(f"{words}: runs of the race", f"{cost:.2f}", "1", f"{cost:.2f}", "at most 0.6", cost <= 0.6)
    yield Row(f"{words}: same winner as without", f"{same} of {number}", "", f"{same / number:.3f}", "0.95",
              same >= 0.95 * number)  # fmt: skip


def draw_outcome(rng: np.random.Generator, spread: float, seeds: int) -> Outcome:
    skills = 0.7 + spread * rng.normal(size=TRIALS)
    default = 0.7 + spread / 2 * rng.normal()
    ease = EASE * rng.normal(size=IMAGES)
    search = [float(draw_run(rng, skill, ease).mean()) for skill in skills]
    top = sorted(range(TRIALS), key=lambda at: -search[at])[:TOP]
    true = {f"trial {at}": float(skills[at]) for at in top} | {DEFAULT: default}
    searched = {f"trial {at}": search[at] for at in top}
    runs = {name: [draw_run(rng, skill, ease) for _ in range(seeds)] for name, skill in true.items()}
    racing, spent, kept = list(true), 0, dict[str, int]()
    for done in range(1, seeds + 1):
        spent += len(racing)
        kept |= dict.fromkeys(racing, done)
        values = {name: [float(run.mean()) for run in runs[name][:done]] for name in racing}
        racing = select_racers(values, searched, seeds, maximizes=True)
    found = assess({name: runs[name][:number] for name, number in kept.items()}, searched)
    winner = found.winner.name
    other = float(draw_run(rng, true[winner], EASE * rng.normal(size=IMAGES)).mean())
    return Outcome(
        is_held=found.interval and found.interval[0] <= other <= found.interval[1],
        is_worse=true[winner] < default,
        is_plain_worse=true[f"trial {top[0]}"] < default,
        cost=spent / (seeds * len(true)),
        is_same=winner == max(runs, key=lambda name: np.mean(runs[name])),
    )


def draw_run(rng: np.random.Generator, skill: float, ease: Scores) -> Scores:
    """Return the score of each image in a run of its own seed."""
    return np.clip(skill + SEED_NOISE * rng.normal() + ease + RESIDUE * rng.normal(size=len(ease)), 0, 1)


def assess(runs: dict[str, list[Scores]], searched: dict[str, float]) -> Confirmation:
    """Return what the program says of the runs."""
    info = StudyInfo("s-confirmed", "s", maximize("iou"), "drawn", kind=StudyKind.CONFIRMATION, subject="s")
    trials, details = list[TrialData](), dict[int, dict[str, object]]()
    for name, some in runs.items():
        for repeat, scores in enumerate(some, start=1):
            notes = {CANDIDATE: {"name": name, "searched": searched.get(name)}, "repeat": repeat}
            details[len(trials)] = {"metric": "image_iou", "images": {"scores": scores.tolist(), "groups": {}}}
            trials.append(TrialData(len(trials), "COMPLETE", float(scores.mean()), {}, notes))
    found = assess_confirmation(StudyData(info, None, tuple(trials)), lambda trial: details[trial.number], ())
    assert found is not None
    return found
