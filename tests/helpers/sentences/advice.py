"""Sentences on what to try next."""

from __future__ import annotations

import numpy as np

from helpers.planted_studies import LR, PlantedStudy, failed, plant, run
from helpers.sentences import Sentence
from tuner.errors import FailureKind
from tuner.recipe import Recipe, use
from tuner.study.info import StudyKind

A, B, C = {"lr": 1e-3}, {"lr": 2e-3}, {"lr": 4e-3}
K = {"k": {"kind": "int", "low": 1, "high": 64}}
ONE = plant(run(0.5, A))


def fail(kind: FailureKind) -> PlantedStudy:
    """Return a study of which two trials failed in this way."""
    notes = {"failure_kind": kind.value, "failure_line": "it broke"}
    return plant(run(0.5, A), failed("", **notes), failed("", **notes))


MEMORY, LOSS, VALUE = (
    fail(FailureKind(one)) for one in ("out of memory", "loss not finite", "value not a number")
)
DIED, DRAWN, NORM = (fail(one) for one in (FailureKind.WORKERS_DIED, FailureKind.SUGGEST, FailureKind.BATCH_NORM))
WEIGHTS, UNKNOWN = fail(FailureKind.WEIGHTS), fail(FailureKind.UNKNOWN)
FAILED_ONCE = plant(run(0.5, A), failed("CUDA out of memory"))
ALL_FAILED = plant(failed("CUDA out of memory"))

REHEARSED = plant(run(0.5, A), rehearsal=True)
REHEARSED_FAILED = plant(failed("CUDA out of memory"), rehearsal=True)
SHRUNK = plant(run(0.5, A), shrink=8)
NOTHING = plant()
RUNNING = plant(run(None, A, state="RUNNING"), run(None, B, state="WAITING"))
WAITING = plant(run(None, A, state="WAITING"), run(None, B, state="WAITING"))

REPEATED = [run(0.5, A), run(0.5, A), run(0.5, A)]
INSIDE = plant(*REPEATED, *[run(0.4, B)] * 17)
AT_END_OF_NO_RANGE = plant(*[run(0.5, {"k": 1})] * 20, kinds=K)
AT_ONLY_VALUE = plant(*[run(0.5, {"k": 8})] * 20, kinds={"k": {"kind": "int", "low": 8, "high": 8}})
WITHOUT_RANGES = plant(*[run(0.5, {})] * 4, kinds={})
AT_END = plant(run(0.5, {"lr": 0.09}), run(0.4, A))
NEAR_NO_END = plant(run(0.5, A), run(0.4, {"lr": 0.09}))  # at an end, but not the best
GIVEN_AT_END = plant(run(0.5, {"lr": 0.09}), kind=StudyKind.TABLE, subject="t")

RISING = plant(run(0.5, A, curve=[0.1, 0.2, 0.5]))
RISEN = plant(run(0.5, A, curve=[0.1, 0.5, 0.4]))
FALLING = [(0.9, 0.8), (0.8, 0.5), (0.7, 0.6), (0.6, 0.7), (0.5, 0.8)]
OVERFITTED = plant(run(0.5, A, curve=[0.5] * 5, losses=FALLING))
DIVERGED = plant(run(0.5, A, curve=[0.5] * 5, losses=[(0.9, 0.8), (0.2, 0.5), (0.9, 0.6), (0.7, 0.7), (0.6, 0.8)]))
HEALTHY = plant(run(0.5, A, curve=[0.5] * 5, losses=[(0.9 - at / 10, 0.9 - at / 10) for at in range(5)]))

TIED = plant(run(0.500, A), run(0.499, B), run(0.502, A), run(0.400, C))
TIED_REPEATS = plant(run(0.500, A), run(0.502, A), run(0.1, B))  # the best has only itself beside it
TIED_ROWS = plant(run(0.500, A), run(0.499, B), run(0.502, A), kind=StudyKind.TABLE, subject="t")
AHEAD_ROWS = plant(run(0.500, A), run(0.502, A), run(0.1, B), kind=StudyKind.TABLE, subject="t")
TWO = plant(run(0.5, A), run(0.4, B))
EXTENDED = plant(run(0.5, A), run(0.4, B), kind=StudyKind.EXTENSION, subject="t")


def vary(share_of_k: float) -> PlantedStudy:
    """Return a search whose values follow lr, and k by this much."""
    rng = np.random.default_rng(7)
    rates, widths = 10 ** rng.uniform(-4.5, -1.5, 120), rng.integers(4, 60, 120)
    values = 0.5 + 0.1 * np.log10(rates / 1e-3) + share_of_k * (widths - 32) / 64
    drawn = zip(values, rates, widths, strict=True)
    return plant(*[run(float(v), {"lr": float(r), "k": int(k)}) for v, r, k in drawn], kinds=LR | K)


