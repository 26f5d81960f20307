"""The points of a grid: every combination of the values of all parameters."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from tuner.errors import SpaceError, describe_value, did_you_mean, first_lines, format_names
from tuner.space.space import DrawnRecipes, describe_parameter
from tuner.space.table_rows import contains_value, is_possible

MOST_POINTS = 100_000
Grid = Mapping[str, Sequence[Any]]


def grid_point(grid: Grid, index: int) -> dict[str, Any]:
    """Return a point by its index from 0; the values of the last parameter change first."""
    point: dict[str, Any] = {}
    for name, values in reversed(list(grid.items())):
        index, at = divmod(index, len(values))
        point[name] = values[at]
    return point


def resolve_grid(given: Grid, drawn: DrawnRecipes, where: object) -> dict[str, list[Any]]:
    """Return the values of every parameter, given or all of its own; SpaceError lists all that is wrong."""
    wrong = [
        f"'{name}' is not a parameter of the space.{did_you_mean(name, drawn.parameters)} "
        f"It has: {format_names(drawn.parameters, 12)}."
        for name in given
        if name not in drawn.parameters
    ]
    grid: dict[str, list[Any]] = {}
    for name, parameter in drawn.parameters.items():
        if name in drawn.varying:
            wrong.append(
                f"'{name}' is drawn in some recipes only, or within other bounds; a grid needs all parameters in "
                "each recipe. Choose another sampler."
            )
        elif name in given:
            problems = [f"'{name}': {line}" for line in value_problems(given[name], parameter)]
            wrong += problems
            convert: Callable[[Any], Any] = float if parameter["kind"] == "float" else lambda value: value
            grid[name] = [] if problems else [convert(value) for value in given[name]]
        elif (number := count_values(parameter)) and number <= MOST_POINTS:
            grid[name] = own_values(parameter, number)
        else:
            example = f'grid={{"{name}": [{parameter["low"]:g}, {parameter["high"]:g}]}}'
            many = f"has {number:,} values" if number else "has no step"
            wrong.append(f"'{name}' {many}: {describe_parameter(parameter)}. Give its values: {example}.")
    if not wrong and (number := math.prod(map(len, grid.values()))) > MOST_POINTS:
        each = " x ".join(f"{len(values)} of {name}" for name, values in grid.items())
        wrong.append(f"it has {number:,} points ({each}); at most {MOST_POINTS:,} are possible.")
    if not drawn.parameters:
        wrong.append("the space has no parameters.")
    if wrong:
        raise SpaceError(f"{where} cannot be searched by a grid:{first_lines(wrong)}")
    return grid


def value_problems(values: Sequence[Any], parameter: dict[str, Any]) -> Iterator[str]:
    """Yield what is wrong with given values: those outside the parameter, and repeated ones."""
    seen: set[str] = set()
    for value in values:
        if not is_within(value, parameter):
            yield f"{describe_value(value)} is outside {describe_parameter(parameter)}."
        elif (key := repr(value)) in seen:
            yield f"{describe_value(value)} is given twice."
        else:
            seen.add(key)


def is_within(value: Any, parameter: dict[str, Any]) -> bool:
    """Return whether a parameter, as plain JSON, may have a value."""
    return is_possible(value, parameter) and contains_value(to_distribution(parameter), value)


def to_distribution(parameter: dict[str, Any]) -> Any:
    """Return Optuna's distribution of a parameter as plain JSON."""
    from optuna.distributions import json_to_distribution

    attributes = {name: value for name, value in parameter.items() if name != "kind"}
    kind = f"{parameter['kind'].capitalize()}Distribution"
    return json_to_distribution(json.dumps({"name": kind, "attributes": attributes}))


def count_values(parameter: dict[str, Any]) -> int:
    """Return the number of values of a parameter; 0 if it has no step."""
    if parameter["kind"] == "categorical":
        return len(parameter["choices"])
    if parameter["low"] == parameter["high"]:
        return 1
    step = parameter.get("step")
    return round((parameter["high"] - parameter["low"]) / step) + 1 if step else 0


def own_values(parameter: dict[str, Any], number: int) -> list[Any]:
    """Return all values of a parameter."""
    if parameter["kind"] == "categorical":
        return list(parameter["choices"])
    step = parameter.get("step") or 0
    return [min(parameter["low"] + at * step, parameter["high"]) for at in range(number)]
