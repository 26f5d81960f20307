"""The loop: what an epoch reports, which weights are kept, how a trial fails."""

from __future__ import annotations

import gc
import math
import threading
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.local_training import CPU, IOU, Trial, assert_same, stop_after
from torchmetrics.classification import BinaryJaccardIndex

from tuner.data.batches import Batches
from tuner.data.cache import CachedDataset
from tuner.errors import FailureKind, TrialFailed
from tuner.goal import Goal, maximize, minimize
from tuner.recipe import Recipe, use
from tuner.train import loop, predictions, validation
from tuner.train.checkpoint import load_weights
from tuner.train.loop import Progress, check_finite
from tuner.train.memory import MicroBatches, release
from tuner.train.trainer import Trainer


def test_every_epoch_is_reported_with_every_metric(unbroken: Trial) -> None:
    assert list(unbroken.reports) == [1, 2, 3]
    names = {"loss", "iou", "dice", "image_iou", "image_dice", "accuracy", "precision", "recall", "f1"}
    for report in unbroken.reports.values():
        both = {f"{split}_{name}" for split in ("train", "val") for name in names}
        assert report.metrics.keys() == both | {"val_batch_iou", "val_batch_dice"}
        assert all(map(math.isfinite, report.metrics.values()))
        assert report.value == report.metrics["val_iou"]
        assert report.seconds > 0 and report.images_per_second > 0 and report.peak_memory > 2**20


def test_training_learns(toy_recipe: Recipe, toy_data: CachedDataset, tmp_path: Path) -> None:
    recipe = replace(toy_recipe, epochs=8, batch_size=4, model=use("unet", k=4))
    trial = Trial(recipe, toy_data, tmp_path / "run")
    trial.train()
    losses = [report.metrics["train_loss"] for report in trial.reports.values()]
    assert losses[-1] < 0.9 * losses[0]


def test_the_same_recipe_gives_the_same_curve_and_another_seed_another(
    recipe: Recipe, toy_data: CachedDataset, tmp_path: Path, unbroken: Trial
) -> None:
    again = Trial(recipe, toy_data, tmp_path / "again")
    other = Trial(replace(recipe, seed=8), toy_data, tmp_path / "other")
    again.train()
    other.train()
    assert_same(again, unbroken)
    assert other.curve[1] != unbroken.curve[1]


def test_the_rate_of_an_epoch_is_the_one_it_was_trained_with(
    recipe: Recipe, toy_data: CachedDataset, tmp_path: Path
) -> None:
    impatient = use("plateau", patience=0, factor=0.5)
    trial = Trial(replace(recipe, schedule=impatient, epochs=6), toy_data, tmp_path / "run")
    trial.train()
    best, expected = math.inf, 3e-3
    for report in trial.reports.values():
        assert report.lr == pytest.approx(expected)
        if report.metrics["val_loss"] >= best * (1 - 1e-4):
            expected *= 0.5
        best = min(best, report.metrics["val_loss"])


@pytest.mark.parametrize("goal", [IOU, minimize("loss"), maximize("recall")], ids=str)
def test_the_best_weights_give_the_best_epochs_metrics_again(
    recipe: Recipe, toy_data: CachedDataset, tmp_path: Path, goal: Goal
) -> None:
    restless = replace(recipe, optimizer=use("adam", lr=3e-2), epochs=5)
    trial = Trial(restless, toy_data, tmp_path / "run", goal)
    progress = trial.train().progress
    values = {epoch: report.value for epoch, report in trial.reports.items()}
    best = (max if goal.direction == "maximize" else min)(values.values())
    assert progress.best_value == best == values[progress.best_epoch]
    assert progress.best_epoch == next(epoch for epoch, value in values.items() if value == best)
    assert progress.last_value == values[5]
    trainer = Trainer(restless, CPU, MicroBatches(tmp_path / "none.json"))
    load_weights(trainer.model, trial.run.best)
    again = validation.validate(trainer, Batches(toy_data, 4, restless.seed))
    measured = trial.reports[progress.best_epoch].metrics
    assert again.scores("val_") == {name: value for name, value in measured.items() if name.startswith("val_")}
    for kept, measured_again in (
        (progress.each, again.image_scores()),
        (progress.histogram, again.histogram()),
    ):
        assert kept is not None and measured_again is not None and torch.equal(kept, measured_again)
    assert again.predictions.frame is not None
    assert torch.equal(again.predictions.frame, progress.frames[progress.best_epoch])
    assert again.confusion() == progress.confusion
    assert sum(map(sum, progress.confusion or [])) == 11 * 32 * 32


