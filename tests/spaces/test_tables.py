"""Every published table: its rows lie inside its space, each once, with a number each."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import optuna
import pytest

from tuner.check import recipe_problems
from tuner.space import draw_one, load_space

FILES = sorted((Path(__file__).parents[2] / "studies").rglob("*.toml"))


@pytest.fixture(params=FILES, ids=lambda path: path.stem)
def table(request: pytest.FixtureRequest) -> dict[str, Any]:
    return tomllib.loads(request.param.read_text())


def test_there_is_a_table() -> None:
    assert FILES


def test_every_row_has_a_published_number_and_stands_once(table: dict[str, Any]) -> None:
    rows = [json.dumps(row["params"], sort_keys=True) for row in table["rows"]]
    assert len(rows) == len(set(rows))
    assert all(0 < row["published"] <= 1 for row in table["rows"])


def test_every_row_lies_inside_its_space(table: dict[str, Any]) -> None:
    space = load_space(table["space"])
    _, distributions = draw_one(space, 0)
    for row in table["rows"]:
        assert row["params"].keys() == distributions.keys()
        for name, value in row["params"].items():
            inside = distributions[name]
            assert inside._contains(inside.to_internal_repr(value)), f"{name}={value}"


def test_every_row_gives_a_recipe_that_can_be_trained(table: dict[str, Any]) -> None:
    space = load_space(table["space"])
    for row in table["rows"]:
        recipe = space.suggest(optuna.trial.FixedTrial(row["params"]))
        assert recipe_problems(recipe, space.goal, {}) == []
        assert recipe.data.name == table["data"] and space.goal.metric == table["metric"]
