"""How to train a trial's recipe again: as a space of its own, in Python."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tuner.goal import Goal
from tuner.recipe import Part, Recipe, Stage

LEFT_OUT = ("seed", "classes")  # set by the program


def as_space(plain: Mapping[str, Any], goal: Goal) -> str:
    """A space file that draws this recipe and no other; "" for a recipe that cannot be read."""
    try:
        recipe = Recipe.from_json(plain)
    except (ValueError, TypeError, KeyError, AttributeError):
        return ""
    usual = Recipe(recipe.task, recipe.data, recipe.model, recipe.loss, recipe.optimizer)
    given = {
        name: value
        for name, value in vars(recipe).items()
        if name not in LEFT_OUT
        and (value != getattr(usual, name) or name in ("task", "data", "model", "loss", "optimizer"))
    }
    given.pop("epochs" if recipe.stages else "", None)  # the stages' sum
    lines = "".join(f"        {name}={written(value)},\n" for name, value in given.items())
    names = ["Recipe", *(["Stage"] if recipe.stages else []), goal.direction, "use"]
    return (
        f"from tuner import {', '.join(names)}\n\nGOAL = {goal.direction}({goal.metric!r})\n\n\n"
        f"def suggest(trial):\n    return Recipe(\n{lines}    )\n"
    ).replace("'", '"')


def written(value: Any) -> str:
    """A value as Python has it."""
    if isinstance(value, Part):
        return f"use({', '.join([repr(value.name), *(f'{key}={arg!r}' for key, arg in value.args.items())])})"
    if isinstance(value, Stage):
        given = {key: arg for key, arg in vars(value).items() if arg not in (None, ())}
        return f"Stage({', '.join(f'{key}={written(arg)}' for key, arg in given.items())})"
    if isinstance(value, tuple) and value and isinstance(value[0], Stage):
        return f"[{', '.join(map(written, value))}]"
    return repr(value)
