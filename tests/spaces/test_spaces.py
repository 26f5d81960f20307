"""Every shipped space loads, draws, can be trained and rehearsed, and stays short enough to be read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tuner.data.augment import make_augment
from tuner.recipe import Part
from tuner.space.check import check_recipes
from tuner.space.rehearsal import rehearse
from tuner.space.space import draw_recipes, find_space, load_space, read_about

FOLDER = Path(__file__).parents[2] / "search_spaces"
FILES = sorted(path for path in FOLDER.rglob("*.py") if not path.name.startswith("_"))
MOST_LINES = 30


@pytest.fixture(params=FILES, ids=lambda path: path.relative_to(FOLDER).as_posix())
def path(request: pytest.FixtureRequest) -> Path:
    return request.param


def test_there_is_a_space() -> None:
    assert FILES


def test_it_is_found_by_its_name(path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    name = path.relative_to(FOLDER).with_suffix("").as_posix()
    assert find_space(name).resolve() == path and read_about(path) == load_space(name).about != ""


def test_it_is_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) < MOST_LINES


@pytest.mark.parametrize("number", [4, pytest.param(64, marks=pytest.mark.slow)])
def test_every_draw_can_be_trained(path: Path, number: int) -> None:
    space = load_space(str(path))
    draws = draw_recipes(space)
    assert len(draws.recipes) == 64 and draws.parameters
    check_recipes(draws.recipes[:number], space.goal, str(path))


@pytest.mark.slow
def test_every_draw_can_be_rehearsed(path: Path) -> None:
    space = load_space(str(path))
    toys = [rehearse(recipe) for recipe in draw_recipes(space).recipes]
    check_recipes(toys, space.goal, str(path))
    assert max(toy.image_size for toy in toys) <= 128 and max(toy.epochs for toy in toys) <= 20


@pytest.mark.parametrize("name", ["pet_lr", "pet_unet"])
def test_colours_of_the_pets_are_shifted_by_at_most_ten_of_255(name: str) -> None:
    recipe = draw_recipes(load_space(str(FOLDER / f"{name}.py"))).recipes[0]
    assert recipe.augment.name == "pet"
    augment = make_augment(Part("pet", {**recipe.augment.args, "colour": 0, "noise": 0}), 8)
    assert augment is not None
    grey, mask = np.full((8, 8, 3), 128, np.uint8), np.zeros((8, 8), np.uint8)
    shifts = [np.abs(augment(grey, mask, seed)[0].astype(int) - 128).max() for seed in range(200)]
    assert 8 <= max(shifts) <= 10
