"""Label maps and classes go the way that masks go: trained, validated, shown, counted."""

from __future__ import annotations

import math
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import torch
from helpers.local_training import CPU, Trial, assert_same, stop_after
from optuna.artifacts import get_all_artifact_meta
from sklearn.metrics import confusion_matrix, jaccard_score

from tuner.artifacts.optuna_store import TrialArtifacts
from tuner.data.cache import CachedDataset
from tuner.goal import maximize
from tuner.paths import Home
from tuner.recipe import Recipe, use
from tuner.search import trial_pictures
from tuner.search.trial_pictures import TrialPictures
from tuner.tasks import TASKS
from tuner.train import details, validation
from tuner.train.checkpoint import load_weights
from tuner.train.memory import MicroBatches
from tuner.train.trainer import Trainer

MIOU, ACCURACY = maximize("miou"), maximize("accuracy")


@pytest.fixture
def labels(label_recipe: Recipe, toy_scenes: CachedDataset, tmp_path: Path) -> Trial:
    return Trial(label_recipe, toy_scenes, tmp_path / "labels", MIOU)


@pytest.fixture
def classes(class_recipe: Recipe, toy_badges: CachedDataset, tmp_path: Path) -> Trial:
    return Trial(class_recipe, toy_badges, tmp_path / "classes", ACCURACY)


@pytest.fixture(params=["labels", "classes"])
def trial(request: pytest.FixtureRequest) -> Trial:
    return request.getfixturevalue(request.param)  # type: ignore[no-any-return]


def best_trainer(trial: Trial) -> Trainer:
    """A trainer with the best weights that a trial left."""
    made = Trainer(trial.recipe, CPU, MicroBatches(trial.run.folder / "none.json"), trial.data.shares)
    load_weights(made.model, trial.run.best)
    made.model.eval()
    return made


def answers(trial: Trial) -> tuple[Any, Any]:
    """(truth, best model's answer) over the whole validation split, worked out at once."""
    trainer, val = best_trainer(trial), trial.data.val
    images, targets = torch.from_numpy(trial.data.images[val]), torch.from_numpy(trial.data.targets[val])
    with torch.no_grad():
        _, logits, target = trainer.compute_loss(images, targets)
    return target.numpy(), logits.argmax(1).numpy()


def metas_of(asked: optuna.Trial) -> list[dict[str, Any]]:
    """What Optuna, and so the dashboard, knows of a trial's artifacts, in its order."""
    return [asdict(meta) for meta in get_all_artifact_meta(asked)]


def test_every_metric_of_the_task_is_reported(trial: Trial) -> None:
    assert trial.train().end == "finished"
    task = TASKS[trial.recipe.task]
    for report in trial.reports.values():
        assert {f"val_{name}" for name in task.metrics} <= report.metrics.keys()
        assert {f"train_{name}" for name in task.metrics if name != "map"} <= report.metrics.keys()
        assert "train_map" not in report.metrics and all(map(math.isfinite, report.metrics.values()))
        assert report.value == report.metrics[f"val_{trial.goal.metric}"]


def test_it_learns(trial: Trial) -> None:
    trial.recipe = replace(trial.recipe, epochs=6, optimizer=use("adam", lr=2e-2), batch_size=4)
    trial.train()
    losses = [report.metrics["train_loss"] for report in trial.reports.values()]
    assert losses[-1] < 0.95 * losses[0]


def test_the_scores_of_label_maps_are_scikit_learns_without_ignored_pixels(labels: Trial) -> None:
    progress = labels.train().progress
    truth, guess = answers(labels)
    counted = truth != 255
    assert 0 < counted.mean() < 1
    truth, guess = truth[counted], guess[counted]
    assert progress.confusion == confusion_matrix(truth, guess, labels=range(4)).tolist()
    occur = np.union1d(truth, guess)
    each = jaccard_score(truth, guess, labels=occur, average=None, zero_division=0)
    metrics = labels.reports[progress.best_epoch].metrics
    assert progress.best_value == pytest.approx(each.mean())
    named = {f"val_iou:{labels.data.classes[at]}": value for at, value in zip(occur, each, strict=True)}
    assert {name: value for name, value in metrics.items() if ":" in name} == pytest.approx(named)


