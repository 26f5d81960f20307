"""The rehearsal: the same space and code at toy size, so that a night of GPUs is not lost to a typo."""

from __future__ import annotations

from dataclasses import replace

from tuner.recipe import Part, Recipe
from tuner.tasks import find_task

NUM_TRIALS = 8
SHRINK = 8  # image size and width are divided by this,
FEWER = 8  # epochs by this
SMALLEST_SIDE = 32  # pixels
WIDTHS = ("k",)  # the arguments of models that are widths
GENERATED = {"masks": "shapes"}  # the generated dataset for each kind of targets


def rehearse(recipe: Recipe) -> Recipe:
    """The toy version of a recipe: generated data, and everything that costs time divided."""
    size = max(SMALLEST_SIDE, recipe.image_size // SHRINK)
    args = {name: shrunk(value) if name in WIDTHS else value for name, value in recipe.model.args.items()}
    kept = {name: value for name, value in recipe.data.args.items() if name in ("val", "split_seed")}
    return replace(
        recipe,
        data=Part(GENERATED[find_task(recipe.task).targets], {**kept, "image_size": size}),
        model=Part(recipe.model.name, args),
        epochs=max(2, round(recipe.epochs / FEWER)),
    )


def shrunk(value: object) -> int:
    return max(4, int(value) // SHRINK) if isinstance(value, int) else 4
