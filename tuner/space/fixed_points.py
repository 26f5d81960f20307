"""The recipes of fixed points of a space, which tell whether its code has changed since a study began.

`recipes_at` runs in the process of the space. A recipe is compared field by field, without what does not belong to
the code: the name of the data, folders, and what differs from one call of `suggest` to the next.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from tuner.errors import printable
from tuner.recipe import Part, Recipe, is_number

SET_BY_PROGRAM = ("version", "seed", "classes")
ERROR = "suggest()"  # the field with the error of a point without a recipe
ABSENT = "absent"
LONGEST_SHOWN = 80  # characters of a value
Fields = Mapping[str, Any]  # of a recipe, such as {"epochs": 5, "model": "unet", "model.k": 64}


@dataclass(frozen=True)
class RecipeSample:
    """Points of a space, each with the fields of its recipe."""

    points: tuple[dict[str, Any], ...]
    recipes: tuple[Fields, ...]


def recipes_at(points: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the fields of the recipe at each point of the space that was drawn last, in the size that was chosen.

    Each recipe is made twice, and a field that differs between both is left out everywhere.
    """
    first, again = ([fields_at(point) for point in points] for _ in range(2))
    varying = {name for one, other in zip(first, again, strict=True) for name in differing(one, other)}
    return [{name: value for name, value in each.items() if name not in varying} for each in first]


def fields_at(point: dict[str, Any]) -> dict[str, Any]:
    from optuna.trial import FixedTrial

    from tuner.registry.own_modules import importing_own
    from tuner.space.drawing import DRAWN, resize_recipe

    drawn = DRAWN[0]
    try:
        with warnings.catch_warnings(), importing_own():
            warnings.simplefilter("ignore")  # a value outside the bounds, which may change within a study
            recipe = drawn.space.suggest(FixedTrial(point))  # type: ignore[arg-type]
            return dict(flatten_recipe(resize_recipe(recipe, drawn.choice).to_json()))
    except (Exception, SystemExit) as error:
        return {ERROR: type(error).__name__}


def flatten_recipe(plain: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the fields of a recipe given as JSON, and the arguments of its parts and stages."""
    for name, value in plain.items():
        if name not in SET_BY_PROGRAM:
            for path, each in flatten_value(name, value):
                if path == "data" or (path.startswith("data.") and isinstance(each, str)):
                    continue  # a folder, or how it is read
                yield path, each.rpartition("/")[2] if path == "weights" else each


def flatten_value(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value.keys() == {"name", "args"}:
        yield path, value["name"]
        for name, each in value["args"].items():
            yield f"{path}.{name}", each
    elif path == "stages":
        for number, stage in enumerate(value, start=1):
            for name, each in stage.items():
                yield from flatten_value(f"stage {number}.{name}", each)
    else:
        yield path, value


@cache
def default_fields() -> Fields:
    """Return the fields of a recipe that have a default."""
    part = Part("")
    plain = Recipe("", part, part, part, part).to_json()
    return {name: value for name, value in flatten_recipe(plain) if name != "task" and value != ""}


def differing(before: Fields, after: Fields) -> Iterator[str]:
    """Yield the fields that differ; of another part only its name, as its arguments are others."""
    if ERROR in before or ERROR in after:
        if before.get(ERROR) != after.get(ERROR):
            yield ERROR
        return
    for name in dict.fromkeys([*before, *after]):
        part = name.rpartition(".")[0]
        if before.get(part) == after.get(part) and not is_same(value_of(before, name), value_of(after, name)):
            yield name


def value_of(recipe: Fields, name: str) -> Any:
    return recipe.get(name, default_fields().get(name, ABSENT))


def is_same(before: Any, after: Any) -> bool:
    """Return whether two plain values are equal, numbers up to their last digits, which depend on the host."""
    if is_number(before) and is_number(after):
        return math.isclose(before, after, rel_tol=1e-9)
    return type(before) is type(after) and bool(before == after)


def describe_changes(before: RecipeSample, after: RecipeSample) -> list[str]:
    """Return a line for each field that differs at the same points, such as 'epochs: from 5 to 2'."""
    found: dict[str, list[tuple[str, str]]] = {}
    for old, new in zip(before.recipes, after.recipes, strict=True):
        for name in differing(old, new):
            found.setdefault(name, []).append((show(old, name), show(new, name)))
    lines = []
    for name, pairs in found.items():
        (old_text, new_text), is_one = pairs[0], len(set(pairs)) == 1
        where = "" if len(pairs) == len(before.recipes) else f", in {len(pairs)} of {len(before.recipes)} recipes"
        lines.append(f"{name}: {'' if is_one else 'such as '}from {old_text} to {new_text}{where}")
    return lines


def show(recipe: Fields, name: str) -> str:
    """Return the value of a field as text."""
    if name == ERROR:
        return recipe.get(ERROR, "a recipe")
    return printable(str(value_of(recipe, name)), LONGEST_SHOWN)
