"""The default of a space: the first point of its START, and the middle of each range that this leaves open.

`draw_default` runs in the process of the space.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


def middle_of(parameters: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the middle of each parameter's range, on its scale; of choices the first one."""
    return {name: middle_value(parameter) for name, parameter in parameters.items()}


def middle_value(parameter: Mapping[str, Any]) -> Any:
    if parameter["kind"] == "categorical":
        return parameter["choices"][0]
    low, high, step = parameter["low"], parameter["high"], parameter.get("step")
    middle = math.sqrt(low * high) if parameter.get("log") else (low + high) / 2
    if step:
        middle = low + step * round((middle - low) / step)
    return round(middle) if parameter["kind"] == "int" else middle


def draw_default(parameters: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return the default of the space that was drawn last: its parameters, their ranges, and its recipe."""
    from optuna.distributions import distribution_to_json

    from tuner.space.drawing import DRAWN
    from tuner.space.start_points import suggest_with

    space = DRAWN[0].space
    point = middle_of(parameters) | (space.start[0] if space.start else {})
    recipe, distributions = suggest_with(space, point)
    known = {name: each for name, each in distributions.items() if name in point}
    return {
        "params": {name: point[name] for name in known},
        "distributions": {name: distribution_to_json(each) for name, each in known.items()},
        "recipe": recipe.to_json(),
    }
