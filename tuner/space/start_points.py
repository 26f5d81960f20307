"""START of a space: points that are trained first, all or some of their parameters given."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tuner.errors import (
    SpaceError,
    describe_value,
    did_you_mean,
    first_lines,
    format_names,
    locate_error,
    printable,
)
from tuner.recipe import Recipe
from tuner.registry.own_modules import importing_own
from tuner.space.grid import is_within
from tuner.space.space import DrawnRecipes, Space, describe_parameter, merge_distributions
from tuner.space.table_rows import contains_value

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

MOST_POINTS = 1000


def draw_start(space: Space, drawn: DrawnRecipes) -> list[Recipe]:
    """Return a recipe for each point of START; SpaceError lists all that is wrong with any of them."""
    points, recipes, wrong = space.start, list[Recipe](), list[str]()
    if len(points) > MOST_POINTS:
        wrong.append(f"it has {len(points):,} points; at most {MOST_POINTS:,} are possible")
    for number, point in enumerate(points[:MOST_POINTS], start=1):
        problems = [*point_problems(point, drawn)] or [*suggest_point(space, point, recipes)]
        if point in points[: number - 1]:
            problems.append("it is given twice")
        wrong += [f"point {number}: {line}" for line in problems]
    if wrong:
        raise SpaceError(f"START of {space.path} does not fit the space:{first_lines(wrong)}")
    return recipes


def add_prior(space: Space, prior: Mapping[str, Sequence[Any]], drawn: DrawnRecipes) -> Space:
    """Return the space with a prior as its last point of START; SpaceError lists all that is wrong."""
    point = {name: value for name, (value, _) in prior.items()}
    if point and (wrong := list(point_problems(point, drawn))):
        raise SpaceError(f"the prior does not fit {space.path}:{first_lines(wrong)}")
    return replace(space, start=(*space.start, *(p for p in fit_points(space, [point]) if p not in space.start)))


def point_problems(point: Any, drawn: DrawnRecipes) -> Iterator[str]:
    """Yield what is wrong with a point as it stands: unknown parameters, and values of another kind."""
    if not isinstance(point, dict) or not point:
        yield f'{describe_value(point)} is not a point; give parameters and values: {{"lr": 1e-3}}'
        return
    known = drawn.parameters
    for name, value in point.items():
        if name not in known:
            hint, has = did_you_mean(str(name), known), format_names(known, 12) or "none"
            yield f"unknown parameter '{printable(name)}'.{hint} The space has: {has}"
        elif not is_within(value, known[name]):
            hint = did_you_mean(str(value), map(str, known[name].get("choices", ())))
            yield f"{name} is {describe_value(value)}, outside {describe_parameter(known[name])}.{hint}"


def suggest_point(space: Space, point: dict[str, Any], recipes: list[Recipe]) -> Iterator[str]:
    """Append the recipe of a point, the other parameters drawn, and yield what does not fit."""
    try:
        recipe, distributions = suggest_with(space, point)
    except (Exception, SystemExit) as error:
        yield f"suggest() raised {locate_error(error, space.path)}"
        return
    recipes.append(recipe)
    for name, value in point.items():
        distribution = distributions.get(name)
        if distribution is None:
            yield f"'{name}' is not used with its other parameters; leave it out"
        elif not contains_value(distribution, value):
            yield f"{name} is {value!r}, outside {describe_parameter(merge_distributions([distribution]))}"


def suggest_with(space: Space, point: dict[str, Any]) -> tuple[Recipe, dict[str, BaseDistribution]]:
    """Return the recipe of a point, the other parameters drawn, and the distributions of all its parameters."""
    import optuna

    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.enqueue_trial(point)
    trial = study.ask()
    with warnings.catch_warnings(), importing_own():
        warnings.simplefilter("ignore")  # values out of range are looked at by the caller
        return space.suggest(trial), trial.distributions


def fit_points(space: Space, points: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return points of another space with the values that this one may have; without those that fit nowhere."""
    fitting = []
    for point in filter(None, points):
        try:
            _, distributions = suggest_with(space, point)
        except (Exception, SystemExit):
            continue
        kept = {k: v for k, v in point.items() if k in distributions and contains_value(distributions[k], v)}
        if kept and kept not in fitting:
            fitting.append(kept)
    return fitting
