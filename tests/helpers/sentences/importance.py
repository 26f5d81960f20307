"""Sentences on which parameters matter."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from helpers.planted_studies import LOSS, LR, PlantedStudy, plant, run
from helpers.sentences import Sentence
from tuner.goal import minimize

RNG = np.random.default_rng(4)
NUMBER = 24
RATES = 10 ** RNG.uniform(-5, -1, NUMBER)
LOSSES = ["bce", "dice"] * (NUMBER // 2)
NOISE = 0.01 * RNG.standard_normal(NUMBER)
BY_RATE = 0.1 * np.log10(RATES)
BY_LOSS = np.array([0.2 if name == "dice" else 0.0 for name in LOSSES])


def vary(values: np.ndarray, losses: list[str] = LOSSES, number: int = NUMBER, **info: object) -> PlantedStudy:
    """Return a study of two parameters, the learning rate and the loss."""
    rows = zip(values[:number], RATES, losses, strict=False)
    trials = [run(float(value), {"lr": float(rate), "loss": loss}) for value, rate, loss in rows]
    return plant(*trials, kinds=LR | LOSS, **info)  # type: ignore[arg-type]


def adjusted_share(values: np.ndarray, *columns: np.ndarray) -> float:
    """Return the adjusted R² of a regression on the columns."""
    design = np.stack([np.ones(len(values)), *columns], axis=1)
    left = values - design @ np.linalg.lstsq(design, values, rcond=None)[0]
    explained = 1 - float(left @ left) / float(((values - values.mean()) ** 2).sum())
    return 1 - (1 - explained) * (len(values) - 1) / (len(values) - 1 - len(columns))


LOG = np.log(RATES)
IS_DICE = (BY_LOSS > 0).astype(float)
RATE_MATTERS = vary(0.8 + BY_RATE + NOISE)
BOTH_MATTER = vary(0.8 + BY_RATE + 0.5 * BY_LOSS + NOISE)
EQUAL = vary(0.8 + BY_RATE / np.std(BY_RATE) + BY_LOSS / np.std(BY_LOSS) + 20 * NOISE)
NEITHER = vary(0.5 + NOISE)
ALL_THE_SAME = vary(np.full(NUMBER, 0.5))
COSTS_THE_SAME = plant(*[run(0.5, {"lr": rate}) for rate in RATES], goal=minimize("loss"))
TOGETHER_VALUES = 0.5 + 0.2 * IS_DICE + 3 * NOISE
CROP = {"crop": {"kind": "categorical", "choices": [1, 2]}}
TOGETHER = plant(
    *[run(float(v), {"loss": n, "crop": 1 + (n == "dice")}) for v, n in zip(TOGETHER_VALUES, LOSSES, strict=True)],
    kinds=LOSS | CROP,
)
ALONE = f"{adjusted_share(TOGETHER_VALUES, IS_DICE):.0%}"
FEW = vary(0.8 + BY_RATE, number=5)
BARE = plant(*[run(float(0.5 + noise), {}) for noise in NOISE], kinds={})
NOT_VARIED = plant(*[run(float(0.5 + noise), {"lr": 1e-3}) for noise in NOISE])
CURVES = [[float(value) / 2, float(value)] for value in 0.8 + BY_RATE + NOISE]
PRUNED = plant(
    *[run(curve[-1], {"lr": rate}, curve=curve) for curve, rate in zip(CURVES, RATES, strict=True)],
    *[replace(run(0.1, {"lr": 1e-5}, curve=[0.05], state="PRUNED"))] * 2,
)

BOTH_WAYS = plant(
    *PRUNED.study.trials,
    run(0.1, {"lr": 1e-5}, curve=[0.05], state="PRUNED", paused_at=1),
)
PAUSED = plant(*PRUNED.study.trials[:NUMBER], BOTH_WAYS.study.trials[-1])

IMPORTANCE = (
    Sentence(
        "{} matters most: it explains {} {}.",
        RATE_MATTERS,
        NEITHER,
        f"lr matters most: it explains {adjusted_share(0.8 + BY_RATE + NOISE, LOG, LOG**2):.0%} (",
    ),
    Sentence(
        "of the differences between the values of {}",
        RATE_MATTERS,
        NEITHER,
        "between the values of 24 finished trials",
    ),
    Sentence("of the differences between the values of {}", PRUNED, NEITHER, "of 24 finished and 2 pruned trials"),
    Sentence("of the differences between the values of {}", PAUSED, NEITHER, "of 24 finished and 1 paused trial."),
    Sentence(
        "of the differences between the values of {}",
        BOTH_WAYS,
        NEITHER,
        "of 24 finished, 2 pruned and 1 paused trial.",
    ),
    Sentence(
        "From {} no parameter can be told to matter", NEITHER, RATE_MATTERS, "From 24 finished trials no parameter"
    ),
    Sentence(
        "so there are no differences to explain", ALL_THE_SAME, NEITHER, "All 24 finished trials have the same iou"
    ),
    Sentence("{} have the same {}", COSTS_THE_SAME, NEITHER, "all 24 finished trials have the same loss"),
    Sentence("Which matters most cannot be told: {} {}.", EQUAL, BOTH_MATTER),
    Sentence(
        "Which of these matters cannot be told, because they varied together",
        TOGETHER,
        BOTH_MATTER,
        f"alone, loss explains {ALONE} and crop explains {ALONE} of the differences",
    ),
    Sentence("Beyond that, {}.", BOTH_MATTER, RATE_MATTERS, "Beyond that, loss explains "),
    Sentence(
        "Of {} no effect can be told from chance.", RATE_MATTERS, BOTH_MATTER, "Of loss no effect can be told"
    ),
    Sentence(
        "{} with a value: too few to say which parameter", FEW, NEITHER, "5 trials with a value: too few to say"
    ),
    Sentence("{}; {} are needed", FEW, NEITHER, "too few to say which parameter matters; 6 are needed"),
    Sentence(
        "no parameter that all {} have was varied",
        NOT_VARIED,
        BARE,
        "no parameter that all 24 finished trials have",
    ),
    Sentence("the trials have no parameters", BARE, NOT_VARIED),
    Sentence("no more than chance gives", RATE_MATTERS, BOTH_MATTER),
    Sentence("Share of the differences between the values, with 95 %", RATE_MATTERS, FEW),
)
