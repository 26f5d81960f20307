"""Run a recipe's model on the meta device, which computes shapes without data."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from importlib import import_module
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from tuner.errors import format_names
from tuner.models import INSTANCE_MODELS
from tuner.models.blocks import SIDES
from tuner.recipe import Recipe
from tuner.tasks import Task
from tuner.train.lean_torch import avoid_compiler_import
from tuner.train.losses import OWN, WATERSHED
from tuner.train.measures import count_macs, count_params, predict_memory
from tuner.train.stages import freeze, make_optimizer
from tuner.train.trainer import CHANNELS, build_model

RANDOM_INIT = ("normal_", "uniform_", "trunc_normal_", "kaiming_normal_", "kaiming_uniform_")


def prepare_meta_device() -> None:
    """Import what runs on the meta device, which takes seconds, without the compiler."""
    import_module("torch._refs")  # before what it excludes from compilation is marked
    avoid_compiler_import()


class SkippedInit(TorchFunctionMode):
    """Leave weights on the meta device as they are: without numbers, drawing them still takes most of the time."""

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        weights = args[0] if args else (kwargs or {}).get("tensor")
        if function.__name__ in RANDOM_INIT and isinstance(weights, Tensor) and weights.is_meta:
            return weights
        return function(*args, **(kwargs or {}))


def build_on_meta(recipe: Recipe, task: Task, built: dict[object, Any]) -> Any:
    """Return the model on the meta device, from `built` if it is there.

    A model that needs real numbers is built on the CPU and moved.
    """
    key = f"{recipe.model} with {task.num_outputs(recipe)} outputs"
    if key not in built:
        try:
            with torch.device("meta"), SkippedInit():
                built[key] = build_model(recipe, task)
        except RuntimeError as error:
            if "meta tensor" not in str(error):
                raise
            with torch.random.fork_rng(devices=[]):
                built[key] = build_model(recipe, task).to("meta")
    return built[key]


def run_model(recipe: Recipe, task: Task, built: dict[object, Any]) -> Any:
    """Run the model on its image size and return it; ValueError suggests another size if the model rejects it."""
    prepare_meta_device()
    model, size = build_on_meta(recipe, task, built), recipe.image_size
    if task.has_instances and not hasattr(model, "instances"):
        known = format_names(INSTANCE_MODELS)
        raise ValueError(f"it does not predict instances: the task '{task.name}' needs a model such as {known}")
    probe = getattr(model, "probe", model)  # the part of the model that runs without real numbers

    def output(side: int) -> tuple[int, ...]:
        return tuple(probe(torch.empty(2, CHANNELS, side, side, device="meta")).shape)

    def fits(side: int) -> bool:
        with suppress(Exception):
            return bool(output(side))
        return False

    try:
        given = output(size)
    except Exception as error:
        other = next((side for side in SIDES if side != size and fits(side)), None)
        raise ValueError(
            f"{str(error) or type(error).__name__}{f' (image_size={other} works)' * bool(other)}"
        ) from error
    if task.has_instances:
        check_own_losses(model, recipe)
        if recipe.loss.name == WATERSHED and (len(given) != 4 or given[1] < 2 or given[2:] != (size, size)):
            raise ValueError(
                f"its output is {given}, not a mask and energy of {size} px: its base is not a segmentation model"
            )
        return model
    wanted = (2, task.num_outputs(recipe), *((size, size) if task.output_kind == "masks" else ()))
    if given != wanted:
        kind = "mask" if task.output_kind == "masks" else "class"
        raise ValueError(f"its output is {given}, not a {kind} per image: the task '{task.name}' needs {wanted}")
    return model


def measure_model(
    recipe: Recipe,
    task: Task,
    names: Iterable[str],
    built: dict[object, Any],
    batch: int | None = None,
    dtype: torch.dtype | None = None,
) -> dict[str, float]:
    """Return those of the named measures that follow from the model alone, from `built` if they are there.

    `batch` and `dtype` are those of a training step; without them it is the least that the recipe allows.
    """
    prepare_meta_device()
    batch = batch or recipe.batch_size
    dtype = dtype or (torch.float32 if recipe.precision == "fp32" else torch.bfloat16)
    ways = {
        "params": count_params,
        "macs": lambda model: count_macs(model, recipe.image_size),
        "peak_memory_gb": lambda model: predict_memory(model, recipe, batch, dtype),
    }
    measured = {}
    for name in ways.keys() & names:
        key = f"{name} of {recipe.model}, {task.num_outputs(recipe)} outputs, {recipe.image_size} px"
        if name == "peak_memory_gb":
            key += f", {batch} images of {dtype}, {recipe.stages}"
        if key not in built:
            built[key] = ways[name](build_on_meta(recipe, task, built))
        measured[name] = float(built[key])
    return measured


def check_own_losses(model: Any, recipe: Recipe) -> None:
    """Raise ValueError if the model computes its own losses and the recipe names another, or the reverse."""
    if hasattr(model, "losses") and recipe.loss.name != OWN:
        raise ValueError(f'it computes its own losses and does not use {recipe.loss}: write loss=use("{OWN}")')
    if not hasattr(model, "losses") and recipe.loss.name == OWN:
        raise ValueError(f"it has no losses of its own for '{OWN}': write loss=use(\"watershed\")")


def run_stages(recipe: Recipe, task: Task, built: dict[object, Any]) -> None:
    """Check that every stage names existing modules and leaves some trainable."""
    if recipe.stages:
        model = build_on_meta(recipe, task, built)
        trainable = {name for name, p in model.named_parameters() if p.requires_grad}
        try:
            for stage in recipe.stages:
                freeze(model, stage.frozen, trainable)
                make_optimizer(model, recipe.optimizer, stage)
        finally:
            freeze(model, (), trainable)  # other recipes have the same model
