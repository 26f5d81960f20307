"""From a trial to its recipe, and to what is noted on it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from tiny import write_space

from tuner import notes, objective
from tuner.data.datasets import data_name
from tuner.goal import Goal
from tuner.recipe import Recipe
from tuner.space import Space, load_space
from tuner.study import Plan

PLAN = Plan("tiny", Goal("iou", "maximize"), "shapes", False, 0, {})


@pytest.fixture
def space(tmp_path: Path) -> Space:
    return load_space(str(write_space(tmp_path)))


def chosen(space: Space, plan: Plan = PLAN, study: str = "s", number: int = 0) -> Recipe:
    made = optuna.create_study(study_name=study, sampler=optuna.samplers.RandomSampler(seed=1))
    trials = [made.ask() for _ in range(number + 1)]
    return objective.choose(space, plan, trials[number])


def test_the_seed_of_a_recipe_comes_from_study_and_trial(space: Space) -> None:
    assert chosen(space).seed == chosen(space).seed
    others = [chosen(space, replace(PLAN, seed=1)), chosen(space, study="t"), chosen(space, number=1)]
    assert len({chosen(space).seed, *(recipe.seed for recipe in others)}) == 4


def test_the_data_of_the_study_takes_the_place_of_the_spaces_own(space: Space) -> None:
    recipe = chosen(space, replace(PLAN, data="/photos"))
    assert (recipe.data.name, recipe.data.args) == ("/photos", {"image_size": 32})


def test_a_rehearsal_trains_the_toy_version(space: Space) -> None:
    recipe = chosen(space, replace(PLAN, rehearsal=True))
    assert recipe.data.name == "shapes"
    assert recipe.epochs == 2


def test_a_folder_is_named_by_its_full_path(space: Space, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "photos").mkdir()
    monkeypatch.chdir(tmp_path)
    recipe = chosen(space)
    assert data_name(recipe, None) == "shapes"
    assert data_name(recipe, "photos") == data_name(recipe, "./photos") == str(tmp_path / "photos")


def test_a_trials_note_holds_its_recipe_and_the_metrics_of_its_best_epoch(space: Space) -> None:
    recipe = chosen(space)
    rows = [{"epoch": at, "train_iou": at / 10, "val_iou": at / 20} for at in (1, 2, 3)]
    note = notes.recipe_note(recipe, PLAN.goal, rows, best_epoch=2)
    assert "best iou at epoch 2" in note
    assert "| iou | 0.2000 | 0.1000 |" in note
    written = note.partition("```json\n")[2].partition("\n```")[0]
    assert Recipe.from_json(json.loads(written)) == recipe