def test_the_scores_of_classes_are_scikit_learns(classes: Trial) -> None:
    progress = classes.train().progress
    truth, guess = answers(classes)
    assert progress.confusion == confusion_matrix(truth, guess, labels=range(6)).tolist()
    assert progress.best_value == pytest.approx((truth == guess).mean())
    assert sum(map(sum, progress.confusion)) == len(classes.data.val)


def test_what_is_shown_are_the_best_models_answers(trial: Trial) -> None:
    shown = trial.train().examples
    _, guess = answers(trial)
    assert shown is not None and len(shown.guesses) == min(9, len(trial.data.val))
    for at, said in shown.guesses.items():
        assert np.array_equal(said if said.ndim == 2 else said.argmax(), guess[at])


def test_the_score_of_an_image_is_scikit_learns(trial: Trial) -> None:
    scores = trial.train().progress.scores
    truth, guess = answers(trial)
    if trial.recipe.task == "classification":
        trainer = best_trainer(trial)
        images, targets = (
            torch.from_numpy(each[trial.data.val]) for each in (trial.data.images, trial.data.targets)
        )
        with torch.no_grad():
            shares = trainer.compute_loss(images, targets)[1].softmax(1).numpy()
        expected = shares[np.arange(len(truth)), truth]
    else:
        pairs = [(t[t != 255], p[t != 255]) for t, p in zip(truth, guess, strict=True)]
        expected = np.array([jaccard_score(t, p, average="macro") for t, p in pairs])
    assert scores == pytest.approx(list(expected), abs=1e-5)


def test_an_interrupted_trial_is_the_same_trial(trial: Trial, tmp_path: Path) -> None:
    unbroken = Trial(trial.recipe, trial.data, tmp_path / "unbroken", trial.goal)
    unbroken.train()
    for asked in (2, 2):
        assert trial.train(stop_after(asked)).end == "stopped"
    assert trial.go_on().end == "finished"
    assert_same(trial, unbroken)


