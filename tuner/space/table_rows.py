"""Draw the recipes of a published table's rows, and check that every row fits the space."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from tuner.errors import TableError, did_you_mean, first_lines, locate_error
from tuner.recipe import Recipe
from tuner.space.published import PublishedTable, without_split
from tuner.space.space import DrawnRecipes, Space, describe_parameter, merge_distributions
from tuner.tasks import find_task

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import FixedTrial


def draw_row_recipes(space: Space, table: PublishedTable, drawn: DrawnRecipes) -> DrawnRecipes:
    """Return the recipes of a table's rows; TableError lists every row that does not fit the space."""
    from optuna.trial import FixedTrial

    parameters = dict(drawn.parameters)
    recipes: list[Recipe] = []
    wrong = []
    for number, row in enumerate(table.rows, start=1):
        trial = FixedTrial(row.params)
        problems = [*find_impossible_values(row.params, drawn.parameters)]
        problems = problems or [*suggest_row(space, row.params, trial, recipes, drawn.parameters)]
        wrong += [f"row {number}: {line}" for line in problems]
        for name, kind in trial.distributions.items():
            parameters.setdefault(name, merge_distributions([kind]))
    wrong += find_unknown_metrics(table, recipes)
    if wrong:
        raise TableError(f"{table.path} does not fit the space {space.path}:{first_lines(wrong)}")
    points = tuple(row.params for row in table.rows)
    return DrawnRecipes(tuple(recipes), parameters, points=points)


def find_impossible_values(params: dict[str, Any], known: dict[str, dict[str, Any]]) -> Iterator[str]:
    """Yield messages about values of the wrong type or that are not among the choices."""
    for name, value in params.items():
        if name in known and not is_possible(value, known[name]):
            choices = known[name].get("choices", ())
            hint = did_you_mean(str(value), map(str, choices))
            yield f"{name} is {value!r}, outside {describe_parameter(known[name])}.{hint}"


def is_possible(value: Any, parameter: dict[str, Any]) -> bool:
    """Return whether a parameter, given as JSON, may have a value of this type."""
    if "choices" in parameter:
        return any(value == choice and type(value) is type(choice) for choice in parameter["choices"])
    kinds: tuple[type, ...] = (int,) if parameter["kind"] == "int" else (int, float)
    return isinstance(value, kinds) and not isinstance(value, bool)


def suggest_row(
    space: Space, params: dict[str, Any], trial: FixedTrial, recipes: list[Recipe], known: Iterable[str]
) -> Iterator[str]:
    """Append the recipe of a row, and yield messages about missing, unknown and ignored parameters."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # values out of range are reported below
            recipes.append(space.suggest(trial))  # type: ignore[arg-type]
    except Exception as error:
        lacks = [name for name in known if f"'{name}' is not found" in str(error)]
        yield from find_unknown_params(trial, params, known, lacks)
        missing = f"the parameter '{lacks[0]}' is missing" if lacks else ""
        yield missing or f"suggest() raised {locate_error(error, space.path)}"
        return
    yield from find_unknown_params(trial, params, known, [])
    for name, kind in trial.distributions.items():
        if not contains_value(kind, params[name]):
            yield f"{name} is {params[name]!r}, outside {describe_parameter(merge_distributions([kind]))}"


def contains_value(distribution: BaseDistribution, value: Any) -> bool:
    """Return whether a distribution contains a value; `create_trial` is the public check."""
    from optuna.trial import create_trial

    try:
        create_trial(value=0.0, params={"x": value}, distributions={"x": distribution})
    except (ValueError, OverflowError):
        return False
    return True


def find_unknown_params(
    trial: FixedTrial, params: dict[str, Any], known: Iterable[str], lacks: list[str]
) -> Iterator[str]:
    """Yield messages about parameters that the space did not suggest; if others are missing, unknown ones only."""
    for name in [name for name in params if name not in trial.distributions]:
        if name not in known:
            yield f"unknown parameter '{name}'.{did_you_mean(name, known)} The space has: {', '.join(known)}"
        elif not lacks:
            yield f"'{name}' is not used with its other parameters; leave it out"


def find_unknown_metrics(table: PublishedTable, recipes: list[Recipe]) -> Iterator[str]:
    """Yield messages about metrics that the task of the rows does not have."""
    known = find_task(recipes[0].task).metrics if recipes else {}
    for metric in dict.fromkeys([table.metric, *table.metrics]):
        name = without_split(metric)
        if known and name not in known and ":" not in name:  # iou:CLASS, or the user's own
            yield f"no metric '{name}' of the task.{did_you_mean(name, known)} Known: {', '.join(known)}"
