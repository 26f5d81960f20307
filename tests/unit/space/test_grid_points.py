"""The values of a grid: given or all of a parameter's own; everything wrong with them at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tuner.errors import SpaceError
from tuner.space.grid import grid_point, resolve_grid
from tuner.space.search_settings import SearchChoice, SearchSettings
from tuner.space.space import DrawnRecipes

LR = {"kind": "float", "low": 1e-4, "high": 0.1, "log": True, "step": None}
P = {"kind": "float", "low": 0.0, "high": 0.5, "log": False, "step": 0.25}
K = {"kind": "int", "low": 4, "high": 12, "log": False, "step": 4}
ONE = {"kind": "float", "low": 0.5, "high": 0.5, "log": False, "step": None}
WIDE = {"kind": "int", "low": 1, "high": 10**6, "log": True, "step": 1}
LOSS = {"kind": "categorical", "choices": ["bce", None, 1]}


def resolve(given: dict[str, Any], varying: tuple[str, ...] = (), **parameters: Any) -> dict[str, list[Any]]:
    return resolve_grid(given, DrawnRecipes((), parameters, frozenset(varying)), Path("mine.py"))


def said(given: dict[str, Any], varying: tuple[str, ...] = (), **parameters: Any) -> str:
    with pytest.raises(SpaceError) as told:
        resolve(given, varying, **parameters)
    return str(told.value)


def test_parameters_without_given_values_have_all_of_theirs() -> None:
    assert resolve({"lr": [1e-3, 0.1]}, lr=LR, p=P, k=K, one=ONE, loss=LOSS) == {
        "lr": [1e-3, 0.1],
        "p": [0.0, 0.25, 0.5],
        "k": [4, 8, 12],
        "one": [0.5],
        "loss": ["bce", None, 1],
    }
    assert resolve({"p": [0]}, p=P) == {"p": [0.0]} and isinstance(resolve({"p": [0]}, p=P)["p"][0], float)


def test_every_index_is_another_point() -> None:
    grid = resolve({}, k=K, loss=LOSS)
    points = [grid_point(grid, index) for index in range(9)]
    assert SearchSettings(sampler="grid", grid=grid).num_points == 9
    assert len({tuple(point.items()) for point in points}) == 9
    assert points[0] == {"loss": "bce", "k": 4} and points[1] == {"loss": None, "k": 4}


def test_everything_wrong_is_told_at_once() -> None:
    given = {"lrr": [1], "p": [0.1, 0.25, 0.25, 10**400], "k": [True, 8], "loss": ["bce", True]}
    message = said(given, lr=LR, p=P, k=K, loss=LOSS, wide=WIDE)
    for words in (
        "mine.py cannot be searched by a grid:",
        "'lrr' is not a parameter of the space. Did you mean 'lr'? It has: lr, p, k, loss, wide.",
        "'lr' has no step: float 0.0001 to 0.1, log. Give its values: grid={\"lr\": [0.0001, 0.1]}.",
        "'p': 0.1 is outside float 0 to 0.5, step 0.25.",
        "'p': 0.25 is given twice.",
        f"'p': {'1' + '0' * 60}",
        "'k': True is outside int 4 to 12",
        "'loss': True is outside one of bce, None, 1.",
        "'wide' has 1,000,000 values: int 1 to 1e+06, log. Give its values:",
    ):
        assert words in message, message


def test_parameters_that_some_recipes_lack_and_too_many_points_are_told() -> None:
    assert "'k' is drawn in some recipes only, or within other bounds" in said({}, ("k",), k=K, loss=LOSS)
    many = {f"x{number}": {**K, "high": 400} for number in range(3)}
    assert "it has 1,000,000 points (100 of x0 x 100 of x1 x 100 of x2); at most 100,000" in said({}, **many)
    assert "the space has no parameters" in said({})


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"sampler": "grid", "grid": {"lr": []}}, r"grid is \{'lr': \[\]\}; values for parameters are needed"),
        ({"sampler": "grid", "grid": [1]}, r"grid is \[1\]"),
        ({"sampler": "grid", "grid": {"lr": [1] * 10_001}}, r"too many values \(lr: 10,001\); at most 10,000 are"),
        ({"grid": {"lr": [1]}}, "grid belongs to sampler='grid'; the sampler is 'tpe'"),
    ],
)
def test_values_of_another_form_are_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        SearchSettings(**given)


def test_another_sampler_on_the_command_line_leaves_the_grid_of_the_space_out() -> None:
    mine = SearchChoice({"sampler": "grid", "grid": {"lr": [1]}})
    assert mine.with_options({"sampler": "tpe"}).chosen == {"sampler": "tpe"}
    assert mine.with_options({"pruning": "none"}).settle().grid == {"lr": [1]}
