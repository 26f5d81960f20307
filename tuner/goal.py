"""The goal of a search: one validation metric and a direction."""

from __future__ import annotations

import math
from dataclasses import dataclass

DIRECTIONS = ("maximize", "minimize")


@dataclass(frozen=True)
class Goal:
    """A validation metric and the direction in which to optimize it."""

    metric: str
    direction: str  # "maximize" or "minimize", as Optuna spells them

    def __post_init__(self) -> None:
        if not isinstance(self.metric, str):
            raise TypeError(f'a goal is {self.metric!r}; the name of a metric is needed, such as maximize("iou")')
        if self.direction not in DIRECTIONS:
            raise ValueError(f"a goal's direction is {self.direction!r}; write maximize(...) or minimize(...)")

    def is_better(self, new: float, old: float | None) -> bool:
        """Return whether `new` is better than `old`; any finite value is better than None or nan."""
        if old is None or math.isnan(old):
            return old is None or not math.isnan(new)
        return new > old if self.direction == "maximize" else new < old

    def __str__(self) -> str:
        return f"{self.direction} {self.metric}"


def maximize(metric: str) -> Goal:
    """Return the goal of the largest validation `metric`."""
    return Goal(metric, "maximize")


def minimize(metric: str) -> Goal:
    """Return the goal of the smallest validation `metric`."""
    return Goal(metric, "minimize")
