"""The trained model of a bundle: its recipe is tried without memory first, then its weights are loaded."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tuner.errors import BundleError, PartError, first_line, first_lines
from tuner.goal import minimize
from tuner.models import MODELS
from tuner.recipe import Recipe
from tuner.registry import part_problems
from tuner.space.check import number_problems, recipe_problems
from tuner.space.meta_model import build_on_meta, run_model
from tuner.tasks import find_task
from tuner.train.checkpoint import check_weights, load_weights
from tuner.train.trainer import build_model

log = logging.getLogger("tuner")


def load_trained_model(recipe: Recipe, weights: Path, is_tried: bool = True) -> nn.Module:
    """Return the model in eval mode; BundleError if the recipe's numbers or the weights are wrong.

    Without `is_tried`, a model of tuner's own that predicts no instances is not tried at its image size first.
    """
    where = weights.parent
    task = find_task(recipe.task)
    if wrong := [*number_problems(recipe), *part_problems("model", MODELS, recipe.model)]:
        raise PartError(f"{where / 'recipe.json'} is wrong:{first_lines(wrong)}")
    check_fit(recipe, weights, is_tried=is_tried)
    model = build_model(recipe, task)
    load_weights(model, weights)
    if spoiled := sum(map(has_nan, tensors := model.state_dict().values())):
        log.warning("%s: %d of %d tensors hold NaN; its predictions mean nothing", where, spoiled, len(tensors))
    return model.eval()


def check_scorable(recipe: Recipe, weights: Path) -> None:
    """Raise BundleError if any part of the recipe cannot be built, or the weights are not of its model."""
    built: dict[object, Any] = {}
    if wrong := recipe_problems(recipe, minimize("loss"), built):  # it runs the model
        raise BundleError(f"{weights.parent / 'recipe.json'} is wrong:{first_lines(wrong)}")
    check_fit(recipe, weights, built)


def check_fit(
    recipe: Recipe, weights: Path, built: dict[object, Any] | None = None, is_tried: bool = True
) -> None:
    """Raise BundleError if the weights are not of the recipe's model, before memory is taken for it.

    A model in `built` has run already.
    """
    where, task = weights.parent, find_task(recipe.task)
    runs = is_tried or task.has_instances or bool(recipe.own_names)
    if task.has_classes and not recipe.classes:
        raise BundleError(f"{where / 'recipe.json'}: the task '{task.name}' needs classes, and there are none.")
    try:
        model = run_model(recipe, task, {}) if runs and not built else build_on_meta(recipe, task, built or {})
    except Exception as error:
        raise BundleError(f"{where}: its model cannot be used: {recipe.model}: {first_line(error)}.") from error
    try:
        check_weights(model, weights)
    except PartError as error:
        raise BundleError(str(error)) from error


def has_nan(tensor: torch.Tensor) -> bool:
    return tensor.is_floating_point() and bool(tensor.isnan().any())