def test_a_trial_leaves_pictures_and_its_confusion(
    trial: Trial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # what it draws is drawn when somebody looks
    outcome = trial.train()
    asked = optuna.create_study().ask()
    pictures = TrialPictures(asked, trial.recipe, trial.data, trial.run, TrialArtifacts(Home(tmp_path)))
    trial_pictures.write_pictures(pictures, outcome, is_explained=False)
    assert all(file.stat().st_size > 1000 for file in (trial.run.strip, trial.run.predictions))
    found = details.read_details(trial.run.details)
    assert found is not None and found.scores == [
        pytest.approx(score, abs=1e-6) for score in outcome.progress.scores
    ]
    assert outcome.examples is not None and found.images["shown"] == outcome.examples.positions
    header, *lines = trial.run.confusion.read_text().splitlines()
    assert header.split(",")[1:] == list(trial.data.classes)
    table = {line.split(",")[0]: [int(number) for number in line.split(",")[1:]] for line in lines}
    assert list(table) == list(trial.data.classes)
    assert list(table.values()) == outcome.progress.confusion
    late = [file.name for file in trial.run.lazy_pictures]
    left = [file.name for file in trial.run.pictures if file.exists() or file.name in late]
    metas = metas_of(asked)
    assert [meta["filename"] for meta in metas] == left and len(left) == 6
    assert not any(file.exists() for file in trial.run.lazy_pictures)
    for meta in metas:
        if meta["filename"] in late:
            continue
        hung = tmp_path / "artifacts" / meta["artifact_id"]
        assert hung.read_bytes() == (trial.run.folder / meta["filename"]).read_bytes()
    trial_pictures.write_pictures(pictures, outcome, is_explained=False)
    assert metas_of(asked) == metas  # drawn again, each is in its old place


def test_saved_weights_score_on_a_split_as_they_did_in_training(trial: Trial) -> None:
    progress = trial.train().progress
    micro = MicroBatches(trial.run.folder / "none.json")
    scored = validation.evaluate(trial.recipe, trial.data, trial.run.best, CPU, micro, trial.data.shares)
    measured = trial.reports[progress.best_epoch].metrics
    expected = {name.removeprefix("val_"): v for name, v in measured.items() if name.startswith("val_")}
    assert scored.scores() == pytest.approx(expected) and scored.confusion() == progress.confusion
    assert scored.images == len(trial.data.val)


# --- a model that counts ---


@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_a_model_that_counts_learns_the_frequencies_without_a_gradient(
    toy_recipe: Recipe,
    toy_data: CachedDataset,
    label_recipe: Recipe,
    toy_scenes: CachedDataset,
    tmp_path: Path,
    task: str,
) -> None:
    recipe, data, goal = (
        (toy_recipe, toy_data, maximize("iou")) if task == "binary" else (label_recipe, toy_scenes, MIOU)
    )
    counting = replace(recipe, model=use("pixel_frequency", side=32), augment=use("none"), epochs=2)
    trial = Trial(counting, data, tmp_path / "run", goal)
    trial.train()
    model, targets = best_trainer(trial).model, data.targets[data.train]
    assert not list(model.parameters())
    logits = model(torch.zeros(1, 3, 32, 32))[0]
    if task == "binary":
        found, expected = logits[0].sigmoid(), (targets == 1).mean(0)
    else:
        found = logits.softmax(0)[1]
        counted = np.maximum((targets != 255).sum(0), 1)
        expected = np.where((targets != 255).any(0), (targets == 1).sum(0) / counted, 0.25)
    assert np.allclose(found.numpy(), expected, atol=1e-3)
    first, second = (report.metrics["val_loss"] for report in trial.reports.values())
    assert first == pytest.approx(second, rel=0.05)  # twice as much of the same


def test_a_model_that_counts_goes_on_after_a_stop(
    toy_recipe: Recipe, toy_data: CachedDataset, tmp_path: Path
) -> None:
    recipe = replace(toy_recipe, model=use("pixel_frequency", side=8))
    unbroken, trial = (Trial(recipe, toy_data, tmp_path / name) for name in ("unbroken", "trial"))
    unbroken.train()
    assert trial.train(stop_after(2)).end == "stopped"
    trial.train()
    assert_same(trial, unbroken)


# --- weights of classes ---


@pytest.mark.parametrize("which", ["labels", "classes"])
def test_frequent_classes_weigh_less(which: str, request: pytest.FixtureRequest) -> None:
    """Twice the same answer: the loss is dearer where the rarer class is missed."""
    trial: Trial = request.getfixturevalue(which)
    weighted = replace(trial.recipe, loss=use("cross_entropy", weights="frequency"))
    trainer = Trainer(weighted, CPU, MicroBatches(trial.run.folder / "none.json"), trial.data.shares)
    targets = trial.data.targets[trial.data.train]
    number = len(trial.data.classes)
    shares = np.bincount(targets[targets < number].ravel(), minlength=number) / (targets < number).sum()
    assert trial.data.shares() == pytest.approx(shares.tolist())
    inverse = 1 / shares / np.mean(1 / shares)
    ends = (2, 2) if which == "labels" else ()
    logits = torch.zeros(number, number, *ends)
    logits[:, 0] = 5.0
    target = torch.arange(number).view(number, *([1] * len(ends))).expand(number, *ends)
    costs = torch.nn.functional.cross_entropy(logits, target, reduction="none").reshape(number, -1)[:, 0].numpy()
    expected = (costs * inverse).sum() / inverse.sum()
    assert float(trainer.loss(logits, target)) == pytest.approx(expected, rel=1e-4)  # type: ignore[operator]
    assert expected != pytest.approx(costs.mean(), rel=1e-3) or np.allclose(inverse, 1)


def test_the_shares_of_the_data_reach_the_loss_in_training(
    label_recipe: Recipe, toy_scenes: CachedDataset, tmp_path: Path
) -> None:
    curves = []
    for weights in ("none", "frequency"):
        recipe = replace(label_recipe, loss=use("cross_entropy", weights=weights), epochs=1)
        trial = Trial(recipe, toy_scenes, tmp_path / weights, MIOU)
        trial.train()
        curves.append(trial.curve[1]["train_loss"])
    assert curves[0] != curves[1]


# --- validated now and then ---


@pytest.mark.parametrize(
    ("every", "epochs", "validated"),
    [
        (2, 5, [2, 4, 5]),
        *(pytest.param(*each, marks=pytest.mark.slow) for each in ((1, 3, [1, 2, 3]), (3, 3, [3]), (9, 2, [2]))),
    ],
)
def test_an_epoch_is_validated_as_often_as_asked_and_the_last_always(
    toy_recipe: Recipe, toy_data: CachedDataset, tmp_path: Path, every: int, epochs: int, validated: list[int]
) -> None:
    recipe = replace(toy_recipe, validate_every=every, epochs=epochs)
    trial = Trial(recipe, toy_data, tmp_path / "run")
    progress = trial.train().progress
    assert [epoch for epoch, report in trial.reports.items() if report.value is not None] == validated
    for epoch, report in trial.reports.items():
        assert any(name.startswith("val_") for name in report.metrics) == (epoch in validated)
        assert "train_loss" in report.metrics and report.images_per_second > 0
    values = {epoch: trial.reports[epoch].value for epoch in validated}
    assert progress.best_epoch in validated and progress.best_value == max(values.values())  # type: ignore[type-var]
    assert progress.last_value == values[epochs]


@pytest.mark.slow
def test_plateau_waits_for_validations_and_others_do_not(
    toy_recipe: Recipe, toy_data: CachedDataset, tmp_path: Path
) -> None:
    """Nothing ever gets better: the rate halves at every validation after the first."""
    stuck = replace(toy_recipe, optimizer=use("sgd", lr=1e-30, momentum=0.0), epochs=7, validate_every=2)
    rates = {}
    for schedule in (use("plateau", patience=0), use("exponential", gamma=0.5)):
        trial = Trial(replace(stuck, schedule=schedule), toy_data, tmp_path / schedule.name)
        trial.train()
        rates[schedule.name] = [report.lr / 1e-30 for report in trial.reports.values()]
    assert rates["plateau"] == pytest.approx([1, 1, 1, 1, 0.5, 0.5, 0.25])
    assert rates["exponential"] == pytest.approx([0.5**at for at in range(7)])


def test_validating_seldom_trains_the_same_weights(
    toy_recipe: Recipe, toy_data: CachedDataset, tmp_path: Path
) -> None:
    plain = replace(toy_recipe, schedule=use("none"), epochs=4)
    often, seldom = (
        Trial(replace(plain, validate_every=every), toy_data, tmp_path / str(every)) for every in (1, 4)
    )
    often.train()
    seldom.train()
    for epoch in (1, 2, 3):
        train = {name: v for name, v in often.curve[epoch].items() if not name.startswith("val_")}
        assert seldom.curve[epoch] == train
    assert seldom.curve[4] == often.curve[4]


@pytest.mark.slow
@pytest.mark.parametrize("asked", [3, 4, 7])
def test_a_seldom_validated_trial_goes_on_after_a_stop(
    toy_recipe: Recipe, toy_data: CachedDataset, tmp_path: Path, asked: int
) -> None:
    recipe = replace(toy_recipe, validate_every=2, epochs=3)
    unbroken, trial = (Trial(recipe, toy_data, tmp_path / name) for name in ("unbroken", "trial"))
    unbroken.train()
    assert trial.train(stop_after(asked)).end == "stopped"
    trial.go_on()
    assert_same(trial, unbroken)


# --- copies ---


def test_copies_are_trained_beside_the_originals_and_a_stop_among_them_changes_nothing(
    toy_recipe: Recipe, toy_data: CachedDataset, tmp_path: Path
) -> None:
    """Nineteen originals in batches of eight are three steps; with a copy of each they are five."""
    recipe = replace(toy_recipe, copies=1)
    assert len(toy_data.train) == 19
    unbroken, trial = (Trial(recipe, toy_data, tmp_path / name) for name in ("unbroken", "trial"))
    unbroken.train()
    assert trial.train(stop_after(4)).progress.step == 4
    assert trial.train(stop_after(1)).progress.step == 5
    assert trial.train().end == "finished"
    assert_same(trial, unbroken)
    plain = Trial(toy_recipe, toy_data, tmp_path / "plain")
    assert plain.train(stop_after(4)).progress.step == 3


def test_a_loss_weighed_by_frequency_is_the_training_splits_on_other_splits_too(trial: Trial) -> None:
    """A test split has no training images to count: the weights are those that were trained with."""
    recipe = replace(trial.recipe, loss=use("cross_entropy", weights="frequency"))
    weighed = Trial(recipe, trial.data, trial.run.folder / "weighed", goal=trial.goal)
    progress = weighed.train().progress
    alone = replace(trial.data, train=trial.data.train[:0])
    micro = MicroBatches(trial.run.folder / "none.json")
    scored = validation.evaluate(weighed.recipe, alone, weighed.run.best, CPU, micro, trial.data.shares)
    assert scored.scores()["loss"] == pytest.approx(weighed.reports[progress.best_epoch].metrics["val_loss"])
