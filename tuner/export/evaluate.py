"""Score a bundle on a split of a dataset: by default the test split, which searches never use."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path

from tuner.console import progress_bar
from tuner.data.cache import DEFAULT_GB, CachedDataset
from tuner.data.datasets import data_name, data_problems, refuse_layout, swap_data
from tuner.data.layouts import READ_AS
from tuner.data.provider import DataProvider
from tuner.errors import DataError, PartError, describe_value, format_names
from tuner.export.bundle import BundleLike, open_bundle
from tuner.export.evaluation_files import check_replaceable, collect_pictures, write_evaluation
from tuner.export.manifest import WEIGHTS
from tuner.export.trained_model import check_scorable
from tuner.paths import Home
from tuner.recipe import Recipe
from tuner.registry import Range
from tuner.tasks import find_task
from tuner.train.memory import MicroBatches, fail_trial_on_oom
from tuner.train.precision import device_name, find_device
from tuner.train.validation import evaluate, load_trainer, make_batches, validate
from tuner.wording import pluralize

log = logging.getLogger("tuner")
SPLITS = ("test", "val")
DEFAULT_SAMPLE = 10
SAMPLE = Range(least=1, most=100, whole=True)  # random images of which pictures are drawn
SEED = Range(least=0, most=2**63 - 1, whole=True)


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


def evaluate_bundle(
    bundle: BundleLike,
    data: str | None,
    split: str,
    home: Home,
    out: Path | None = None,
    sample: int = DEFAULT_SAMPLE,
    seed: int = 0,
    layout: str | None = None,
) -> Evaluation:
    """Score a bundle on its own dataset, or on another of the same classes; `layout` says how to read a folder.

    With `out`, write the files of `tuner.export.evaluation_files` there, with pictures of `sample` random images.
    """
    check_sample(sample, seed)
    if out is not None:
        check_replaceable(out)
    opened = open_bundle(bundle)
    recipe, weights = place_recipe(opened.recipe, data, layout), opened.folder / WEIGHTS
    check_scorable(recipe, weights)
    found, provider = open_split(recipe, split, home)
    device, micro_batches = find_device(), MicroBatches(home.micro_batches)
    with progress_bar("scoring"), fail_trial_on_oom(recipe):
        trainer = load_trainer(
            recipe, weights, device, micro_batches, lambda: provider.get_data(recipe).shares()
        )  # some losses need the class frequencies of the training images
        batches = make_batches(recipe, found, device)
        scored = validate(trainer, batches)
        result = Evaluation(
            data=found.name,
            split=split,
            images=scored.images,
            metrics=scored.scores(),
            confusion=scored.confusion() or [],
            classes=recipe.classes,
            device=device_name(device),
        )
        if out is not None:
            pictures = collect_pictures(scored, trainer, batches, opened.facts["epoch"], sample, seed)
            write_evaluation(out, result, pictures, {"bundle": str(opened.folder), "seed": seed})
    return result


def score_on_test(recipe: Recipe, weights: Path, home: Home) -> dict[str, float] | None:
    """Return the metrics of weights on the test split of their recipe's dataset; None if it has none."""
    with progress_bar(f"reading {Path(recipe.data.name).name}") as progress:
        provider = DataProvider(home.make().cache, DEFAULT_GB, lambda state: progress)
        data = provider.get_test_data(recipe)
    if data is None:
        return None
    batches = MicroBatches(home.micro_batches)
    with progress_bar("scoring"):
        return evaluate(
            recipe, data, weights, find_device(), batches, lambda: provider.get_data(recipe).shares()
        ).scores()


def place_recipe(recipe: Recipe, data: str | None, layout: str | None = None) -> Recipe:
    """Return the recipe on the data to score it on; DataError if there is no such dataset."""
    recipe = choose_data(recipe, data, layout)
    if wrong := data_problems(recipe.data):
        raise DataError(" ".join(wrong))
    return recipe


def open_split(recipe: Recipe, split: str, home: Home) -> tuple[CachedDataset, DataProvider]:
    """Return a split of the recipe's dataset as the validation split, and what opens the others.

    DataError if the dataset has no such split or other classes than the recipe.
    """
    with progress_bar(f"reading {Path(recipe.data.name).name}") as progress:
        provider = DataProvider(home.make().cache, DEFAULT_GB, lambda state: progress)
        found = load_split(recipe, split, provider)
    source, _ = provider.get_source(recipe)
    for remark in source.remarks:
        if remark.startswith(READ_AS):
            log.warning("%s: %s", source.name, remark)
    if found.classes != recipe.classes:
        odd = format_names(sorted(set(found.classes) ^ set(recipe.classes))) or "another order"
        raise DataError(f"{recipe.data.name} has other classes than the bundle was trained on: {odd}.")
    return found, provider


def check_split(split: object) -> None:
    """Raise DataError for what is not a split that can be evaluated."""
    if split not in SPLITS:
        raise DataError(f"split is {describe_value(split)}; {' or '.join(map(repr, SPLITS))} is needed.")


def check_sample(sample: object, seed: object) -> None:
    """Raise DataError unless this is a number of random images to draw, and a seed of their choice."""
    for name, value, allowed in (("sample", sample, SAMPLE), ("seed", seed, SEED)):
        if value not in allowed:
            raise DataError(f"{name} is {describe_value(value)}; {allowed} is needed.")


def describe_shortage(wanted: int, number: int, split: str) -> str:
    """Return a remark, in parentheses, if a split has fewer images than a sample was to have."""
    return f" (all {pluralize(number, 'image')} of the {split} split)" if number < wanted else ""


def choose_data(recipe: Recipe, data: str | None, layout: str | None) -> Recipe:
    """Return the recipe of a bundle with the data to score it on; another folder has a layout of its own."""
    name = data_name(recipe, data)
    refuse_layout(name, layout)
    if data is not None and name != data_name(recipe, None):
        recipe = replace(recipe, data=recipe.data.without("layout"))
    return swap_data(recipe, name, layout=layout or "")


def check_has_confusion(bundle: BundleLike) -> None:
    """Raise PartError, before any image is read, if the task has no confusion matrix."""
    opened = open_bundle(bundle)
    if find_task(opened.recipe.task).has_instances:
        remedy = "leave --confusion out and use precision, recall, merged and split"
        raise PartError(f"{opened.folder} predicts instances, which have no confusion matrix; {remedy}.")


def load_split(recipe: Recipe, split: str, provider: DataProvider) -> CachedDataset:
    """Return the decoded images of a split; DataError if the dataset has no such split."""
    found = provider.get_data(recipe) if split == "val" else provider.get_test_data(recipe)
    if found is None:
        raise DataError(f"{recipe.data.name} has no test split. Score its validation split with --split val.")
    return found
