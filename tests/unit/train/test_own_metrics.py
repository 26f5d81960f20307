"""Metrics of the user's own: a function for each image, or an object that is updated."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.local_training import Trial

from tuner.data.cache import CachedDataset
from tuner.data.instances import Instances
from tuner.errors import PartError, TrialFailed
from tuner.goal import Goal, maximize
from tuner.recipe import Recipe
from tuner.space.check import recipe_problems
from tuner.tasks import TASKS
from tuner.train.own_metrics import OwnMetrics

TEXT = """
import numpy as np
from torchmetrics.classification import BinaryJaccardIndex

def iou(prediction, target):
    found, true = prediction > 0.5, target > 0
    return (found & true).sum() / max((found | true).sum(), 1)

def kind(prediction, target):
    return prediction.ndim + 10 * np.ndim(target)

def sometimes(prediction, target):
    return float("nan") if target.any() else 3.0

def nothing(prediction, target):
    return None

def wrong(prediction, target):
    return prediction + no_such_name

def number(prediction, target):
    return len(prediction.scores) - target.max()

def jaccard():
    return BinaryJaccardIndex()

class Largest:
    def __init__(self):
        self.most = 0
    def update(self, prediction, target):
        self.most = max(self.most, prediction.max())
    def compute(self):
        return np.float32(self.most)

class NoMetric:
    pass

five = 5
"""


@pytest.fixture(autouse=True)
def own_module(own_folder: Path) -> None:
    (own_folder / "own_scores.py").write_text(TEXT)


def measure(name: str, said: torch.Tensor, target: torch.Tensor, task: str = "binary") -> float:
    metrics = OwnMetrics([f"own_scores:{name}"], TASKS[task])
    for piece, truth in zip(said.split(2), target.split(2), strict=True):
        metrics.add(piece, truth)
    ((_, value),) = metrics.scores().items()
    return value


LOGITS = torch.randn(3, 1, 8, 8, generator=torch.manual_seed(0))
MASKS = (torch.rand(3, 1, 8, 8, generator=torch.manual_seed(1)) > 0.5).float()


def test_a_function_is_averaged_over_the_images() -> None:
    each = [measure("iou", LOGITS[at : at + 1], MASKS[at : at + 1]) for at in range(3)]
    assert measure("iou", LOGITS, MASKS) == pytest.approx(sum(each) / 3)


def test_images_whose_value_is_nan_are_left_out() -> None:
    some = MASKS.clone()
    assert math.isnan(measure("sometimes", LOGITS, some))
    some[1] = 0
    assert measure("sometimes", LOGITS, some) == 3.0


def test_a_class_is_made_for_each_pass_and_updated() -> None:
    assert measure("Largest", LOGITS, MASKS) == pytest.approx(LOGITS.sigmoid().max().item())
    assert measure("Largest", LOGITS - 9, MASKS) < 0.01


def test_a_metric_of_torchmetrics_gets_tensors() -> None:
    found, true = LOGITS > 0, MASKS > 0
    wanted = (found & true).sum() / (found | true).sum()
    assert measure("jaccard", LOGITS, MASKS) == pytest.approx(wanted.item())


def test_each_task_gives_its_own_kind_of_prediction_and_target() -> None:
    assert measure("kind", LOGITS, MASKS) == 22
    assert measure("kind", torch.rand(2, 4, 8, 8), torch.zeros(2, 8, 8).long(), "multiclass") == 23
    assert measure("kind", torch.rand(2, 4), torch.zeros(2).long(), "classification") == 1
    metrics = OwnMetrics(["own_scores:number"], TASKS["instance"])
    target = torch.zeros(1, 3, 8, 8)
    target[0, 0, :2] = 2
    metrics.add([Instances(np.zeros((8, 8), np.int32), np.ones(5, np.float32))], target)
    assert metrics.scores() == {"own_scores:number": 3.0}


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("nothing", "it returned None; a number is needed."),
        ("wrong", "NameError: name 'no_such_name' is not defined (line 19)."),
        ("NoMetric", "it makes a NoMetric, which has no update(prediction, target) and compute()."),
        ("five", "metric 'own_scores:five' is 5; a function is needed."),
        ("iuo", "has no attribute 'iuo'. Did you mean 'iou'?"),
    ],
)
def test_what_is_wrong_with_a_metric_is_told_before_training(toy_recipe: Recipe, name: str, told: str) -> None:
    (line,) = recipe_problems(toy_recipe, maximize(f"own_scores:{name}"), {})
    assert line.startswith(f"metric 'own_scores:{name}'") and line.endswith(told)
    (again,) = recipe_problems(replace(toy_recipe, metrics=(f"own_scores:{name}",)), maximize("iou"), {})
    assert again == line
    with pytest.raises((TrialFailed, PartError), match="own_scores"):
        measure(name, LOGITS, MASKS)


@pytest.mark.parametrize("task", ["binary", "multiclass", "classification", "instance"])
def test_a_metric_is_tried_with_an_example_of_its_task(request: pytest.FixtureRequest, task: str) -> None:
    fixtures = {"multiclass": "label_recipe", "classification": "class_recipe", "instance": "instance_recipe"}
    recipe = request.getfixturevalue(fixtures.get(task, "toy_recipe"))
    goal = maximize("own_scores:number" if task == "instance" else "own_scores:kind")
    assert recipe_problems(recipe, goal, {}) == []


def test_metrics_name_only_those_of_ones_own(toy_recipe: Recipe) -> None:
    (line,) = recipe_problems(replace(toy_recipe, metrics=["iou"]), maximize("iou"), {})
    assert line.startswith("metrics names 'iou', which is computed without being named")
    with pytest.raises(TypeError, match="a metric is 5"):
        replace(toy_recipe, metrics=[5])


def test_a_recipe_without_own_metrics_is_written_as_before(toy_recipe: Recipe) -> None:
    assert "metrics" not in toy_recipe.to_json()
    own = toy_recipe.with_metric("own_scores:iou")
    assert Recipe.from_json(own.to_json()) == own and own.metrics == ("own_scores:iou",)
    assert toy_recipe.with_metric("iou:sky") == toy_recipe.with_metric("iou") == toy_recipe


def test_a_training_is_judged_by_an_own_metric(
    toy_recipe: Recipe, toy_data: CachedDataset, tmp_path: Path
) -> None:
    goal = Goal("own_scores:Largest", "minimize")
    recipe = replace(toy_recipe, epochs=1).with_metric(goal.metric).with_metric("own_scores:iou")
    trial = Trial(recipe, toy_data, tmp_path / "trial", goal)
    assert trial.train().end == "finished"
    (report,) = trial.reports.values()
    assert report.value == report.metrics["val_own_scores:Largest"]
    assert report.metrics["val_own_scores:iou"] == pytest.approx(report.metrics["val_image_iou"])
    assert not any(name.startswith("train_own") for name in report.metrics)
