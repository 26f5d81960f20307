"""The goal of a search, a validation metric and a direction, and the limits that its models must meet."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tuner.errors import describe_value, did_you_mean

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


MEASURES = {  # what a model costs; smaller is better, and a limit is the most that is allowed
    "params": "parameters of the model",
    "macs": "multiply-adds of the model for one image",
    "latency_ms": "milliseconds of the model for one image, on the device of the worker",
    "peak_memory_gb": "memory of a training step, in GB",
}


EPOCH_SECONDS = "epoch_seconds"  # mean seconds of an epoch: known at the end, so a goal and no limit
COSTS = {**MEASURES, EPOCH_SECONDS: "mean seconds of an epoch"}


def read_goals(given: object) -> tuple[Goal, ...]:
    """Return one or several goals, the first one first; ValueError says what is wrong with them."""
    goals = (given,) if isinstance(given, Goal) else given
    if not isinstance(goals, list | tuple) or not goals or not all(isinstance(goal, Goal) for goal in goals):
        example = 'GOAL = maximize("iou"), or GOAL = [maximize("iou"), minimize("params")]'
        raise ValueError(f"it is {describe_value(given)}; write for example {example}")
    if wrong := list(goals_problems(goals)):
        raise ValueError("; ".join(wrong))
    return tuple(goals)


def goals_problems(goals: Sequence[Goal]) -> Iterator[str]:
    """Yield what is wrong with goals whatever the task is."""
    if goals[0].metric in COSTS:
        yield (
            f"the first goal is {goals[0].metric}, which no training improves; put a metric of the validation "
            f'first, such as [maximize("iou"), minimize("{goals[0].metric}")]'
        )
    for goal in goals:
        if goal.metric in COSTS and goal.direction == "maximize":
            yield f'a goal maximizes {goal.metric}; smaller is better: write minimize("{goal.metric}")'
    metrics = [goal.metric for goal in goals]
    for metric in dict.fromkeys(metric for metric in metrics if metrics.count(metric) > 1):
        yield f"two goals are of {metric}; each needs a metric of its own"


def read_limits(given: object) -> dict[str, float]:
    """Return limits by measure; ValueError lists all that is wrong with them."""
    if not isinstance(given, Mapping):
        raise ValueError(f'they are {describe_value(given)}; write for example {{"params": 2e6}}')
    if wrong := list(limit_problems(given)):
        raise ValueError("; ".join(wrong))
    return {str(name): float(limit) for name, limit in given.items()}


def limit_problems(limits: Mapping[object, object]) -> Iterator[str]:
    for name, limit in limits.items():
        if name not in MEASURES:
            known = ", ".join(MEASURES)
            yield f"there is no limit of {describe_value(name)}.{did_you_mean(str(name), MEASURES)} Known: {known}"
        elif isinstance(limit, bool) or not isinstance(limit, int | float) or not 0 < limit < math.inf:
            yield f"the limit of {name} is {describe_value(limit)}; a number above 0 is needed"


def format_measure(name: str, value: float) -> str:
    """Return text such as 'params 1.94e+06' or 'latency_ms 20'."""
    return f"{name} {value:.3g}"


def describe_limits(limits: Mapping[str, float]) -> str:
    """Return text such as 'params at most 2e+06, latency_ms at most 20'."""
    return ", ".join(f"{name} at most {limit:g}" for name, limit in limits.items())


def over_limits(measured: Mapping[str, float], limits: Mapping[str, float]) -> dict[str, float]:
    """Return the measured values that are above their limits."""
    return {name: measured[name] for name in limits if measured.get(name, 0.0) > limits[name]}


def describe_excess(over: Mapping[str, float], limits: Mapping[str, float]) -> str:
    """Return text such as 'params 3.1e+06, limit 2e+06'."""
    return "; ".join(f"{format_measure(name, value)}, limit {limits[name]:.3g}" for name, value in over.items())
