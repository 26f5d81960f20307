"""Sentences below the plots, and names within them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from helpers.planted_studies import LOSS, LR, PlantedStudy, failed, plant, run
from helpers.sentences import Sentence
from tuner.goal import minimize
from tuner.study.info import StudyKind

K = {"k": {"kind": "int", "low": 1, "high": 64}}
NOTHING = plant()
ONE = plant(run(0.5, {"lr": 1e-3}, planned=1))
RATES = [1e-4, 2e-4, 4e-4, 1e-3, 2e-3, 4e-3, 1e-2]
WIDTHS = [4, 8, 4, 8, 4, 8, 8]
VALUES = [0.40, 0.45, 0.52, 0.61, 0.58, 0.49, 0.44]
PAIRS = [{"lr": rate, "k": width} for rate, width in zip(RATES, WIDTHS, strict=True)]
SEARCHED = plant(*[run(v, p, seconds=60.0) for v, p in zip(VALUES, PAIRS, strict=True)], kinds=LR | K)
COSTS = plant(
    *[run(1 - v, p, goal=minimize("loss")) for v, p in zip(VALUES, PAIRS, strict=True)],
    kinds=LR | K,
    goal=minimize("loss"),
)
CONDITIONAL = plant(
    *[run(v, {"lr": r}) for v, r in zip(VALUES, RATES, strict=True)],
    run(0.1, PAIRS[0]),
    run(0.1, PAIRS[1]),
    kinds=LR | K,
)
BY_LOSS = plant(
    *[run(v, {"loss": name}) for v, name in zip(VALUES, ["bce", "bce", "dice", "dice"], strict=False)], kinds=LOSS
)
MANY = {"loss": {"kind": "categorical", "choices": [f"loss{at}" for at in range(10)]}}
MANY_CHOICES = plant(*[run(0.5 + at / 100, {"loss": f"loss{at}"}) for at in range(10)], kinds=MANY)
ONE_EACH = plant(run(0.5, {"loss": "bce"}), run(0.6, {"loss": "dice"}), kinds=LOSS)
ALL_FAILED = plant(failed("CUDA out of memory"), failed("CUDA out of memory"))
SOME_FAILED = plant(run(0.5), failed("CUDA out of memory"))
STOPPED = run(0.3, {"lr": 1e-2}, state="PRUNED", curve=[0.1, 0.3], planned=10)
PRUNED_ONLY = plant(STOPPED, replace(STOPPED, params={"lr": 3e-2}))
SOME_PRUNED = plant(
    run(0.5, planned=5, curve=[0.1, 0.2, 0.3, 0.4, 0.5]), run(0.4, {"lr": 3e-3}, planned=1), STOPPED
)
WENT_ON = run(0.5, curve=[0.1, 0.2, 0.3, 0.5], planned=4, first_pause=2)
RESTS = run(0.3, {"lr": 1e-2}, state="PRUNED", curve=[0.1, 0.3], planned=4, first_pause=2, paused_at=2)
PAUSED = plant(WENT_ON, RESTS, run(0.4, {"lr": 2e-3}, planned=1))
BOTH = plant(WENT_ON, RESTS, STOPPED, run(0.4, {"lr": 2e-3}, planned=1))
TRAINED = plant(run(0.5, curve=[0.4, 0.5], planned=3), run(0.4, {"lr": 1e-2}, planned=1))
TABLE = plant(run(0.5, planned=1), run(0.4, {"lr": 1e-2}, planned=1), kind=StudyKind.TABLE, subject="t")
FRONT = [(0.9, 1e6), (0.8, 2e4), (0.7, 3e4)]
TWO_GOALS = plant(*[run(v, values={"iou": v, "params": p}) for v, p in FRONT], further=(minimize("params"),))
ONE_OF_TWO = plant(run(0.9, values={"iou": 0.9, "params": 1e6}), further=(minimize("params"),))
LEAST_OF_TWO = plant(
    *[run(v, goal=minimize("loss"), values={"loss": v, "params": p}) for v, p in FRONT],
    goal=minimize("loss"),
    further=(minimize("params"),),
)
NONE_OF_TWO = plant(failed("CUDA out of memory"), further=(minimize("params"),))
WITH_LOSSES = plant(run(0.5, losses=[(0.4, 0.5)]), run(0.4, {"lr": 1e-2}, losses=[(0.4, 0.5)]))
WITHOUT_VALUES = plant(replace(run(0.5), epochs=({"epoch": 1, "seconds": 1.0},)))
WITHOUT_EPOCHS = plant(replace(run(0.5), epochs=()))
TABLE_OF_GROUPS = plant(
    run(0.5, {"loss": "bce"}, curve=[0.3, 0.5]),
    run(0.2, {"loss": "dice"}, state="PRUNED", curve=[0.2]),
    kinds=LOSS,
)
BEST = max(VALUES)
DECADES = plant(
    *[run(10**-at, p, goal=minimize("loss")) for at, p in enumerate(PAIRS)],
    kinds=LR | K,
    goal=minimize("loss"),
)
CROWD = plant(*[run(0.5 + at / 1000, {"lr": 1e-3 * (1 + at)}, planned=1) for at in range(401)])
LONG = "losses.module:of_the_boundary"
LONG_NAME = plant(
    run(0.5, {"loss": "bce"}),
    run(0.6, {"loss": LONG}),
    kinds={"loss": {"kind": "categorical", "choices": ["bce", LONG]}},
)


def losses_of(bce: Sequence[float], dice: Sequence[float]) -> PlantedStudy:
    """Return a study of two losses with a trial for each value."""
    goal = minimize("loss")
    values = [*(("bce", value) for value in bce), *(("dice", value) for value in dice)]
    trials = [run(value, {"loss": name}, goal=goal) for name, value in values]
    return plant(*trials, kinds=LOSS, goal=goal)


WIDE_BANDS = losses_of([0.1, 0.9], [0.001])  # the band would reach below 0
NARROW_BANDS = losses_of([0.5, 0.6], [0.001])
NO_BANDS = losses_of([0.5], [0.001])

FIGURES = (
    Sentence("no trial has a value yet", NOTHING, ONE),
    Sentence("failed (no value)", SOME_FAILED, ONE),
    Sentence("best so far", ONE, PRUNED_ONLY, shown="best so far"),
    Sentence("No trial has finished yet.", PRUNED_ONLY, ONE),
    Sentence(
        "The best, {}, came with trial {}; {} in all.",
        SEARCHED,
        NOTHING,
        f"The best, {BEST}, came with trial 3; 7 t",
    ),
    Sentence(
        "The best, {}, came with trial {}; {} in all.",
        COSTS,
        NOTHING,
        f"The best, {1 - BEST:.2f}, came with trial 3;",
    ),
    Sentence("The best, {}, came with trial {}; {} in all.", ONE, NOTHING, "came with trial 0; 1 trial in all."),
    Sentence("two finished trials with different parameters are needed", ONE, SEARCHED),
    Sentence("Each line is a finished trial, from its parameters", SEARCHED, SOME_PRUNED),
    Sentence("Each line is a trial, from its parameters", SOME_PRUNED, SEARCHED),
    Sentence(
        "of a {} one, the best as far as it came.", SOME_PRUNED, SEARCHED, "value; of a pruned one, the best"
    ),
    Sentence("of a {} one, the best as far as it came.", PAUSED, SEARCHED, "value; of a paused one, the best"),
    Sentence(
        "of a {} one, the best as far as it came.", BOTH, SEARCHED, "value; of a pruned or paused one, the best"
    ),
    Sentence("no finished trial", NOTHING, ONE, shown="Not drawn: no finished trial."),
    Sentence("{}: the best as far as they came", SOME_PRUNED, PAUSED, shown="pruned: the best as far"),
    Sentence("{}: the best as far as they came", PAUSED, SOME_PRUNED, shown="paused: the best as far"),
    Sentence("log10 of {}", DECADES, COSTS, shown="log10 of loss"),
    Sentence("{} (log scale)", DECADES, COSTS, shown="darker is larger (log scale)."),
    Sentence(
        "Of {} trials, {} evenly spaced by their value are drawn, the best among them.",
        CROWD,
        SEARCHED,
        "Of 401 trials, 201 evenly spaced by their value",
    ),
    Sentence("A bar is the mean of {} in a row.", CROWD, TRAINED, "A bar is the mean of 3 trials in a row."),
    Sentence("{} In full: {}.", LONG_NAME, BY_LOSS, "losses.m…oundary is losses.module:of_the_boundary."),
    Sentence("{} Bands are cut off at the lowest value.", WIDE_BANDS, NARROW_BANDS),
    Sentence("{} Bands are cut off at the lowest value.", WIDE_BANDS, NO_BANDS),
    Sentence("The best trial has {} = {}.", SEARCHED, PRUNED_ONLY, f"The best trial has lr = {RATES[3]}. "),
    Sentence(
        "The best trial has {} = {}.", SEARCHED, BARE := plant(run(0.5, {}), run(0.4, {}), kinds={}), "has k = 8."
    ),
    Sentence("The best trial was drawn without {}.", CONDITIONAL, SEARCHED, "The best trial was drawn without k."),
    Sentence("Those {} are shown as far as they came", SOME_PRUNED, SEARCHED, "0.001. Those pruned are shown"),
    Sentence("Those {} are shown as far as they came", PAUSED, SEARCHED, "0.001. Those paused are shown"),
    Sentence("Those {} are shown as far as they came", BOTH, SEARCHED, "0.001. Those pruned and paused are shown"),
    Sentence(
        "{} finished trials, and two varied parameters that",
        CONDITIONAL,
        SEARCHED,
        "Not drawn: 6 finished trials, and",
    ),
    Sentence("Two parameters at once", ONE, SEARCHED),
    Sentence(
        "Mean {} of the finished trials in each cell",
        SEARCHED,
        ONE,
        "Mean iou of the finished trials in each cell",
    ),
    Sentence("{} by {} and {}", SEARCHED, CONDITIONAL, shown="iou by lr and k"),
    Sentence("Curves of the best", NOTHING, ONE),
    Sentence("{} best trials", SEARCHED, ONE, "of the 5 best trials."),
    Sentence(
        "Validation {} after each epoch, of the {}.",
        ONE,
        NOTHING,
        "Validation iou after each epoch, of the best trial.",
    ),
    Sentence(
        "Validation {} after each epoch, of the {}.",
        COSTS,
        NOTHING,
        "Validation loss after each epoch, of the 5 best",
    ),
    Sentence("Curves by choice", ONE, SEARCHED),
    Sentence("no parameter was varied", ONE, SEARCHED, shown="no parameter was varied."),
    Sentence("Time per trial", NOTHING, ONE),
    Sentence("no epoch has been recorded", WITHOUT_EPOCHS, ONE),
    Sentence(
        "{} of training in all; the longest trial took {}.",
        SEARCHED,
        NOTHING,
        "7 min of training in all; the longest",
    ),
    Sentence("What the time bought", ONE, WITHOUT_EPOCHS),
    Sentence("minutes of training", ONE, WITHOUT_EPOCHS),
    Sentence("no ended trial says how many epochs it was to have", NOTHING, ONE),
    Sentence(
        "Pruning saved {} of {} planned epochs ({}).",
        SOME_PRUNED,
        TABLE,
        f"Pruning saved 8 of 16 planned epochs ({8 / 16:.0%}).",
    ),
    Sentence(
        "{} of {} planned epochs were trained; no trial was pruned.", TRAINED, SOME_PRUNED, "3 of 4 planned epochs"
    ),
    Sentence("trained after a pause", PAUSED, SOME_PRUNED),
    Sentence(
        "{} of {} trials paused, and {} of these went on",
        PAUSED,
        SOME_PRUNED,
        "2 of 3 trials paused, and 1 of these went",
    ),
    Sentence("Epochs trained and planned", ONE, NOTHING),
    Sentence("no trial failed", ONE, SOME_FAILED, shown="Not drawn: no trial failed."),
    Sentence("Failures by kind", SOME_FAILED, ONE),
    Sentence("no trial has finished", NONE_OF_TWO, TWO_GOALS, shown="iou by params no trial has finished"),
    Sentence(
        "The front has {}: no other is better in all of {}.",
        TWO_GOALS,
        ONE,
        "The front has 2 of 3 finished trials: no",
    ),
    Sentence(
        "The front has {}: no other is better in all of {}.",
        ONE_OF_TWO,
        ONE,
        "The front has 1 of 1 finished trial: no",
    ),
    Sentence("The {} {} is that of trial {}.", TWO_GOALS, ONE, "The largest iou is that of trial 0."),
    Sentence(
        "The {} {} is that of trial {}.",
        LEAST_OF_TWO,
        TWO_GOALS,
        "The smallest loss is that of trial 2.",
        "The smallest",
    ),
    Sentence(
        "no epoch of these trials has a {}",
        WITHOUT_VALUES,
        ONE,
        "no epoch of these trials has a validation iou",
        "a validation iou",
    ),
    Sentence("no epoch of these trials has a loss", ONE, WITH_LOSSES),
    Sentence("loss: train (dashed) and validation", WITH_LOSSES, ONE),
    Sentence("{}, not finished", SOME_PRUNED, SEARCHED, "lr=0.01, not finished (1 trial)"),
    Sentence("Mean of each group", BY_LOSS, MANY_CHOICES),
    Sentence(
        "Mean of each of the first {} of {} groups",
        MANY_CHOICES,
        BY_LOSS,
        "Mean of each of the first 8 of 10 groups",
    ),
    Sentence("the band is one standard deviation of its trials.", BY_LOSS, ONE_EACH),
    Sentence("Dashed: trials that did not finish ({})", SOME_PRUNED, SEARCHED, "did not finish (pruned), as far"),
    Sentence("Dashed: trials that did not finish ({})", PAUSED, SEARCHED, "did not finish (paused), as far"),
    Sentence("Dashed: trials that did not finish ({})", BOTH, SEARCHED, "did not finish (paused, pruned), as far"),
    Sentence(
        "over a limit",
        OVER := plant(
            run(0.5, {"loss": "bce"}),
            run(0.2, {"loss": "dice"}, state="PRUNED", notes={"over_limit": "2 s"}),
            kinds=LOSS,
        ),
        SEARCHED,
        "not_finished 1 over a limit",
    ),
    Sentence("mean at epoch {}", TABLE_OF_GROUPS, BY_LOSS, f"mean at epoch 1 {np.mean([0.3])}"),
)
