"""A rehearsal is the same recipe at toy size, and still one that can be trained."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tuner.check import recipe_problems
from tuner.errors import PartError
from tuner.goal import maximize
from tuner.recipe import Recipe, use
from tuner.rehearsal import rehearse

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
