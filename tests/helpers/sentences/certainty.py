"""Sentences on how certain the best trial is."""

from __future__ import annotations

import math

import numpy as np
from scipy.special import stdtr, stdtrit

from helpers.planted_studies import plant, run, scored
from helpers.sentences import Sentence
from tuner.goal import minimize

A, B, C = {"lr": 1e-3}, {"lr": 1e-2}, {"lr": 3e-3}
ONE = plant(run(0.5, A))
TWO = plant(run(0.5, A), run(0.4, B))  # of different parameters, nothing more
REPEATED = plant(run(0.50, A), run(0.54, A))
GROUPS = plant(run(0.50, A), run(0.54, A), run(0.20, B), run(0.22, B))
OVERLAPPING = plant(run(0.50, A), run(0.60, A), run(0.50, B), run(0.58, B))
SAME = plant(run(0.5, A), run(0.5, A), run(0.25, B), run(0.25, B))
SAME_BETTER = plant(run(0.5, A), run(0.5, A), run(0.25, B), run(0.125, B))
AHEAD = plant(run(0.9, C), run(0.50, A), run(0.501, A))  # by more than the noise of two runs
AHEAD_OF_MORE = plant(run(0.9, C), run(0.50, A), run(0.501, A), run(0.502, A))
NEAR = plant(run(0.525, C), run(0.50, A), run(0.51, A), run(0.52, A))
BARELY_AHEAD = plant(run(0.575, C), run(0.50, A), run(0.51, A), run(0.52, A))
NEAR_COST = plant(
    *(run(value, params, goal=minimize("loss")) for value, params in ((0.1, C), (0.1, A), (0.2, A))),
    goal=minimize("loss"),
)

