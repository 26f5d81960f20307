"""Every published table: read, held to its space and tried by the program's own checks."""

from __future__ import annotations

from pathlib import Path

import pytest

from tuner.data.datasets import GENERATED, data_name, swap_data
from tuner.space.check import check_recipes
from tuner.space.published import PublishedTable, known_tables, load_table, without_split
from tuner.space.space import draw_recipes, load_space
from tuner.space.table_rows import draw_row_recipes

FOLDER = Path(__file__).parents[2] / "studies"
FILES = sorted(FOLDER.rglob("*.toml"))


@pytest.fixture(params=FILES, ids=lambda path: path.stem)
def table(request: pytest.FixtureRequest) -> PublishedTable:
    return load_table(str(request.param))


def test_they_are_found_by_their_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert {path.resolve() for path in known_tables().values()} == set(FILES) != set()


def test_every_row_fits_its_space_and_can_be_trained(table: PublishedTable) -> None:
    space = load_space(table.space)
    draws = draw_row_recipes(space, table, draw_recipes(space))
    assert len(draws.recipes) == len(table.rows)
    recipes = [swap_data(recipe, data_name(recipe, table.data)) for recipe in draws.recipes]
    own = {recipe.data.name for recipe in draws.recipes}
    assert own == {table.data} or table.data in GENERATED, "its data is another than its space's"
    check_recipes(recipes, space.goal, str(table.path))


def test_it_says_what_it_is_and_where_it_stands(table: PublishedTable) -> None:
    assert table.about and table.where and len(table.about) < 80


def test_its_numbers_are_possible(table: PublishedTable) -> None:
    for row in table.rows:
        assert all(
            value > 0 and (value <= 1 or without_split(name) == "loss") for name, value in row.published.items()
        )
    if table.compare == "order":
        assert sorted(place for place in table.places if place)[0] == 1


def test_the_horses_are_the_twelve_rows_of_the_report() -> None:
    table = load_table("weizmann_unet")
    numbers = {row.key: row.published["val_iou"] for row in table.rows}
    assert "val_batch_iou" in table.metrics and "batch_iou" in table.note
    assert len(numbers) == 12 and max(numbers.values()) == 0.8023 and min(numbers.values()) == 0.4812
    assert sum(numbers.values()) == pytest.approx(8.5824)


def test_the_dice_of_batches_stands_beside_that_of_the_pets() -> None:
    table = load_table("pet_unet")
    assert "test_batch_dice" in table.metrics and "batch_dice" in table.note
