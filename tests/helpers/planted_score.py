"""A space of three parameters, and a score that one point of it has the best of."""

from __future__ import annotations

import math
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

SPACE: dict[str, BaseDistribution] = {
    "lr": FloatDistribution(1e-5, 1e-1, log=True),
    "loss": CategoricalDistribution(["bce", "dice", None]),
    "k": IntDistribution(8, 64, step=8),
}


def score(params: dict[str, Any]) -> float:
    """Best at a learning rate of 0.001, a width of 40 and the Dice loss."""
    return -abs(math.log10(params["lr"]) + 3) - abs(params["k"] - 40) / 40 - (params["loss"] != "dice")
