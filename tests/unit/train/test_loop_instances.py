"""The same loop trains what finds instances: learned, resumed bitwise, pruned, extended, scored again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.local_training import CPU, Trial, assert_same, stop_after

from tuner.data.cache import CachedDataset
from tuner.data.synthetic.cells import draw_culture
from tuner.goal import maximize, minimize
from tuner.recipe import Recipe, Stage, use
from tuner.tasks import TASKS
from tuner.train.loop import Progress
from tuner.train.memory import MicroBatches
from tuner.train.validation import evaluate

AP = maximize("ap50")


@pytest.fixture(scope="module")
def culture() -> CachedDataset:
    """Six quarters of pictures of cells, and one that holds none."""
    drawn = [draw_culture(np.random.default_rng(number)) for number in range(6)]
    images = np.stack([image[32:96, 32:96] for image, _ in drawn] + [np.full((64, 64, 3), 60, np.uint8)])
    labels = np.stack([target[32:96, 32:96] for _, target in drawn] + [np.zeros((64, 64), np.uint16)])
    keys = tuple(map(str, range(7)))
    return CachedDataset(images, labels, keys, np.array([0, 1, 2, 6]), np.array([3, 4, 5]), "culture", "c0ffee")


@pytest.fixture
def trial(culture: CachedDataset, tmp_path: Path) -> Trial:
    recipe = Recipe(
        task="instance",
        data=use("cells", image_size=64),
        augment=use("crop_flip"),
        model=use("deep_watershed", k=4, direction=True, energy=0.4),
        loss=use("watershed"),
        optimizer=use("adam", lr=5e-3),
        epochs=3,
        batch_size=2,
        precision="fp32",
        seed=7,
    )
    return Trial(recipe, culture, tmp_path / "run", AP)


def another(trial: Trial, name: str, **changes: object) -> Trial:
    recipe: Recipe = replace(trial.recipe, **changes)  # type: ignore[arg-type]
    return Trial(recipe, trial.data, trial.run.folder.parent / name, trial.goal)


def test_every_metric_is_reported_of_validation_and_the_loss_alone_of_training(trial: Trial) -> None:
    outcome = trial.train()
    assert outcome.end == "finished"
    for report in trial.reports.values():
        assert set(report.metrics) == {f"val_{name}" for name in TASKS["instance"].metrics} | {"train_loss"}
        assert np.isfinite(list(report.metrics.values())).all()


@pytest.mark.slow
def test_it_learns(trial: Trial) -> None:
    learner = another(trial, "learner", epochs=60, augment=use("none"), model=use("deep_watershed", k=8))
    learner.data = replace(trial.data, val=trial.data.train)
    learner.train()
    losses = [report.metrics["train_loss"] for report in learner.reports.values()]
    assert losses[-1] < 0.5 * losses[0]
    best = max(report.metrics["val_ap50"] for report in learner.reports.values())
    assert best > 0.5


@pytest.mark.slow
def test_the_cascade_learns_in_its_three_stages(trial: Trial) -> None:
    """The first stage alone finds few instances, as the network of levels has learned nothing yet."""
    model = use("watershed_cascade", k=8, width=16, dropout=0.0, cut=1)
    stages = (Stage(50, "watershed"), Stage(30, "direction", lr=3e-3), Stage(10, lr=5e-4))
    learner = another(
        trial, "learner", epochs=90, augment=use("none"), model=model, loss=use("own"), stages=stages
    )
    learner.data = replace(trial.data, val=trial.data.train)
    learner.train()
    found = [report.metrics["val_ap50"] for report in learner.reports.values()]
    assert found[49] < 0.3 < 0.5 < max(found[50:80]) and found[-1] > 0.5
    losses = [report.metrics["val_loss"] for report in learner.reports.values()]
    assert losses[-1] < losses[49] < losses[0]


@pytest.mark.parametrize("asked", [3, *(pytest.param(each, marks=pytest.mark.slow) for each in (1, 6))])
def test_a_trial_stopped_anywhere_goes_on_as_if_it_had_not(trial: Trial, asked: int) -> None:
    broken = another(trial, "broken")
    trial.train()
    assert broken.train(stop_after(asked)).end == "stopped"
    assert broken.go_on().end == "finished"
    assert_same(broken, trial)


def test_what_is_ranked_and_shown_survives_the_checkpoint(trial: Trial) -> None:
    outcome = trial.train()
    progress = outcome.progress
    assert progress.ranking is not None and len(progress.ranking["numbers"]) == 3
    assert progress.ranking["ap"] == trial.reports[progress.best_epoch].metrics["val_ap"]
    restored = Progress.from_state(trial.left()["progress"])
    assert restored.ranking == progress.ranking and restored.scores == progress.scores
    assert set(restored.frames) == {1, 2, 3} and restored.frames[1].dtype == torch.uint8
    assert outcome.examples is not None
    assert all(guess.dtype == np.int32 and guess.shape == (64, 64) for guess in outcome.examples.guesses.values())


def test_it_is_pruned_by_any_of_its_metrics(trial: Trial) -> None:
    trial.goal, trial.prune_at = minimize("count_error"), 2
    outcome = trial.train()
    assert outcome.end == "pruned" and list(trial.reports) == [1, 2]
    best = min(report.metrics["val_count_error"] for report in trial.reports.values())
    assert outcome.progress.best_value == best


def test_the_best_weights_score_the_same_again(trial: Trial) -> None:
    best = trial.train().progress.best_epoch
    memory = MicroBatches(trial.run.folder / "none.json")
    scored = evaluate(trial.recipe, trial.data, trial.run.best, CPU, memory, trial.data.shares)
    expected = {k.removeprefix("val_"): v for k, v in trial.reports[best].metrics.items() if k != "train_loss"}
    assert scored.scores() == pytest.approx(expected)
    assert scored.confusion() is None and scored.histogram() is None


def test_small_pieces_of_a_batch_give_the_same_step(trial: Trial) -> None:
    whole, parts = another(trial, "whole", epochs=1), another(trial, "parts", epochs=1)
    MicroBatches(parts.run.folder / "micro_batches.json").remember(parts.recipe, CPU, 1)
    first, second = whole.train(), parts.train()
    assert (first.micro, second.micro) == (2, 1)
    assert whole.reports[1].metrics["val_loss"] == pytest.approx(parts.reports[1].metrics["val_loss"], rel=1e-4)
