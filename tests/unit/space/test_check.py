"""Every recipe is checked before anything is trained, and all that is wrong is said at once."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tuner.errors import SpaceError
from tuner.goal import Goal, maximize, minimize
from tuner.recipe import Recipe, Stage, use
from tuner.space.check import check_recipes, recipe_problems

GOAL = maximize("iou")
GOOD = Recipe(
    task="binary",
    data=use("shapes", image_size=32),
    model=use("unet", k=4),
    loss=use("bce"),
    optimizer=use("adam", lr=1e-3),
    epochs=1,
)
EXPLODING = "tests.unit.space.test_check:exploding"
WIDE = "tests.unit.space.test_check:wide"
DEEP = "tests.unit.space.test_check:deep"
PICKY = "tests.unit.space.test_check:picky"
NARROW = "tests.unit.space.test_check:narrow"
STAGED = replace(GOOD, model=use(DEEP))


def exploding(channels: int, classes: int) -> None:
    raise RuntimeError


def wide(channels: int, classes: int) -> Any:
    """A model whose output does not have the size of its input."""
    import torch

    return torch.nn.Conv2d(channels, 7, 3)


def deep(channels: int, classes: int, *, least: int = 8, layers: int = 2) -> Any:
    """A model with a part named encoder, of so many layers, that no image below `least` pixels can enter."""
    import torch

    class Deep(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            first, *others = (torch.nn.Conv2d(at, 4, 3, padding=1) for at in (channels, *[4] * (layers - 1)))
            self.encoder = torch.nn.Sequential(first, *others)
            self.head = torch.nn.Conv2d(4, classes, 1)

        def forward(self, image: Any) -> Any:
            if image.shape[-1] < least:
                raise ValueError(f"an image of {image.shape[-1]} px is too small")
            return self.head(self.encoder(image))

    return Deep()


def picky(optimizer: Any, epochs: int) -> None:
    """A schedule that needs three epochs."""
    if epochs < 3:
        raise ValueError("too short")


def narrow(image_size: int) -> None:
    """An augmentation that needs 64 pixels."""
    if image_size < 64:
        raise ValueError("too small")


def wrong(goal: Goal = GOAL, **changes: object) -> list[str]:
    return recipe_problems(replace(GOOD, **changes), goal, {})


def test_a_good_recipe_has_no_problem() -> None:
    assert wrong() == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": use("unett")}, "no model 'unett'. Did you mean 'unet'?"),
        ({"loss": use("dise")}, "no loss 'dise'. Did you mean 'dice'?"),
        ({"optimizer": use("adm")}, "no optimizer 'adm'. Did you mean 'adam'?"),
        ({"schedule": use("platoo")}, "no schedule 'platoo'. Did you mean 'plateau'?"),
        ({"augment": use("flipp")}, "no augmentation 'flipp'. Did you mean 'flip'?"),
        ({"data": use("shape")}, "no dataset or folder 'shape'. Did you mean 'shapes'?"),
        ({"task": "binry"}, "no task 'binry'. Did you mean 'binary'?"),
        (
            {"model": use("unet", kk=3)},
            "model 'unet' takes no argument 'kk'. Did you mean 'k'? It takes: k, dropout",
        ),
        ({"data": use("shapes", size=3)}, "dataset 'shapes' takes no argument 'size'."),
        ({"data": use("shapes", val=3)}, "val is 3; a fraction of the images is needed"),
        ({"loss": use("bce", gamma=2)}, "loss 'bce' takes no argument 'gamma'. It takes: no arguments."),
        ({"epochs": 0}, "epochs is 0; a whole number of at least 1 is needed"),
        ({"epochs": 2.5}, "epochs is 2.5; a whole number"),
        ({"epochs": "5"}, "epochs is '5'; a whole number"),
        ({"epochs": True}, "epochs is True; a whole number"),
        ({"epochs": np.int64(5)}, "epochs is np.int64(5); a whole number"),
        ({"batch_size": -1}, "batch_size is -1; a whole number"),
        ({"data": use("shapes", image_size=0)}, "image_size is 0; a whole number"),
        ({"data": use("shapes", image_size="64")}, "image_size is '64'; a whole number"),
        ({"precision": "fp16"}, "precision is 'fp16'. Did you mean"),
        ({"precision": None}, "precision is None."),
        ({"data": use("shapes", image_size=7)}, "with images of 7 px: an image of 7 x 7 is too small for 'unet'"),
        ({"data": use("shapes", image_size=7)}, "(image_size=32 works)"),
        ({"model": use(DEEP, least=200)}, "an image of 32 px is too small (image_size=224 works)"),
        ({"copies": -1}, "copies is -1; a whole number is needed, 0 for none"),
        ({"copies": 1.5}, "copies is 1.5; a whole number"),
        ({"copies": True}, "copies is True; a whole number"),
        ({"validate_every": 0}, "validate_every is 0; a whole number of at least 1"),
        ({"validate_every": "2"}, "validate_every is '2'; a whole number"),
        (
            {"weights": use("old.pth", part="encodr")},
            "weights take part='encodr'. Did you mean 'encoder'?",
        ),
        ({"weights": use("old.pth", part=3)}, "weights take part=3. Known: encoder, all."),
        ({"weights": use("old.pth", path="x")}, "weights take no argument 'path'. They take: part."),
        (
            {"model": use("unet", k=0)},
            "unet(k=0) with images of 32 px: k is 0; a whole number of at least 1 is needed",
        ),
        ({"model": use("unet", k="wide")}, "unet(k=wide) with images of 32 px"),
        ({"model": use(EXPLODING)}, "with images of 32 px: RuntimeError"),
        ({"model": use(WIDE)}, "its output is (2, 7, 30, 30), not a mask per image"),
        (
            {"optimizer": use("adam", lr=-1.0)},
            "optimizer adam(lr=-1.0): lr of optimizer 'adam' is -1.0; a number above 0",
        ),
        (
            {"schedule": use("plateau", factor=2.0)},
            "schedule plateau(factor=2.0): factor of schedule 'plateau' is 2.0; a number above 0",
        ),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_wrong_is_named(changes: dict[str, Any], message: str) -> None:
    (line,) = wrong(**changes)
    assert message in line


INSTANCES = {"task": "instance", "model": use("deep_watershed", k=4), "loss": use("watershed")}


def test_a_good_recipe_of_instances_has_no_problem() -> None:
    assert wrong(maximize("ap"), **INSTANCES) == []
    assert wrong(minimize("count_error"), **INSTANCES) == []


@pytest.mark.parametrize(
    ("changes", "goal", "message"),
    [
        (
            {"model": use("unet", k=4)},
            "ap",
            "it does not predict instances: the task 'instance' needs a model such as",
        ),
        ({"loss": use("bce")}, "ap", "loss 'bce' is not for the task 'instance'. For it: watershed, own."),
        ({"loss": use("own")}, "ap", "it has no losses of its own for 'own': write loss=use(\"watershed\")"),
        ({"loss": use("watershed", mask="cross_entropy")}, "ap", "loss 'cross_entropy' is not for the task"),
        ({"loss": use("watershed", energy_weight=-1)}, "ap", "energy_weight of loss 'watershed' is -1"),
        (
            {"model": use("mask_rcnn", backbone="resnet18", k=8)},
            "ap",
            "it computes its own losses and does not use watershed",
        ),
        ({"model": use("deep_watershed", base="timm")}, "ap", "its base is not a segmentation model"),
        (
            {},
            "count_error",
            'the goal maximizes count_error; smaller is better. Write: GOAL = minimize("count_error").',
        ),
        ({}, "iou", "the goal 'iou' is not a metric of the task 'instance'."),
    ],
)
def test_what_is_wrong_with_instances_is_named(changes: dict[str, Any], goal: str, message: str) -> None:
    (line,) = wrong(maximize(goal), **{**INSTANCES, **changes})
    assert message in line


def test_a_goal_the_task_does_not_have_is_named_with_the_near_one() -> None:
    (line,) = wrong(maximize("iuo"))
    assert "the goal 'iuo' is not a metric of the task 'binary'. Did you mean 'iou'? Known: " in line


def test_everything_wrong_with_one_recipe_is_told_at_once() -> None:
    lines = wrong(maximize("mAP"), model=use("unett"), loss=use("dise"), epochs=0, data=use("shape"))
    assert len(lines) == 5


def test_parts_that_cannot_be_built_are_all_told() -> None:
    lines = wrong(model=use("unet", k=0), optimizer=use("adam", lr=-1.0), schedule=use("plateau", factor=2.0))
    assert len(lines) == 3


def test_each_problem_of_many_recipes_is_told_once() -> None:
    recipes = [replace(GOOD, epochs=epochs, model=use("unett")) for epochs in (0, 1, 0, 2)]
    with pytest.raises(SpaceError) as caught:
        check_recipes(recipes, GOAL, "mine.py")
    lines = str(caught.value).splitlines()
    assert lines[0] == "mine.py: its recipes cannot be trained:" and len(lines) == 3


def test_a_bad_learning_rate_in_the_last_of_many_draws_is_found() -> None:
    recipes = [replace(GOOD, optimizer=use("adam", lr=lr)) for lr in (1e-3, 1e-2, -1e-2)]
    with pytest.raises(SpaceError, match=r"adam\(lr=-0\.01\): lr .* is -0\.01"):
        check_recipes(recipes, GOAL, "mine.py")


def test_a_hundred_problems_are_cut_and_counted() -> None:
    recipes = [replace(GOOD, epochs=-at) for at in range(100)]
    with pytest.raises(SpaceError, match=r"and 80 more$"):
        check_recipes(recipes, GOAL, "mine.py")


def test_a_goal_that_would_make_the_loss_large_is_refused() -> None:
    (line,) = wrong(maximize("loss"))
    assert 'GOAL = minimize("loss")' in line
    assert wrong(Goal("loss", "minimize")) == []


# --- stages ---


def staged_wrong(*stages: Stage, **changes: object) -> list[str]:
    recipe = replace(STAGED, stages=stages, epochs=sum(stage.epochs for stage in stages))
    return recipe_problems(replace(recipe, **changes), GOAL, {})


def test_good_stages_have_no_problem() -> None:
    warm = Stage(2, frozen="encoder", lr=1e-2, schedule=use("cosine"))
    assert staged_wrong(warm, Stage(3, frozen=["encoder[:-1]"], encoder_lr=1e-5)) == []


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        (
            Stage(1, frozen="encodr"),
            "freezes 'encodr', which the model does not have. Did you mean 'encoder'? It has: ",
        ),
        (Stage(1, frozen="encoder[:-2]"), "'encoder[:-2]', which selects none of the 2 layers of 'encoder'"),
        (Stage(1, frozen="encoder[2]"), "the name of a module is needed, or its layers"),
        (Stage(1, frozen=("encoder", "head")), "a stage freezes everything: encoder, head"),
        (Stage(0), "epochs of stage 2 is 0; a whole number of at least 1"),
        (Stage(1, lr=0), "lr of stage 2 is 0; a number above 0 is needed"),
        (Stage(1, lr="fast"), "lr of stage 2 is 'fast'; a number above 0"),  # type: ignore[arg-type]
        (Stage(1, encoder_lr=-1e-3), "encoder_lr of stage 2 is -0.001; a number above 0"),
        (Stage(1, schedule=use("cosin")), "no schedule 'cosin'. Did you mean 'cosine'?"),
        (Stage(1, schedule=use("cosine", gamma=1)), "schedule 'cosine' takes no argument 'gamma'"),
        (Stage(1, schedule=use("exponential", gamma=-1)), "schedule exponential(gamma=-1): gamma"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_wrong_with_a_stage_is_named(stage: Stage, message: str) -> None:
    (line,) = staged_wrong(Stage(1), stage)
    assert message in line


def test_a_rate_for_the_encoder_of_a_model_without_one_is_named() -> None:
    (line,) = staged_wrong(Stage(1, encoder_lr=1e-5), model=use("unet", k=4))
    assert "sets encoder_lr, but the model has no part named encoder" in line


def test_epochs_that_are_not_the_stages_sum_are_named() -> None:
    (line,) = staged_wrong(Stage(2), Stage(3), epochs=7)
    assert line == "epochs is 7, but the stages sum up to 2 + 3. Leave epochs out: it is their sum."


def test_what_is_wrong_with_all_stages_is_told_at_once() -> None:
    assert len(staged_wrong(Stage(0), Stage(1, lr=-1.0), Stage(1, schedule=use("cosin")))) == 3


# --- classes ---


def test_classes_unknown_before_the_data_is_opened_are_taken_to_be_some() -> None:
    labels = replace(STAGED, task="multiclass", data=use("scenes", image_size=32), loss=use("cross_entropy"))
    assert recipe_problems(labels, maximize("miou"), {}) == []
    assert recipe_problems(replace(labels, classes=("a", "b")), maximize("miou"), {}) == []
    weighted = replace(labels, loss=use("cross_entropy", weights=[1.0, 2.0, 3.0, 4.0]))
    assert recipe_problems(weighted, maximize("miou"), {}) == []
    (line,) = recipe_problems(replace(weighted, classes=("a", "b")), maximize("miou"), {})
    assert "loss cross_entropy" in line and "4 numbers for 2 classes" in line


def test_a_model_that_gives_masks_is_no_classifier() -> None:
    recipe = replace(STAGED, task="classification", data=use("badges", image_size=32), loss=use("cross_entropy"))
    (line,) = recipe_problems(recipe, maximize("accuracy"), {})
    assert "its output is (2, 3, 32, 32), not a class per image: the task 'classification' needs (2, 3)" in line


def test_a_loss_of_another_task_is_named() -> None:
    (line,) = wrong(loss=use("cross_entropy"))
    assert "loss 'cross_entropy' is not for the task 'binary'. For it: bce, dice" in line


def test_a_goal_of_another_task_is_named() -> None:
    (line,) = wrong(maximize("miou"))
    assert "the goal 'miou' is not a metric of the task 'binary'. Did you mean 'iou'?" in line


@pytest.mark.parametrize(
    ("good", "bad", "message"),
    [
        ({"epochs": 3}, {"epochs": 2}, "schedule tests.unit.space.test_check:picky(): too short"),
        (
            {"data": use("shapes", image_size=64)},
            {"data": use("shapes", image_size=32)},
            "augmentation tests.unit.space.test_check:narrow(): too small",
        ),
    ],
    ids=["schedule and epochs", "augmentation and image size"],
)
def test_a_part_is_tried_with_each_size_that_it_is_built_for(
    good: dict[str, Any], bad: dict[str, Any], message: str
) -> None:
    base = replace(GOOD, epochs=3, schedule=use(PICKY))
    base = replace(GOOD, augment=use(NARROW)) if "data" in good else base
    recipes = [replace(base, **good), replace(base, **bad)]
    with pytest.raises(SpaceError, match=re.escape(message)):
        check_recipes(recipes, GOAL, "space.py")
    check_recipes(recipes[:1], GOAL, "space.py")


def test_stages_of_equal_schedules_tell_a_problem_once() -> None:
    stages = (Stage(1, schedule=use(PICKY)), Stage(2, schedule=use(PICKY)), Stage(3, schedule=use(PICKY)))
    recipe = replace(GOOD, epochs=6, stages=stages)
    assert recipe_problems(recipe, GOAL, {}) == [f"schedule {PICKY}(): too short"]


def test_a_model_with_losses_of_its_own_is_tried_with_each_loss() -> None:
    base = replace(GOOD, task="instance", data=use("cells", image_size=64), model=use("mask_rcnn"))
    recipes = [replace(base, loss=use(name)) for name in ("own", "watershed")]
    with pytest.raises(SpaceError, match="does not use watershed"):
        check_recipes(recipes, maximize("ap"), "space.py")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (float("inf"), "inf"),
        ([1, {"a": float("nan")}], "nan"),
        (2**63, str(2**63)),
        (1 << 20_000, "of 20,001 bits"),
    ],
    ids=["inf", "nan in a list", "large", "larger"],
)
def test_numbers_that_a_recipe_cannot_store_are_named(value: Any, shown: str) -> None:
    wrong = f"least of '{DEEP}' is {shown}; a finite number of at most 64 bits is needed."
    assert recipe_problems(replace(GOOD, model=use(DEEP, least=value)), GOAL, {}) == [wrong]
    staged = replace(GOOD, epochs=0, stages=(Stage(1, schedule=use("mine:steps", least=value)),))
    assert f"least of 'mine:steps' is {shown}; a finite number of at most 64 bits is needed." in recipe_problems(
        staged, GOAL, {}
    )