def test_the_validation_score_is_torchmetrics_over_the_whole_split(
    recipe: Recipe, toy_data: CachedDataset, tmp_path: Path
) -> None:
    trial = Trial(recipe, toy_data, tmp_path / "run")
    progress = trial.train().progress
    trainer = Trainer(recipe, CPU, MicroBatches(tmp_path / "none.json"))
    load_weights(trainer.model.eval(), trial.run.best)
    whole = torch.from_numpy(toy_data.images[toy_data.val]), torch.from_numpy(toy_data.targets[toy_data.val])
    with torch.no_grad():
        _, logits, target = trainer.compute_loss(*whole)
    assert progress.best_value == pytest.approx(
        float(BinaryJaccardIndex()(logits.sigmoid(), target.int())), abs=1e-4
    )
    parts = zip(logits.sigmoid().split(recipe.batch_size), target.int().split(recipe.batch_size), strict=True)
    by_batch = [float(BinaryJaccardIndex()(*part)) for part in parts]
    assert len(by_batch) > 1
    best = trial.reports[progress.best_epoch].metrics
    assert best["val_batch_iou"] == pytest.approx(np.mean(by_batch), abs=1e-4)


def test_the_score_of_each_image_is_that_of_the_best_weights(unbroken: Trial) -> None:
    """And their mean is the metric of that name."""
    outcome = unbroken.train()  # it is finished: nothing is trained again
    scores, shown = outcome.progress.scores, outcome.examples
    assert shown is not None and outcome.model is not None and not outcome.model.training
    best = unbroken.reports[outcome.progress.best_epoch].metrics
    assert np.mean([score for score in scores if score is not None]) == pytest.approx(best["val_image_iou"])
    chosen = [at for kind in ("worst", "median", "best") for at in shown.positions[kind]]
    assert len(chosen) == len(set(chosen)) == 9 and len(shown.positions["random"]) == 5
    assert shown.guesses.keys() == {*chosen, *shown.positions["random"]}
    data = unbroken.data
    for at in chosen:
        found, true = shown.guesses[at] > 127, data.targets[data.val[at]] > 0
        assert scores[at] == pytest.approx((found & true).sum() / max((found | true).sum(), 1), abs=1e-3)
    ranked = [scores[at] for at in chosen]
    assert ranked[:3] == sorted(s for s in scores if s is not None)[:3] and ranked[6] == max(ranked)  # type: ignore[type-var]


def test_a_frame_is_kept_of_every_validated_epoch_and_told_before_the_epoch(
    recipe: Recipe, toy_data: CachedDataset, tmp_path: Path
) -> None:
    told: list[tuple[str, int]] = []
    trial = Trial(replace(recipe, validate_every=2), toy_data, tmp_path / "run")
    outcome = loop.train(
        trial.recipe, IOU, toy_data, trial.run, device=CPU, micro_batches=MicroBatches(tmp_path / "none.json"),
        on_epoch=lambda report: told.append(("epoch", report.epoch)),
        on_frame=lambda progress: told.append(("frame", max(progress.frames))),
    )  # fmt: skip
    assert told == [("epoch", 1), ("frame", 2), ("epoch", 2), ("frame", 3), ("epoch", 3)]
    assert {at: frame.shape for at, frame in outcome.progress.frames.items()} == {2: (32, 32), 3: (32, 32)}
    assert all(frame.dtype is torch.uint8 for frame in outcome.progress.frames.values())


def test_a_checkpoint_of_an_earlier_or_later_version_is_taken_up(
    recipe: Recipe, toy_data: CachedDataset, tmp_path: Path, unbroken: Trial
) -> None:
    """One knows nothing of scores and frames, the other more than we do; the curve is the same."""
    trial = Trial(recipe, toy_data, tmp_path / "run")
    assert trial.train(stop_after(11)).end == "stopped"
    state = torch.load(trial.run.checkpoint, weights_only=True)
    for name in ("each", "histogram", "frames"):
        del state["progress"][name]
    state["progress"] |= {"samples": torch.zeros(6, 32, 32, dtype=torch.uint8), "of_tomorrow": [1]}
    torch.save(state, trial.run.checkpoint)
    outcome = trial.go_on()
    assert trial.curve == unbroken.curve and trial.run.best.read_bytes() == unbroken.run.best.read_bytes()
    assert 1 not in outcome.progress.frames and 3 in outcome.progress.frames