INDIFFERENT, SENSITIVE = vary(0.0), vary(0.3)
BEST_K = max(INDIFFERENT.study.trials, key=lambda one: one.final_value).params["k"]
RECIPE = Recipe("segmentation", use("shapes"), use("unet"), use("bce"), use("adam"))
READABLE = plant(run(0.5, A, notes={"recipe": RECIPE.to_json()}))

TOLD = "no trial is running; 2 trials in the queue"
ADVICE = (
    Sentence("Reduce image_size or the width, or use a GPU", MEMORY, FAILED_ONCE),
    Sentence("Lower the upper end of lr, or train with", LOSS, MEMORY),
    Sentence("Lower the upper end of lr, or train with", VALUE, WEIGHTS),
    Sentence("Read the logs of the workers: a killed process", DIED, MEMORY),
    Sentence("Correct the space: some of its draws raise an error", DRAWN, NORM),
    Sentence("Narrow the space: larger batches or images", NORM, DRAWN),
    Sentence("Check that the file or the study of the weights", WEIGHTS, DIED),
    Sentence("Read the reason and correct it", UNKNOWN, MEMORY),
    Sentence("{} of {} trials failed: {} (trial {}: {})", MEMORY, FAILED_ONCE,
             says="2 of 3 trials failed: out of memory (trial 1: it broke)"),
    Sentence("this was a rehearsal at toy size", REHEARSED, SHRUNK),
    Sentence("Run it at full size", REHEARSED, ONE),
    Sentence("Run it at full size", SHRUNK, ONE),
    Sentence("these numbers are of {}: their order", SHRUNK, REHEARSED,
             says="numbers are of 1/8 of the size: their"),
    Sentence("Nothing stands out: the search covered its space, and its best lies well inside.", INSIDE,
             AT_END_OF_NO_RANGE),
    Sentence("Nothing stands out: the search covered its space, and its best lies well inside.", INSIDE,
             AT_ONLY_VALUE),
    Sentence("Nothing stands out: the search covered its space, and its best lies well inside.", INSIDE,
             WITHOUT_RANGES),
    Sentence("Nothing stands out.", AT_ONLY_VALUE, ONE),
    Sentence("no trial has finished yet, and training goes on", RUNNING, WAITING),
    Sentence("no trial has finished yet, and training goes on", RUNNING, ONE),
    Sentence("no trial is running; {} in the queue", WAITING, RUNNING, says=TOLD),
    Sentence("no trial has started", NOTHING, WAITING),
    Sentence("Rehearse it again", REHEARSED_FAILED, ALL_FAILED),
    Sentence("no trial of the rehearsal has finished", REHEARSED_FAILED, REHEARSED),
    Sentence("Run it at toy size first", ALL_FAILED, REHEARSED_FAILED),
    Sentence("no trial has finished", ALL_FAILED, ONE, shown="first: no trial has finished."),
    Sentence("the best epoch of trial {} is its last, {}", RISING, RISEN,
             says="of trial 0 is its last, 3: it was"),
    Sentence("the best {}, {}, lies at the end of its range ({})", AT_END, NEAR_NO_END,
             says="the best lr, 0.09, lies at the end of its range (1e-05 to 0.1)"),
    Sentence("Widen {} to {} to {}", AT_END, GIVEN_AT_END, says="Widen lr to 1e-05 to 0.3"),
    Sentence("trial.suggest_{}", AT_END, AT_END_OF_NO_RANGE,
             says='trial.suggest_float("lr", 1e-05, 0.3, log=True)'),
    Sentence("Regularize: more augmentation", OVERFITTED, HEALTHY),
    Sentence("rose from {} (epoch {}) to {} while the training loss fell", OVERFITTED, DIVERGED,
             says="rose from 0.5 (epoch 2) to 0.8 while the training loss fell"),
    Sentence("the validation loss of trial {} {}: it overfits", OVERFITTED, HEALTHY, says="loss of trial 0 rose"),
    Sentence("only {} for {}", TWO, INSIDE, says="only 2 trials for 1 parameter"),
    Sentence("Run more trials: {}", TWO, INSIDE, says="Run more trials: 20"),
    Sentence("Train each row with three seeds", TIED_ROWS, AHEAD_ROWS),
    Sentence("the best rows cannot be distinguished", TIED_ROWS, TIED),
    Sentence("the best trials cannot be told apart", TIED, TIED_REPEATS),
    Sentence("no parameters were trained twice to their end", TWO, TIED),
    Sentence("no parameters were trained twice to their end", TWO, EXTENDED),
    Sentence("Train the best trials and the default again", TWO, ONE),
    Sentence("it explains at most {} of the differences between", INDIFFERENT, SENSITIVE),
    Sentence("Fix {} at {} and search less", INDIFFERENT, SENSITIVE, says=f"Fix k at {BEST_K} and search less"),
    Sentence("from tuner import {}", READABLE, ONE, says="from tuner import Recipe, maximize, use"),
    Sentence("def suggest(trial):", READABLE, ONE),
)  # fmt: skip
