"""Smaller versions of recipes: the rehearsal on generated data, and fractions of the size on the real data."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from tuner.errors import escape
from tuner.recipe import Part, Recipe, is_number
from tuner.registry import find_builder, searchable_args
from tuner.tasks import find_task

NUM_TRIALS = 8
SIZE_DIVISOR = 8  # image size and width are divided by this,
EPOCH_DIVISOR = 8  # epochs by this, or by more where
MAX_EPOCHS = 13  # would be exceeded
KEPT_DATA_ARGS = ("val", "split_seed", "split", "image_size")
MIN_SIDE = 32  # pixels,
MIN_SIDE_INSTANCES = 64  # or this, for each of many things to have some
MAX_BATCH = 8
WIDTH_ARGS = ("k", "width", "hidden", "reduced")  # the arguments of models that are widths
MIN_WIDTH = 4
SIDES, AREAS = ("anchor",), ("min_size",)  # arguments of models in pixels of the image, and in their square
GENERATED_DATA = {"masks": "shapes", "labels": "scenes", "classes": "badges", "instances": "cells"}  # by targets


def rehearse(recipe: Recipe) -> Recipe:
    """Return a small version of a recipe, with generated data and weights, that runs in seconds."""
    toy = reduce_recipe(recipe, SIZE_DIVISOR, max(EPOCH_DIVISOR, -(-recipe.epochs // MAX_EPOCHS)))
    kept = {name: value for name, value in toy.data.args.items() if name in KEPT_DATA_ARGS}
    weights = recipe.weights if recipe.weights.name == "none" else Part("random", {"part": recipe.weights_part})
    return replace(
        toy,
        data=Part(GENERATED_DATA[find_task(recipe.task).targets], kept),
        weights=weights,
        loss=adapt_class_weights(recipe.loss),
        batch_size=min(recipe.batch_size, MAX_BATCH),
    )


def adapt_class_weights(loss: Part) -> Part:
    """Replace a list of class weights, which fits the real classes only, by weights from class frequencies."""
    is_list = isinstance(loss.args.get("weights"), list | tuple)
    return Part(loss.name, {**loss.args, "weights": "frequency"}) if is_list else loss


def reduce_recipe(recipe: Recipe, shrink: int, shorten: int) -> Recipe:
    """Return the recipe with image size and widths divided by `shrink`, epochs by `shorten`."""
    if shrink > 1:
        smallest = MIN_SIDE_INSTANCES if find_task(recipe.task).has_instances else MIN_SIDE
        size = max(smallest, recipe.image_size // shrink)
        data = Part(recipe.data.name, {**recipe.data.args, "image_size": size})
        model = scale_pixel_args(narrow_model(recipe.model, shrink), size / max(1, recipe.image_size))
        recipe = replace(recipe, data=data, model=model)
    return shorten_recipe(recipe, shorten) if shorten > 1 else recipe


def default_name(name: str, swapped: str, is_rehearsal: bool, shrink: int, shorten: int) -> str:
    """Return the name of a study of a space or table, with suffixes if the dataset or size is not its own.

    `swapped` is the dataset that was given in place of its own, or "".
    """
    if is_rehearsal:
        return f"{name}-rehearsal"
    return f"{name}{f'@{escape(Path(swapped).name)}' if swapped else ''}{size_suffix(shrink, shorten)}"


def size_suffix(shrink: int, shorten: int) -> str:
    """Return the end of the name of a study in a fraction of its size."""
    parts = (("shrink", shrink), ("shorten", shorten))
    return "".join(f"-{name}{by}" for name, by in parts if by > 1)


def narrow_model(model: Part, shrink: int) -> Part:
    """Return the model with every width divided, including default widths."""
    from tuner.models import MODELS

    defaults = {name: p.default for name, p in searchable_args(find_builder("model", MODELS, model.name)).items()}
    given = {name: value for name, value in {**defaults, **model.args}.items() if value is not None}
    widths = {name: divide_width(value, shrink) for name, value in given.items() if name in WIDTH_ARGS}
    return Part(model.name, {**model.args, **widths})


def scale_pixel_args(model: Part, scale: float) -> Part:
    """Return the model with its arguments in pixels scaled like the image."""
    sides = {name: scale_pixels(model.args[name], scale) for name in SIDES if name in model.args}
    areas = {name: scale_pixels(model.args[name], scale**2) for name in AREAS if name in model.args}
    return Part(model.name, {**model.args, **sides, **areas})


def scale_pixels(value: Any, scale: float) -> Any:
    """Scale a number of pixels, or each of a list, to at least one."""
    if isinstance(value, list | tuple):
        return [scale_pixels(each, scale) for each in value]
    return max(1, round(value * scale)) if is_number(value) else value


def divide_width(value: object, shrink: int) -> int:
    return max(MIN_WIDTH, int(value) // shrink) if isinstance(value, int) else MIN_WIDTH


def shorten_recipe(recipe: Recipe, shorten: int) -> Recipe:
    """Return the recipe with its epochs, or those of every stage, divided."""
    if not recipe.stages:
        return replace(recipe, epochs=max(2, round(recipe.epochs / shorten)))
    stages = tuple(replace(stage, epochs=max(1, round(stage.epochs / shorten))) for stage in recipe.stages)
    return replace(recipe, stages=stages, epochs=sum(stage.epochs for stage in stages))
