"""A recipe is plain data: there and back through JSON, never changed, and no place for anything else."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest

from tuner.recipe import VERSION, Part, Recipe, use

RECIPE = Recipe(
    task="binary",
    data=use("shapes", image_size=64),
    model=use("unet", k=8, dropout=0.1),
    loss=use("focal", gamma=2.0),
    optimizer=use("adam", lr=1e-3),
    epochs=3,
    augment=use("flip"),
)


def test_a_recipe_comes_back_from_json_as_it_was() -> None:
    assert Recipe.from_json(json.loads(json.dumps(RECIPE.to_json()))) == RECIPE


def test_a_tuple_comes_back_as_a_list_and_stays_usable() -> None:
    recipe = replace(RECIPE, model=use("unet", widths=(8, 16)))
    assert Recipe.from_json(json.loads(json.dumps(recipe.to_json()))).model.args["widths"] == [8, 16]


@pytest.mark.parametrize("version", [0, VERSION + 1, None])
def test_another_version_is_refused(version: int | None) -> None:
    with pytest.raises(ValueError, match=f"a recipe of version {version}; this tuner reads version {VERSION}"):
        Recipe.from_json({**RECIPE.to_json(), "version": version})


def test_nothing_of_it_can_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        RECIPE.epochs = 5
    with pytest.raises(TypeError):
        RECIPE.model.args["k"] = 9
    given = {"k": 8}
    part = Part("unet", given)
    given["k"] = 9
    assert part.args["k"] == 8


def test_parts_compare_by_what_they_say() -> None:
    assert use("unet", k=8) == Part("unet", {"k": 8}) != use("unet", k=9)
    assert str(use("unet", k=8, dropout=0.1)) == "unet(k=8, dropout=0.1)"
    assert use("unet", k=8, dropout=0.1).without("k") == use("unet", dropout=0.1)


def test_an_argument_may_be_called_name() -> None:
    assert use("unet", name="x").args == {"name": "x"}


def test_the_image_size_is_the_datas() -> None:
    assert RECIPE.image_size == 64 and replace(RECIPE, data=use("shapes")).image_size == 256


@pytest.mark.parametrize("value", [None, True, 3, 0.5, "text", [1, [2.5, None]], (1, 2), np.float64(0.5)])
def test_what_json_gives_back_is_taken(value: object) -> None:
    assert json.loads(json.dumps(use("unet", x=value).to_json()))["args"]["x"] == (
        list(value) if isinstance(value, tuple) else value
    )


@pytest.mark.parametrize(
    "value", [np.float32(0.5), np.int64(3), np.zeros(2), {1}, {"a": 1}, object(), [np.int64(1)]]
)
def test_what_json_does_not_give_back_is_named_with_its_argument(value: object) -> None:
    with pytest.raises(TypeError, match=r"argument 'k' of 'unet' is .*use int\(\.\.\.\) or float\(\.\.\.\)"):
        use("unet", k=value)


@pytest.mark.parametrize("name", [None, 5, ["unet"]])
def test_a_part_needs_a_name(name: object) -> None:
    with pytest.raises(TypeError, match="a name as text is needed"):
        use(name)


def test_every_part_given_as_text_is_named_at_once() -> None:
    with pytest.raises(TypeError) as caught:
        replace(RECIPE, model="unet", loss="bce", schedule=None)
    for said in ("model=use('unet')", "loss=use('bce')", "schedule is None"):
        assert said in str(caught.value)