RNG = np.random.default_rng(11)
MANY = np.clip(0.5 + 0.1 * RNG.standard_normal(40), 0, 1)
PAIRS = [at // 2 for at in range(40)]
SCORED = plant(run(0.5, A), run(0.4, B), files={0: scored(MANY), 1: scored(MANY - 0.2)})
SCORED_MORE = plant(run(0.5, A), run(0.4, B), run(0.3, C), files={at: scored(MANY - at / 5) for at in range(3)})
NEXT = MANY - 0.03 + 0.1 * np.random.default_rng(3).standard_normal(40)
AHEAD_BY_LITTLE = plant(
    run(0.5, A), run(0.4, B), run(0.3, C), files={0: scored(MANY), 1: scored(NEXT), 2: scored(MANY - 0.4)}
)
NOT_GROUPED = plant(run(0.5, A), run(0.4, B), files={0: scored(MANY, is_grouped=False)})
IN_PAIRS = plant(run(0.5, A), run(0.4, B), files={at: scored(MANY - at / 5, likeness=PAIRS) for at in range(2)})
FEW = plant(run(0.5, A), run(0.4, B), files={0: scored(MANY[:4]), 1: scored(MANY[:4])})
FEW_GROUPS = plant(run(0.5, A), files={0: scored(MANY, likeness=[at // 10 for at in range(40)])})
ONE_IMAGE = plant(run(0.5, A), files={0: scored([0.25])})
TIED_IMAGES = plant(run(0.5, A), run(0.495, B), files={0: scored(MANY), 1: scored(MANY[::-1])})
CHEAPER = plant(
    run(0.5, A, seconds=100.0), run(0.495, B, seconds=10.0), files={0: scored(MANY), 1: scored(MANY[::-1])}
)
CHEAPER_REPEATED = plant(
    run(0.5, A, seconds=100.0),
    run(0.495, B, seconds=10.0),
    run(0.49, A, seconds=100.0),
    files={0: scored(MANY), 1: scored(MANY[::-1])},
)
NOTHING = plant()
LOST = plant(run(0.5, A, files={"details.json": "nowhere"}))
SLOW = np.sort(MANY)  # each image is like its neighbours
ORDERED = plant(run(0.5, A), run(0.4, B), files={0: scored(SLOW), 1: scored(SLOW)})
TESTED = plant(run(0.5, A, result={"test": {"iou": 0.4321}}))
UNFINISHED = plant(
    run(0.5, C), run(0.3, A, state="PRUNED", curve=[0.1, 0.3]), run(0.2, A, state="PRUNED", curve=[0.2])
)


def noise(*groups: list[float]) -> tuple[float, float]:
    """Return the deviation between runs, and what two of them differ by at most in 95 of 100 cases."""
    free = sum(len(group) - 1 for group in groups)
    sigma = math.sqrt(sum(((np.array(group) - np.mean(group)) ** 2).sum() for group in groups) / free)
    return sigma, float(stdtrit(free, 0.975)) * math.sqrt(2) * sigma


def sentence_on_luck(sigma: float, reach: float, metric: str = "iou") -> str:
    between = f"Between runs of the same parameters, {metric} has a standard deviation of {sigma:.4f}"
    return f"{between}; two of them differ by up to {reach:.4f} in 95 of 100 cases."


SIGMA, REACH = noise([0.50, 0.51, 0.52])
SIGMA_OF_BOTH, _ = noise([0.50, 0.54])
LEAD = MANY - NEXT
SHARE_AHEAD = float(stdtr(39, LEAD.mean() / LEAD.std(ddof=1) * math.sqrt(40)))  # of Student's t test
LARGEST_OF_FOUR = float(np.random.default_rng(3).standard_normal((200_000, 4)).max(axis=1).mean())
REPEATED_STATS = f"{0.52:.4f} ± {np.std([0.50, 0.54], ddof=1):.4f} (2 runs)"

CERTAINTY = (
    Sentence("no scores of single validation images were kept", ONE, SCORED),
    Sentence("{} of trial {} is gone, damaged", LOST, ONE, "details.json of trial 0 is gone, damaged or without"),
    Sentence("{}, so nothing is said of other images", ONE, SCORED),
    Sentence(
        "form {} by {}", FEW_GROUPS, IN_PAIRS, "the validation images form 4 groups by their likeness, too few"
    ),
    Sentence(
        "{}, too few to say what other images", FEW, SCORED, "only 4 validation images, too few to say what other"
    ),
    Sentence(
        "{}, too few to say what other images",
        ONE_IMAGE,
        SCORED,
        "only 1 validation image, too few to say what other",
    ),
    Sentence("which validation images belong together was not recorded", NOT_GROUPED, SCORED),
    Sentence("which validation images belong together was not recorded", NOT_GROUPED, ONE_IMAGE),
    Sentence("so how much a run changes with its seed is not known", TWO, REPEATED),
    Sentence("no parameters were trained twice, {}", TWO, UNFINISHED),
    Sentence("; after epoch {}, their", UNFINISHED, TWO, "; after epoch 1, their iou was 0.1000 to 0.2000"),
    Sentence(
        "trials {} have the same parameters{}", UNFINISHED, TWO, "trials 1 and 2 have the same parameters; after"
    ),
    Sentence("fewer than two of them were trained to the end", UNFINISHED, REPEATED),
    Sentence(
        "the {} of the validation images",
        TIED_IMAGES,
        AHEAD,
        "By the dice of the validation images, trial 0 cannot be told apart from trial 1.",
        shown="the dice of the validation images",
    ),
    Sentence(
        "By {}, trial {} cannot be told apart from {}.",
        NEAR,
        AHEAD,
        "By the noise between runs, trial 0 cannot be told apart from trials 3, 2 and 1.",
    ),
    Sentence("the noise between runs", NEAR, TIED_IMAGES, "judged by so it is", shown="% the noise between runs"),
    Sentence(
        "So prefer the cheaper one, trial {}",
        CHEAPER,
        TIED_IMAGES,
        "So prefer the cheaper one, trial 1: it trains",
    ),
    Sentence(
        "trial {}'s", CHEAPER, TIED_IMAGES, f"On 40 validation images trial 0's mean dice is {MANY.mean():.3f};"
    ),
    Sentence(", by trial {}", CHEAPER_REPEATED, CHEAPER, "(0.5 seen, by trial 0)"),
    Sentence(
        "of the draws of validation images, by their {}",
        SCORED,
        TIED_IMAGES,
        "It stays ahead of trial 1 in over 99% of the draws of validation images, by their dice.",
    ),
    Sentence(
        "It stays ahead of {} in {} {}.",
        AHEAD_BY_LITTLE,
        TIED_IMAGES,
        f"It stays ahead of each of trials 1 and 2 in {SHARE_AHEAD:.0%} or more of the draws of validation images",
    ),
    Sentence("as far as 2 runs show it", AHEAD, AHEAD_OF_MORE),
    Sentence(
        "It leads {} by more than the noise between runs{}.",
        AHEAD_OF_MORE,
        NEAR,
        "It leads each of trials 1, 2 and 3 by more than the noise between runs.",
    ),
    Sentence("{} mean {} is {}", SCORED, ONE, f"its mean dice is {MANY.mean():.3f}"),
    Sentence("{} mean {} is {}", ONE_IMAGE, ONE, "On 1 validation image its mean dice is 0.250."),
    Sentence("It leads {} by more than the noise between runs{}.", BARELY_AHEAD, REPEATED),
    Sentence("it would lie between {} and {} (95 %)", SCORED, FEW),
    Sentence(
        "On {} validation images {}; on as many others like them {}.", SCORED, IN_PAIRS, "On 40 validation images"
    ),
    Sentence(
        "{} validation images in {} groups",
        IN_PAIRS,
        SCORED,
        "On 40 validation images in 20 groups, by their like",
    ),
    Sentence("on as many other groups like them {}.", IN_PAIRS, SCORED),
    Sentence("the order of their scores", ORDERED, SCORED),
    Sentence(
        "Trials {} have the same parameters: {} {}.",
        REPEATED,
        GROUPS,
        f"Trials 0 and 1 have the same parameters: iou {REPEATED_STATS}.",
    ),
    Sentence(
        "those of trials {} are best on average",
        GROUPS,
        REPEATED,
        f"those of trials 0 and 1 are best on average: iou {REPEATED_STATS}.",
    ),
    Sentence("Of the parameters trained more than once, {}.", GROUPS, REPEATED),
    Sentence("Trials {} overlap with them.", OVERLAPPING, GROUPS, "Trials 2 and 3 overlap with them."),
    Sentence("the best of {} looks better than it is", NEAR, AHEAD, "the best of 4 near equals looks better"),
    Sentence("so much its parameters give on average over {} runs", REPEATED, NEAR, "on average over 2 runs"),
    Sentence("{} of about {}", REPEATED, ONE, "From another run expect iou of about 0.520 (0.54 seen): so much"),
    Sentence(
        "From another run expect {} ({}): {}.",
        NEAR,
        AHEAD,
        f"From another run expect iou of about {0.525 - SIGMA * LARGEST_OF_FOUR:.3f} (0.525 seen): the best of 4",
    ),
    Sentence(
        "On the test images, which no choice was made by, {}.",
        TESTED,
        ONE,
        "On the test images, which no choice was made by, it has iou 0.4321.",
    ),
    Sentence("It is the only trial that has finished, so it leads no other.", ONE, TWO),
    Sentence("How much of its lead is luck cannot be said", TWO, ONE),
    Sentence("How much of its lead is luck cannot be said", TWO, REPEATED),
    Sentence("gave the same {} each time", SAME, GROUPS, "gave the same iou each time"),
    Sentence(
        "Runs of the better repeated parameters {}; trials {} did not.",
        SAME_BETTER,
        SAME,
        "; trials 2 and 3 did not.",
    ),
    Sentence("Runs of the same parameters {}.", SAME, SAME_BETTER),
    Sentence(
        "has a standard deviation of {}", GROUPS, SAME, f"iou has a standard deviation of {SIGMA_OF_BOTH:.4f}"
    ),
    Sentence("Between runs of the same parameters, {}", NEAR, SAME, sentence_on_luck(SIGMA, REACH)),
    Sentence("two of them differ by up to {} in 95 of 100 cases.", NEAR, TWO),
    Sentence("No other trial comes so near that luck could have chosen", AHEAD, NEAR),
    Sentence(
        "{} came so near that luck may have chosen", NEAR, AHEAD, "3 other trials came so near that luck may have"
    ),
    Sentence(
        "{} came so near that luck may have chosen", REPEATED, AHEAD, "1 other trial came so near that luck may"
    ),
    Sentence(
        "{} came so near that luck may have chosen",
        NEAR_COST,
        BARELY_AHEAD,
        "2 other trials came so near that luck may",
    ),
    Sentence(
        "{}{}; the luckiest of so many looks {} better than it is.",
        NEAR,
        AHEAD,
        f"the luckiest of so many looks {SIGMA * LARGEST_OF_FOUR:.4f} better than it is.",
    ),
)
