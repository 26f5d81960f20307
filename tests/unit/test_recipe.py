"""A recipe is plain data: there and back through JSON, never changed, and no place for anything else."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest

from tuner.recipe import VERSION, Part, Recipe, Stage, use

RECIPE = Recipe(
    task="binary",
    data=use("shapes", image_size=64),
    model=use("unet", k=8, dropout=0.1),
    loss=use("focal", gamma=2.0),
    optimizer=use("adam", lr=1e-3),
    epochs=3,
    augment=use("flip"),
)


STAGES = (
    Stage(2, frozen="encoder", lr=1e-3),
    Stage(3, frozen=["encoder[:-10]", "head"], encoder_lr=1e-5, schedule=use("cosine", min_lr=0.1)),
)
FULL = replace(
    RECIPE,
    task="multiclass",
    stages=STAGES,
    epochs=5,
    weights=use("made#3", part="encoder"),
    copies=2,
    validate_every=3,
    classes=("sky", "ground"),
)
VERSION_1 = {  # as the first version wrote it
    "version": 1,
    "task": "binary",
    "data": {"name": "shapes", "args": {"image_size": 64}},
    "model": {"name": "unet", "args": {"k": 8, "dropout": 0.1}},
    "loss": {"name": "focal", "args": {"gamma": 2.0}},
    "optimizer": {"name": "adam", "args": {"lr": 0.001}},
    "epochs": 3,
    "schedule": {"name": "none", "args": {}},
    "augment": {"name": "flip", "args": {}},
    "batch_size": 8,
    "precision": "auto",
    "seed": 0,
}


@pytest.mark.parametrize("recipe", [RECIPE, FULL], ids=["plain", "full"])
def test_a_recipe_comes_back_from_json_as_it_was(recipe: Recipe) -> None:
    assert Recipe.from_json(json.loads(json.dumps(recipe.to_json()))) == recipe


def test_a_recipe_that_the_first_version_wrote_is_read() -> None:
    recipe = Recipe.from_json(VERSION_1)
    assert recipe == RECIPE
    assert (recipe.stages, recipe.weights, recipe.copies, recipe.validate_every) == ((), use("none"), 0, 1)
    assert Recipe.from_json(recipe.to_json()) == recipe


def test_a_recipe_without_stages_is_one_stage() -> None:
    assert RECIPE.resolved_stages == (Stage(3, schedule=use("none")),)
    assert replace(RECIPE, schedule=use("cosine")).resolved_stages == (Stage(3, schedule=use("cosine")),)


def test_a_stage_without_a_schedule_has_the_recipes() -> None:
    first, second = replace(FULL, schedule=use("plateau")).resolved_stages
    assert first == replace(STAGES[0], schedule=use("plateau"))
    assert second == STAGES[1]


def test_epochs_left_out_are_the_stages_sum() -> None:
    some = use("any")
    assert Recipe("binary", some, some, some, some, stages=STAGES).epochs == 5
    assert Recipe("binary", some, some, some, some, stages=list(STAGES)) == Recipe(  # type: ignore[arg-type]
        "binary", some, some, some, some, 5, stages=STAGES
    )


def test_one_name_of_what_is_frozen_needs_no_list() -> None:
    assert Stage(1, frozen="encoder") == Stage(1, frozen=["encoder"]) == Stage(1, frozen=("encoder",))
    assert Stage(1).frozen == ()


def test_a_recipe_can_last_longer_or_shorter() -> None:
    assert RECIPE.with_epochs(7) == replace(RECIPE, epochs=7)
    longer = FULL.with_epochs(50)
    assert (longer.epochs, [stage.epochs for stage in longer.stages]) == (50, [2, 48])
    assert longer.with_epochs(5) == FULL and longer.stages[0] == STAGES[0]
    assert longer.resolved_stages[1] == replace(STAGES[1], epochs=48)


@pytest.mark.parametrize("stages", [[3], ["encoder"], [{"epochs": 3}]], ids=str)
def test_what_is_no_stage_is_told(stages: object) -> None:
    with pytest.raises(TypeError, match=r"a stage is .*; write stages=\[Stage\(epochs=\.\.\., \.\.\.\)\]"):
        replace(RECIPE, stages=stages)


def test_an_epoch_belongs_to_the_stage_it_is_trained_in() -> None:
    assert [FULL.stage_at(epoch).epochs for epoch in range(1, 7)] == [2, 2, 3, 3, 3, 3]
    assert RECIPE.stage_at(2) == RECIPE.resolved_stages[0]


def test_a_stage_says_in_json_that_it_is_not_judged_and_nothing_otherwise() -> None:
    unjudged = replace(FULL, stages=(replace(STAGES[0], judged=False), STAGES[1]))
    first, second = unjudged.to_json()["stages"]
    assert first["judged"] is False and second.keys() == first.keys() - {"judged"}
    assert Recipe.from_json(json.loads(json.dumps(unjudged.to_json()))) == unjudged
    with pytest.raises(TypeError, match=r"a stage's judged is 'no'; write judged=False, to not prune"):
        Stage(1, judged="no")  # type: ignore[arg-type]


def test_a_stages_schedule_given_as_text_is_told() -> None:
    with pytest.raises(TypeError, match=r"a stage's schedule is 'cosine'; write schedule=use\('cosine'\)"):
        Stage(1, schedule="cosine")  # type: ignore[arg-type]


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
    "value", [np.float32(0.5), np.int64(3), np.zeros(2), {1}, {1: 2}, {"a": np.int64(1)}, object(), [np.int64(1)]]
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
