"""Tasks name what exists: their counts and scores can be found, and give the metrics they promise."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from tuner.data.instances import Instances
from tuner.errors import PartError
from tuner.recipe import Recipe, use
from tuner.registry import find_builder
from tuner.tasks import TASKS, Task, find_task
from tuner.train.totals import Totals

CLASSES = ("cat", "dog", "owl")
TARGETS: dict[str, Any] = {  # what a dataset gives for two images of 8 pixels
    "masks": lambda: torch.arange(128).view(2, 8, 8).remainder(2).byte(),
    "labels": lambda: torch.tensor([0, 1, 2, 255]).repeat(32).view(2, 8, 8).byte(),
    "classes": lambda: torch.tensor([2, 0]),
    "instances": lambda: torch.arange(128).view(2, 8, 8).div(32, rounding_mode="floor").numpy().astype("uint16"),
}
every_task = pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.name)


def recipe_of(task: Task) -> Recipe:
    some = use("any")
    classes = CLASSES if task.has_classes else ()
    return Recipe(task.name, some, some, some, some, epochs=1, classes=classes)


def said_of(task: Task) -> Any:
    """Two answers of a model, as large as the task wants them; or what was found in two images."""
    if task.has_instances:
        labels = np.zeros((8, 8), np.int32)
        labels[:4], labels[4:] = 1, 2
        return [
            Instances(labels, np.array([0.9, 0.6], np.float32)),
            Instances(labels * 0, np.zeros(0, np.float32)),
        ]
    outputs = task.num_outputs(recipe_of(task))
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, outputs, *((8, 8) if task.output_kind == "masks" else ()), generator=generator)


def scored(task: Task, full: bool) -> dict[str, float]:
    totals = Totals(task, torch.device("cpu"), recipe_of(task).classes, full=full)
    given = TARGETS[task.targets]()
    given = torch.from_numpy(find_builder("preparation", {}, task.prepare)(given)) if task.prepare else given
    totals.add(torch.tensor(0.5), said_of(task), find_builder("target", {}, task.target)(given))
    totals.end_batch()
    return totals.scores("val_")


@every_task
def test_a_task_is_found_by_its_own_name(task: Task) -> None:
    assert find_task(task.name) is task


@every_task
def test_scoring_gives_every_metric_a_goal_may_name_and_no_other(task: Task) -> None:
    names = {f"val_{name}" for name in task.metrics}
    by_batch = {"batch_iou", "batch_dice"}
    validated_only = set(task.metrics) - {"loss"} if task.has_instances else {"map", *by_batch}
    each = {f"val_iou:{name}" for name in CLASSES} if task.name == "multiclass" else set()
    assert set(scored(task, full=True)) == names | each
    assert set(scored(task, full=False)) == names - {f"val_{name}" for name in validated_only}


def test_the_averages_of_batches_say_what_they_depend_on() -> None:
    metrics = find_task("binary").metrics
    assert all("depends on batch_size" in metrics[name] for name in ("batch_iou", "batch_dice"))


@every_task
def test_every_metric_is_explained(task: Task) -> None:
    assert all(len(line) > 10 and not line.endswith(".") for line in task.metrics.values())


@every_task
def test_a_guess_is_what_a_picture_needs(task: Task) -> None:
    guess = find_builder("guess", {}, task.to_prediction)(said_of(task))
    assert guess.shape == ((2, 8, 8) if task.output_kind == "masks" else (2, 3))
    kinds = {"classes": torch.float32, "instances": torch.int32}
    assert guess.dtype is kinds.get(task.targets, torch.uint8)


def test_a_mask_needs_one_output_and_classes_one_each() -> None:
    outputs = {task.name: task.num_outputs(recipe_of(task)) for task in TASKS.values()}
    assert outputs == {"binary": 1, "multiclass": 3, "classification": 3, "instance": 1}
    binary = find_task("binary")
    assert binary.num_outputs(replace(recipe_of(binary), classes=("a", "b", "c"))) == 1


def test_an_unknown_task_is_told_the_near_one() -> None:
    with pytest.raises(PartError, match=r"no task 'binry'. Did you mean 'binary'\? Known: .*binary"):
        find_task("binry")
