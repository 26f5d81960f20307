"""A rehearsal is the same recipe at toy size, and still one that can be trained."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tuner.errors import PartError
from tuner.goal import maximize
from tuner.recipe import Part, Recipe, Stage, use
from tuner.space.check import recipe_problems
from tuner.space.rehearsal import reduce_recipe, rehearse

REAL = Recipe(
    task="binary",
    data=use("weizmann_horse", image_size=512, val=0.3, split_seed=4),
    augment=use("flip", p=0.3),
    model=use("unet", k=64, dropout=0.1),
    loss=use("dice"),
    optimizer=use("adam", lr=2e-3),
    schedule=use("plateau"),
    epochs=80,
    batch_size=4,
    seed=11,
)


def test_all_that_costs_time_is_divided() -> None:
    toy = rehearse(REAL)
    assert (toy.image_size, toy.model.args["k"], toy.epochs) == (64, 8, 10)


def test_everything_else_stays() -> None:
    toy = rehearse(REAL)
    assert toy.data == use("shapes", image_size=64, val=0.3, split_seed=4)
    assert replace(toy, data=REAL.data, model=REAL.model, epochs=80) == REAL
    assert toy.model.args["dropout"] == 0.1


@pytest.mark.parametrize(("size", "k", "epochs"), [(1, 1, 1), (32, 4, 2), (800, 200, 100)])
def test_a_toy_can_always_be_trained(size: int, k: int, epochs: int) -> None:
    small = replace(REAL, data=use("shapes", image_size=size), model=use("unet", k=k), epochs=epochs)
    toy = rehearse(small)
    assert recipe_problems(toy, maximize("iou"), {}) == []
    assert toy.image_size >= 32 and toy.epochs >= 2


def test_an_unknown_task_is_named() -> None:
    with pytest.raises(PartError, match="Did you mean 'binary'"):
        rehearse(replace(REAL, task="binry"))


@pytest.mark.parametrize(
    ("task", "data", "loss", "model"),
    [
        ("multiclass", "scenes", "cross_entropy", use("unet", k=64)),
        ("classification", "badges", "cross_entropy", use("sport_vgg")),
    ],
)
def test_every_task_has_generated_data(task: str, data: str, loss: str, model: Part) -> None:
    toy = rehearse(replace(REAL, task=task, loss=use(loss), model=model, copies=2, validate_every=5))
    assert toy.data == use(data, image_size=64, val=0.3, split_seed=4)
    assert (toy.copies, toy.validate_every) == (2, 5)
    goal = maximize("miou" if task == "multiclass" else "accuracy")
    assert recipe_problems(toy, goal, {}) == []


def test_every_stage_is_shorter_and_none_is_lost() -> None:
    stages = (Stage(3, frozen="encoder"), Stage(80, encoder_lr=1e-5, schedule=use("cosine")))
    toy = rehearse(replace(REAL, stages=stages, epochs=83))
    assert toy.stages == (replace(stages[0], epochs=1), replace(stages[1], epochs=10))
    assert toy.epochs == 11


@pytest.mark.parametrize(
    ("weights", "toy"),
    [
        (use("none"), use("none")),
        (use("imagenet"), use("random", part="encoder")),
        (use("old.pth"), use("random", part="all")),
        (use("#12", part="encoder"), use("random", part="encoder")),
    ],
    ids=str,
)
def test_weights_are_random_ones_and_the_same_part_of_them(weights: Part, toy: Part) -> None:
    assert rehearse(replace(REAL, weights=weights)).weights == toy


def test_widths_are_divided_whatever_they_are_called() -> None:
    given = use("sport_vgg", hidden=1024, dropout=0.3)
    assert rehearse(replace(REAL, model=given)).model.args == {"hidden": 128, "dropout": 0.3, "reduced": 32}


def test_widths_that_a_model_has_by_default_are_divided_too() -> None:
    assert rehearse(replace(REAL, model=use("unet"))).model.args == {"k": 8}


def test_the_real_study_can_be_reduced_as_well() -> None:
    small = reduce_recipe(REAL, 8, 5)
    assert (small.image_size, small.model.args["k"], small.epochs) == (64, 8, 16)
    assert small.data.name == "weizmann_horse" and small.data.args["split_seed"] == 4
    assert replace(small, data=REAL.data, model=REAL.model, epochs=80) == REAL
    assert reduce_recipe(REAL, 1, 1) == REAL


def test_class_weights_given_as_a_list_become_frequencies() -> None:
    """The generated data has other classes."""
    loss = use("cross_entropy", weights=[1.0, 2.0, 3.0], label_smoothing=0.1)
    toy = rehearse(replace(REAL, task="multiclass", loss=loss))
    assert toy.loss == use("cross_entropy", weights="frequency", label_smoothing=0.1)


@pytest.mark.parametrize(
    ("model", "small"),
    [
        (use("deep_watershed", k=32, min_size=64), use("deep_watershed", k=4, min_size=4)),
        (use("deep_watershed", min_size=3), use("deep_watershed", min_size=1)),
        (use("mask_rcnn", k=64, anchor=16, score=0.5), use("mask_rcnn", k=8, anchor=4, score=0.5)),
        (use("mask_rcnn", k=64, anchor=[8, 16, 32, 64, 2]), use("mask_rcnn", k=8, anchor=[2, 4, 8, 16, 1])),
    ],
    ids=str,
)
def test_what_is_measured_in_pixels_gets_as_small_as_the_image(model: Part, small: Part) -> None:
    recipe = replace(REAL, task="instance", data=use("penn_fudan", image_size=256), model=model)
    toy = rehearse(recipe)
    assert toy.image_size == 64 and toy.data.name == "cells"
    assert dict(toy.model.args) == dict(small.args)