def test_answers_that_were_not_kept_are_asked_for_again(
    unbroken: Trial, toy_data: CachedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a checkpoint of an earlier version, and of a split too large to keep its answers: the same pictures."""
    kept = unbroken.train().examples
    state = torch.load(unbroken.run.checkpoint, weights_only=True)
    del state["progress"]["answers"]
    torch.save(state, unbroken.run.checkpoint)
    asked = unbroken.train().examples
    assert kept is not None and kept.positions["random"]
    first = kept.positions["worst"]
    state["progress"]["answers"] = {at: torch.from_numpy(kept.guesses[at]) for at in first}  # without random ones
    torch.save(state, unbroken.run.checkpoint)
    completed = unbroken.train().examples
    monkeypatch.setattr(predictions, "MAX_BUFFER_BYTES", 5 * 32 * 32)  # less than two batches
    outcome = Trial(unbroken.recipe, toy_data, tmp_path / "large").train()
    assert outcome.progress.answers is None
    for again in (asked, completed, outcome.examples):
        assert again is not None and again.positions == kept.positions
        assert again.guesses.keys() == kept.guesses.keys()
        for at, said in again.guesses.items():
            assert np.abs(said.astype(int) - kept.guesses[at]).max() <= 1  # batches round in their own way


def test_a_finished_trial_of_an_earlier_version_has_nothing_to_show(unbroken: Trial) -> None:
    state = torch.load(unbroken.run.checkpoint, weights_only=True)
    for name in ("each", "histogram", "frames"):
        del state["progress"][name]
    torch.save(state, unbroken.run.checkpoint)
    outcome = unbroken.train()
    assert (outcome.end, outcome.examples, outcome.model) == ("finished", None, None)
    assert outcome.progress.best_value == max(report.value for report in unbroken.reports.values())  # type: ignore[type-var]


def test_unknown_fields_are_left_out_and_missing_ones_are_as_at_the_beginning() -> None:
    assert Progress.from_state({"epoch": 3, "unheard": 1}) == Progress(epoch=3)


def test_a_pruned_trial_ends_at_its_epoch(recipe: Recipe, toy_data: CachedDataset, tmp_path: Path) -> None:
    trial = Trial(recipe, toy_data, tmp_path / "run")
    trial.prune_at = 2
    outcome = trial.train()
    assert (outcome.end, outcome.progress.epoch, list(trial.reports)) == ("pruned", 3, [1, 2])


def test_a_loss_that_is_not_finite_fails_the_trial_with_epoch_and_recipe(
    recipe: Recipe, toy_data: CachedDataset, tmp_path: Path
) -> None:
    trial = Trial(replace(recipe, optimizer=use("adam", lr=1e30)), toy_data, tmp_path / "run")
    with pytest.raises(TrialFailed) as failed:
        trial.train()
    assert failed.value.kind is FailureKind.LOSS_NOT_FINITE
    for told in ("train_loss is", "at epoch 1", "adam(lr=1e+30)", "loss bce", "unet(k=4, dropout=0.2)", "32 px"):
        assert told in str(failed.value)
    assert trial.reports == {} and not trial.run.best.exists()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["train_loss", "val_loss"])
def test_no_kind_of_infinity_passes(recipe: Recipe, name: str, value: float) -> None:
    metrics = {"train_loss": 1.0, "val_loss": 1.0, name: value}
    with pytest.raises(TrialFailed, match=f"{name} is {value} at epoch 7"):
        check_finite(recipe, 7, metrics)


@pytest.mark.parametrize("train_only", [True, False])
def test_a_whole_trial_in_pieces_is_the_trial_in_one(
    recipe: Recipe, toy_data: CachedDataset, tmp_path: Path, own_models: Path, train_only: bool
) -> None:
    tight = replace(recipe, model=use("mine.nets:net", most=1, train_only=train_only))
    pieces = Trial(tight, toy_data, tmp_path / "pieces")
    whole = Trial(replace(recipe, model=use("mine.nets:net")), toy_data, tmp_path / "whole")
    assert (pieces.train().micro, whole.train().micro) == (1, 4)
    for epoch, metrics in whole.curve.items():
        assert pieces.curve[epoch]["val_loss"] == pytest.approx(metrics["val_loss"], rel=1e-3)


def test_a_model_that_never_fits_fails_the_trial(
    recipe: Recipe, toy_data: CachedDataset, tmp_path: Path, own_models: Path
) -> None:
    with pytest.raises(TrialFailed, match="single image"):
        Trial(replace(recipe, model=use("mine.nets:net", most=0)), toy_data, tmp_path / "a").train()
    with pytest.raises(TrialFailed, match=r"out of memory with mine.nets:huge\(\), 32 px"):
        Trial(replace(recipe, model=use("mine.nets:huge")), toy_data, tmp_path / "b").train()


def test_twenty_failed_trials_leave_nothing_in_memory(
    recipe: Recipe, toy_data: CachedDataset, tmp_path: Path, own_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive: list[weakref.ref[Trainer]] = []

    def noted(*args: Any) -> Trainer:
        made = Trainer(*args)
        alive.append(weakref.ref(made))
        return made

    monkeypatch.setattr(loop, "Trainer", noted)
    threads = threading.active_count()
    bad = [use("mine.nets:net", most=0), use("mine.nets:net", fail_at=5, error="bug"), use("unet", k=4)]
    for number in range(20):
        failing = replace(recipe, model=bad[number % 3], optimizer=use("adam", lr=1e30))
        with pytest.raises((TrialFailed, RuntimeError)):
            Trial(failing, toy_data, tmp_path / str(number)).train()
    release(CPU)
    assert len(alive) == 20 and [ref() for ref in alive if ref()] == []
    assert [each for each in gc.get_objects() if type(each) is Trainer] == []
    assert threading.active_count() == threads
