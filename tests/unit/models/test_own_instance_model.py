"""A user's own model of instances: trained with losses of its own, and told in one line when it gives nonsense."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.local_training import Trial
from torch import Tensor, nn

from tuner.data.cache import CachedDataset
from tuner.data.instances import Instances
from tuner.errors import FailureKind, TrialFailed
from tuner.goal import maximize
from tuner.recipe import Recipe, use
from tuner.space.check import recipe_problems
from tuner.train.losses import OWN

HERE = "tests.unit.models.test_own_instance_model"
AP = maximize("ap50")


def bright(channels: int, classes: int, *, gives: str = "instances") -> nn.Module:
    return Bright(gives)


class Bright(nn.Module):
    """Finds the one thing that is brighter than a level, which it learns."""

    def __init__(self, gives: str) -> None:
        super().__init__()
        self.level, self.gives = nn.Parameter(torch.tensor(0.0)), gives

    def forward(self, image: Tensor) -> Tensor:
        return image.mean(1) - self.level

    def losses(self, image: Tensor, target: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        logits = self(image)
        truth = (target[:, 0] > 0).float()
        return {"loss_level": nn.functional.binary_cross_entropy_with_logits(4 * logits, truth)}, logits

    def instances(self, answer: Tensor, sizes: Any = None) -> Any:
        labels = (answer > 0).int().numpy()
        found = [Instances(one, np.ones(int(one.max()), np.float32)) for one in labels]
        return {
            "instances": found,
            "too few": found[:-1],
            "arrays": list(labels),
            "floats": [Instances(one.labels.astype(np.float64), one.scores) for one in found],  # type: ignore[arg-type]
            "smaller": [Instances(one.labels[1:], one.scores) for one in found],
            "gap": [Instances(one.labels * 2, np.ones(2, np.float32)) for one in found],
            "negative": [Instances(-one.labels, one.scores[:0]) for one in found],
            "listed": [Instances(one.labels, [1.0]) for one in found],  # type: ignore[arg-type]
            "nan": [Instances(one.labels, one.scores * np.float32("nan")) for one in found],
            "no scores": [Instances(one.labels, one.scores[:0]) for one in found],
        }[self.gives]


@pytest.fixture
def squares() -> CachedDataset:
    """Eight pictures with one bright square each."""
    labels = np.zeros((8, 32, 32), np.uint16)
    for at in range(8):
        labels[at, at : at + 12, 4 : 20 + at] = 1
    images = np.where(labels > 0, 200, 90).astype(np.uint8)[..., None].repeat(3, axis=3)
    return CachedDataset(images, labels, tuple("abcdefgh"), np.arange(6), np.array([6, 7]), "squares", "c0ffee")


def recipe(**args: Any) -> Recipe:
    return Recipe(
        task="instance",
        data=use("cells", image_size=32),
        model=use(f"{HERE}:bright", **args),
        loss=use(OWN),
        optimizer=use("adam", lr=0.05),
        epochs=4,
        batch_size=3,
        precision="fp32",
    )


def test_it_is_checked_trained_and_scored(squares: CachedDataset, tmp_path: Path) -> None:
    assert recipe_problems(recipe(), AP, {}) == []
    trial = Trial(recipe(), squares, tmp_path / "run", AP)
    outcome = trial.train()
    assert outcome.end == "finished" and outcome.progress.best_value == 1
    losses = [report.metrics["train_loss"] for report in trial.reports.values()]
    assert losses[-1] < losses[0] and outcome.examples is not None


@pytest.mark.parametrize(
    ("gives", "told"),
    [
        ("too few", "list; a list of 2 is needed, one for each image"),
        ("arrays", "ndarray; tuner.data.instances.Instances is needed for each image"),
        ("floats", "labels of 32 x 32 float64; 32 x 32 int32 is needed"),
        ("smaller", "labels of 31 x 32 int32; 32 x 32 int32 is needed"),
        ("no scores", "0 scores for 1 instance up to 1"),
        ("gap", "2 scores for 1 instance up to 2"),
        ("negative", "an instance with the number -1; 0 is background"),
        ("listed", "scores that are list; a one-dimensional numpy array of floats is needed"),
        ("nan", "a score that is not finite"),
    ],
)
def test_what_it_gives_wrongly_is_told_in_one_line(
    gives: str, told: str, squares: CachedDataset, tmp_path: Path
) -> None:
    with pytest.raises(TrialFailed, match=rf"model '{HERE}:bright': instances\(\) returns {told}") as failed:
        Trial(recipe(gives=gives), squares, tmp_path / "run", AP).train()
    assert failed.value.kind is FailureKind.INSTANCES


def test_a_weight_of_a_loss_that_it_has_not_is_told(squares: CachedDataset, tmp_path: Path) -> None:
    heavy = replace(recipe(), loss=use(OWN, weights={"loss_levle": 2.0}))
    with pytest.raises(
        TrialFailed,
        match=r"has a weight for 'loss_levle', which is not a loss of the model\. Did you mean 'loss_level'\?",
    ) as failed:
        Trial(heavy, squares, tmp_path / "run", AP).train()
    assert failed.value.kind is FailureKind.LOSS_PART
