"""Sentences on the best trials trained again with fresh seeds."""

from __future__ import annotations

import numpy as np

from helpers.planted_studies import confirm, plant, run
from helpers.sentences import Sentence
from tuner.study.confirmations import LookAtTest

RUNS = {"trial 3": [0.80, 0.82, 0.81], "default": [0.60, 0.61, 0.62]}
LUCKY = confirm(RUNS, {"trial 3": 0.85})
UNLUCKY = confirm(RUNS, {"trial 3": 0.79})
NEAR = confirm({"trial 3": [0.80, 0.70, 0.75], "trial 5": [0.79, 0.69, 0.74]})
ONE_SEED = confirm({"trial 3": [0.8], "default": [0.7]})
LOOK = LookAtTest(1, {"iou": 0.7512}, "2026-01-02T03:04:05+00:00")
LOOKED = confirm(RUNS, looks=[LOOK])
LOOKED_TWICE = confirm(RUNS, looks=[LOOK, LOOK])
EASE = np.random.default_rng(5).normal(0.7, 0.1, 40)
SCORED = confirm({"trial 3": [0.7, 0.71]}, scores={"trial 3": [EASE, EASE + 0.01]})
FEW = confirm({"trial 3": [0.7, 0.71]}, scores={"trial 3": [EASE[:4], EASE[:4] + 0.01]})
NOTHING_FOUND = confirm({"trial 3": [0.0, 0.001]})
SEARCH = plant(run(0.5), run(0.4))

CONFIRMATION = (
    Sentence("Ship the confirmed {}.", LUCKY, NOTHING_FOUND, says="Ship the confirmed trial 1 of s-confirmed."),
    Sentence("trial {} of {}", NOTHING_FOUND, SEARCH, shown="trial 1 of s-confirmed"),
    Sentence("Do not ship {} yet: {}.", NOTHING_FOUND, LUCKY,
             says="Do not ship trial 1 of s-confirmed yet: it finds"),
    Sentence("Not confirmed yet", ONE_SEED, LUCKY),
    Sentence("By the values of {} alone, trial {} is the best.", LUCKY, SEARCH,
             says="By the values of s-confirmed alone, trial 1 is the best."),
    Sentence("Candidates and their {} with fresh seeds; one that could no longer win got no further seed.", LUCKY,
             SEARCH),
    Sentence("in the search", LUCKY, SEARCH),
    Sentence("Only 1 seed is trained: {} is ahead, and nothing is confirmed yet.", ONE_SEED, LUCKY,
             says="Only 1 seed is trained: trial 3 is ahead"),
    Sentence("Confirmed: {}, {} {}, with seeds that the search has not used.", LUCKY, ONE_SEED,
             says="Confirmed: trial 3, iou 0.8100 ± 0.0100 (3 seeds)"),
    Sentence("Against {} it is {}.", LUCKY, SCORED, says="Against the default it is better by 0.2000"),
    Sentence("the next, {},", NEAR, LUCKY, says="Against the next, trial 5, it is"),
    Sentence("not told apart ({} {}, 90 % interval {} to {})", NEAR, LUCKY, says="not told apart (iou +0.0100"),
    Sentence("{} by {} in {} (90 % interval {} to {})", LUCKY, NEAR, says="better by 0.2000 in iou (90 %"),
    Sentence("The search saw {} for it", LUCKY, NEAR, says="The search saw 0.8500 for it"),
    Sentence("{}: {} of that was the luck of being chosen.", LUCKY, UNLUCKY,
             says="0.0400 of that was the luck of being chosen."),
    Sentence("{}, no better than the fresh runs.", UNLUCKY, LUCKY,
             says="The search saw 0.7900 for it, no better than the fresh runs."),
    Sentence("On {} its mean {} is {}; one run would have {} to {} on as many others like them (90 %).", SCORED,
             FEW, says=f"On 40 validation images its mean image_iou is {EASE.mean() + 0.005:.3f}; one run"),
    Sentence("Its validation images form {}, too few to say what others would give.", FEW, SCORED,
             says="Its validation images form 4 groups"),
    Sentence("On the test split, trial {} of '{}' has {}", LOOKED, LUCKY,
             says="On the test split, trial 1 of 's-confirmed' has iou 0.7512"),
    Sentence("{}; it was looked at once, on {}.", LOOKED, LOOKED_TWICE,
             says="it was looked at once, on 2026-01-02."),
    Sentence("{}; this was look {} at it, so it is no longer untouched.", LOOKED_TWICE, LOOKED,
             says="this was look 2 at it"),
)  # fmt: skip
