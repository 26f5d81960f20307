"""Every recipe is checked before anything is trained, and all that is wrong is said at once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tuner.check import check_recipes, recipe_problems
from tuner.errors import SpaceError
from tuner.goal import Goal, maximize
from tuner.recipe import Recipe, use

GOAL = maximize("iou")
GOOD = Recipe(
    task="binary",
    data=use("shapes", image_size=32),
    model=use("unet", k=4),
    loss=use("bce"),
    optimizer=use("adam", lr=1e-3),
    epochs=1,
)
EXPLODING = "tests.unit.test_check:exploding"
WIDE = "tests.unit.test_check:wide"


def exploding(channels: int, classes: int) -> None:
    raise RuntimeError


def wide(channels: int, classes: int) -> Any:
    """A model whose output is no mask of its input."""
    import torch

    return torch.nn.Conv2d(channels, 7, 3)


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
        ({"data": use("shapes", val=3)}, "val is 3; the part of the images to hold out is needed"),
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
        ({"model": use("unet", k=0)}, "unet(k=0) with images of 32 px: k is 0; a width of at least 1 is needed"),
        ({"model": use("unet", k="wide")}, "unet(k=wide) with images of 32 px"),
        ({"model": use(EXPLODING)}, "with images of 32 px: RuntimeError"),
        ({"model": use(WIDE)}, "it gives (2, 7, 30, 30), which is no mask of them"),
        (
            {"optimizer": use("adam", lr=-1.0)},
            "optimizer adam(lr=-1.0): lr of optimizer 'adam' is -1.0; a number above 0",
        ),
        (
            {"schedule": use("plateau", factor=2.0)},
            "schedule plateau(factor=2.0): factor of schedule 'plateau' is 2.0; a number between 0",
        ),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_wrong_is_named(changes: dict[str, Any], message: str) -> None:
    (line,) = wrong(**changes)
    assert message in line


def test_a_goal_the_task_does_not_have_is_named_with_the_near_one() -> None:
    (line,) = wrong(maximize("iuo"))
    assert "the goal 'iuo' is no metric of the task 'binary'. Did you mean 'iou'? Known: " in line


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
