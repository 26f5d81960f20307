"""The goal of a search: one validation metric and a direction."""

from __future__ import annotations

import math
from dataclasses import dataclass

DIRECTIONS = ("maximize", "minimize")


@dataclass(frozen=True)
class Goal:
    """`metric` as measured on the validation split, made large (`maximize`) or small."""

    metric: str
    direction: str  # "maximize" or "minimize", as Optuna spells them

    def __post_init__(self) -> None:
        if not isinstance(self.metric, str):
            raise TypeError(f'a goal is {self.metric!r}; the name of a metric is needed, such as maximize("iou")')
        if self.direction not in DIRECTIONS:
            raise ValueError(f"a goal's direction is {self.direction!r}; write maximize(...) or minimize(...)")

    def is_better(self, new: float, old: float | None) -> bool:
        """Whether `new` beats `old`; the first finite value always does."""
        if old is None or math.isnan(old):
            return old is None or not math.isnan(new)
        return new > old if self.direction == "maximize" else new < old

    def __str__(self) -> str:
        return f"{self.direction} {self.metric}"


def maximize(metric: str) -> Goal:
    """Search for the largest validation `metric`."""
    return Goal(metric, "maximize")


def minimize(metric: str) -> Goal:
    """Search for the smallest validation `metric`."""
    return Goal(metric, "minimize")
