"""The score within the first epoch: it changes nothing of the training, wherever that is interrupted."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers.local_training import CPU, Trial, same, stop_after

from tuner.data.batches import Batches
from tuner.data.cache import CachedDataset
from tuner.recipe import Recipe, Stage, use
from tuner.train.memory import MicroBatches
from tuner.train.trainer import Trainer
from tuner.train.validation import validate


def scored(recipe: Recipe, data: CachedDataset, folder: Path, part: float = 0.5) -> Trial:
    trial = Trial(recipe, data, folder)
    trial.part = part
    return trial


def assert_same_but_for_the_score(trial: Trial, unbroken: Trial) -> None:
    left, expected = trial.left(), unbroken.left()
    assert left["progress"].pop("partial") is not None and expected["progress"].pop("partial") is None
    assert trial.curve == unbroken.curve and same(left, expected)
    assert trial.run.best.read_bytes() == unbroken.run.best.read_bytes()


def test_the_curve_is_the_same_as_without_the_score(
    recipe: Recipe, toy_data: CachedDataset, tmp_path: Path, unbroken: Trial
) -> None:
    trial = scored(recipe, toy_data, tmp_path / "run")
    trial.train()
    assert len(trial.partial) == 1 and 0 <= trial.partial[0] <= 1
    assert_same_but_for_the_score(trial, unbroken)


RESTLESS = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, channels, outputs):
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(channels, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
        self.head = nn.Conv2d(4, outputs, 1)

    def forward(self, images):
        return self.head(self.encoder(images)) + 0.1 * torch.rand(1)

def net(channels, outputs):
    return Net(channels, outputs)
"""


@pytest.mark.parametrize("stages", [(), (Stage(epochs=2, frozen="encoder"), Stage(epochs=1))])
def test_random_states_and_frozen_batch_norms_are_left_as_they_were(
    recipe: Recipe, toy_data: CachedDataset, tmp_path: Path, own_folder: Path, stages: tuple[Stage, ...]
) -> None:
    """The model draws a number in each forward pass, also in evaluation."""
    (own_folder / "restless.py").write_text(RESTLESS)
    restless = replace(recipe, model=use("restless:net"), stages=stages)
    unbroken, trial = (
        Trial(restless, toy_data, tmp_path / "unbroken"),
        scored(restless, toy_data, tmp_path / "run"),
    )
    unbroken.train(), trial.train()
    assert_same_but_for_the_score(trial, unbroken)


def test_the_value_is_that_of_the_weights_after_that_part(
    recipe: Recipe, toy_data: CachedDataset, tmp_path: Path
) -> None:
    """Five steps: after 0.4 of them, two are done."""
    trial = scored(recipe, toy_data, tmp_path / "run", part=0.4)
    trial.train(stop_after(2 + sum(1 for _ in Batches(toy_data, 4, 7).val()) + 1))
    state = trial.left()
    assert (state["progress"]["epoch"], state["progress"]["step"]) == (1, 3)
    assert state["progress"]["partial"] == (0.4, trial.partial[0]) and trial.reports == {}
    shorter = Trial(recipe, toy_data, tmp_path / "shorter")
    shorter.train(stop_after(2))
    trainer = Trainer(recipe, CPU, MicroBatches(tmp_path / "none.json"))
    trainer.model.load_state_dict(shorter.left()["model"])
    assert validate(trainer, Batches(toy_data, 4, 7)).scores("val_")["val_iou"] == trial.partial[0]


@pytest.mark.slow
@pytest.mark.parametrize("asked", [1, 3, 4, 7], ids=lambda n: f"at-{n}")
def test_a_stop_before_within_or_after_the_score_changes_nothing(
    recipe: Recipe, toy_data: CachedDataset, tmp_path: Path, unbroken: Trial, asked: int
) -> None:
    trial = scored(recipe, toy_data, tmp_path / "run", part=0.4)
    assert trial.train(stop_after(asked)).end == "stopped"
    random.random(), torch.rand(3)
    assert trial.go_on().end == "finished"
    assert len(set(trial.partial)) == 1
    assert_same_but_for_the_score(trial, unbroken)


def test_the_score_is_told_again_when_the_training_goes_on(
    recipe: Recipe, toy_data: CachedDataset, tmp_path: Path
) -> None:
    trial = scored(recipe, toy_data, tmp_path / "run")
    trial.train(stop_after(7))
    told = [*trial.partial]
    trial.go_on()
    assert len(told) == 1 and trial.partial == told * 2


@pytest.mark.parametrize(("part", "batch"), [(0.01, 4), (0.99, 4), (0.5, 100)])
def test_the_score_comes_after_a_step_and_before_the_last_one_if_there_are_two(
    recipe: Recipe, toy_data: CachedDataset, tmp_path: Path, part: float, batch: int
) -> None:
    trial = scored(replace(recipe, epochs=1, batch_size=batch), toy_data, tmp_path / "run", part)
    progress = trial.train().progress
    assert len(trial.partial) == 1
    is_last = Batches(toy_data, batch, 7).num_steps() == 1
    assert (trial.partial[0] == progress.last_value) is is_last
