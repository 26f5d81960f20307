"""Smaller than life: the rehearsal at toy size, so that a night of GPUs is not lost to a typo; and the same
space or table at a fraction of its size on the real data.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tuner.recipe import Part, Recipe, is_number
from tuner.registry import locate, searchable
from tuner.tasks import find_task

NUM_TRIALS = 8
SHRINK = 8  # image size and width are divided by this,
FEWER = 8  # epochs by this, or by more where
MOST_EPOCHS = 13  # would be exceeded
SMALLEST_SIDE = 32  # pixels,
WITH_INSTANCES = 64  # or this, for each of many things to have some
BATCH = 8
WIDTHS = ("k", "width", "hidden", "reduced")  # the arguments of models that are widths
LEAST_WIDTH = 4
SIDES, AREAS = ("anchor",), ("min_size",)  # arguments of models in pixels of the image, and in their square
GENERATED = {"masks": "shapes", "labels": "scenes", "classes": "badges", "instances": "cells"}  # by targets


def rehearse(recipe: Recipe) -> Recipe:
    """The toy version of a recipe: generated data and weights, and everything that costs time divided."""
    toy = reduced(recipe, SHRINK, max(FEWER, -(-recipe.epochs // MOST_EPOCHS)))
    kept = {name: value for name, value in toy.data.args.items() if name in ("val", "split_seed", "image_size")}
    weights = recipe.weights if recipe.weights.name == "none" else Part("random", {"part": rehearsed_part(recipe)})
    return replace(
        toy,
        data=Part(GENERATED[find_task(recipe.task).targets], kept),
        weights=weights,
        loss=of_any_classes(recipe.loss),
        batch_size=min(recipe.batch_size, BATCH),
    )


def of_any_classes(loss: Part) -> Part:
    """Class weights given as a list are of the real classes; the generated ones are weighed by frequency."""
    is_list = isinstance(loss.args.get("weights"), list | tuple)
    return Part(loss.name, {**loss.args, "weights": "frequency"}) if is_list else loss


def rehearsed_part(recipe: Recipe) -> str:
    """The part carried from random weights: as from the real ones, and of ImageNet's the encoder."""
    return "encoder" if recipe.weights.name == "imagenet" else str(recipe.weights.args.get("part", "all"))


def reduced(recipe: Recipe, shrink: int, shorten: int) -> Recipe:
    """The recipe with image size and widths divided by `shrink`, epochs by `shorten`."""
    if shrink > 1:
        smallest = WITH_INSTANCES if find_task(recipe.task).has_instances else SMALLEST_SIDE
        size = max(smallest, recipe.image_size // shrink)
        data = Part(recipe.data.name, {**recipe.data.args, "image_size": size})
        model = in_scale(narrowed(recipe.model, shrink), size / max(1, recipe.image_size))
        recipe = replace(recipe, data=data, model=model)
    return shortened(recipe, shorten) if shorten > 1 else recipe


def narrowed(model: Part, shrink: int) -> Part:
    """The model with every width divided, those that it has by default as well."""
    from tuner.models import MODELS

    defaults = {name: p.default for name, p in searchable(locate("model", MODELS, model.name)).items()}
    given = {**defaults, **model.args}
    widths = {name: value for name, value in given.items() if name in WIDTHS and value is not None}
    return Part(model.name, {**model.args, **{name: narrow(value, shrink) for name, value in widths.items()}})


def in_scale(model: Part, scale: float) -> Part:
    """The model with what it measures in pixels of its image as small as that has become."""
    sides = {name: along(model.args[name], scale) for name in SIDES if name in model.args}
    areas = {name: along(model.args[name], scale**2) for name in AREAS if name in model.args}
    return Part(model.name, {**model.args, **sides, **areas})


def along(value: Any, scale: float) -> Any:
    """A number of pixels, or each of several, scaled; at least one."""
    if isinstance(value, list | tuple):
        return [along(each, scale) for each in value]
    return max(1, round(value * scale)) if is_number(value) else value


def narrow(value: object, shrink: int) -> int:
    return max(LEAST_WIDTH, int(value) // shrink) if isinstance(value, int) else LEAST_WIDTH


def shortened(recipe: Recipe, shorten: int) -> Recipe:
    """Fewer epochs, of every stage."""
    if not recipe.stages:
        return replace(recipe, epochs=max(2, round(recipe.epochs / shorten)))
    stages = tuple(replace(stage, epochs=max(1, round(stage.epochs / shorten))) for stage in recipe.stages)
    return replace(recipe, stages=stages, epochs=sum(stage.epochs for stage in stages))
