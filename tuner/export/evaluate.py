"""Score a bundle on a split of a dataset: by default the test split, which searches never use."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from tuner.console import progress_bar
from tuner.data.cache import DEFAULT_GB, CachedDataset
from tuner.data.datasets import data_name, data_problems
from tuner.data.provider import DataProvider
from tuner.errors import DataError, PartError, format_names
from tuner.export.bundle import WEIGHTS, read_recipe
from tuner.paths import Home
from tuner.recipe import Part, Recipe
from tuner.tasks import find_task
from tuner.train.memory import MicroBatches
from tuner.train.precision import device_name, find_device
from tuner.train.validation import evaluate

SPLITS = ("test", "val")


@dataclass(frozen=True)
class Evaluation:
    """The scores of a model on a split."""

    data: str
    split: str
    images: int
    metrics: dict[str, float]
    confusion: list[list[int]]
    classes: tuple[str, ...]
    device: str


def evaluate_bundle(bundle: Path, data: str | None, split: str, home: Home) -> Evaluation:
    """Score a bundle on its own dataset, or on another of the same classes."""
    recipe = read_recipe(bundle)
    recipe = replace(recipe, data=Part(data_name(recipe, data), recipe.data.args))
    if wrong := data_problems(recipe.data):
        raise DataError(" ".join(wrong))
    with progress_bar(f"reading {Path(recipe.data.name).name}") as progress:
        provider = DataProvider(home.make().cache, DEFAULT_GB, lambda state: progress)
        found = load_split(recipe, split, provider)
    if found.classes != recipe.classes:
        odd = format_names(sorted(set(found.classes) ^ set(recipe.classes))) or "another order"
        raise DataError(f"{recipe.data.name} has other classes than the bundle was trained on: {odd}.")
    device = find_device()
    micro_batches = MicroBatches(home.micro_batches)
    with progress_bar("scoring") as progress:  # some losses need the class frequencies of the training images
        scored = evaluate(
            recipe, found, bundle / WEIGHTS, device, micro_batches, lambda: provider.get_data(recipe).shares()
        )
    return Evaluation(
        data=found.name,
        split=split,
        images=scored.images,
        metrics=scored.scores(),
        confusion=scored.confusion() or [],
        classes=recipe.classes,
        device=device_name(device),
    )


def check_has_confusion(bundle: Path) -> None:
    """Raise PartError, before any image is read, if the task has no confusion matrix."""
    if find_task(read_recipe(bundle).task).has_instances:
        remedy = "leave --confusion out and use precision, recall, merged and split"
        raise PartError(f"{bundle} predicts instances, which have no confusion matrix; {remedy}.")


def load_split(recipe: Recipe, split: str, provider: DataProvider) -> CachedDataset:
    """Return the decoded images of a split; DataError if the dataset has no such split."""
    found = provider.get_data(recipe) if split == "val" else provider.get_test_data(recipe)
    if found is None:
        raise DataError(f"{recipe.data.name} has no test split. Score its validation split with --split val.")
    return found
