"""START of a space: checked before the study exists, all that is wrong at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tuner.errors import SpaceError
from tuner.space.space import draw_recipes, load_space
from tuner.space.start_points import draw_start

SPACE = """
from tuner import Recipe, maximize, use
GOAL = maximize("iou")
START = {start}
def suggest(trial):
    lr = trial.suggest_float("lr", 1e-4, 1e-1, log=True)
    model = trial.suggest_categorical("model", ["unet", "fcn"])
    k = trial.suggest_int("k", 4, 8 if lr < 0.01 else 16) if model == "unet" else 4
    if lr == 0.0625:
        raise ValueError("not this one")
    return Recipe("binary", use("shapes"), use("unet", k=k), use("bce"), use("adam", lr=lr), epochs=1)
"""


def draw(folder: Path, start: str) -> list[float]:
    path = folder / "mine.py"
    path.write_text(SPACE.format(start=start))
    space = load_space(str(path))
    return [recipe.optimizer.args["lr"] for recipe in draw_start(space, draw_recipes(space))]


def test_each_point_is_a_recipe_with_its_values(tmp_path: Path) -> None:
    assert draw(tmp_path, "[{'lr': 0.02, 'model': 'unet', 'k': 12}, {'lr': 1e-3}]") == [0.02, 1e-3]
    assert draw(tmp_path, "()") == []


def test_all_that_is_wrong_with_any_point_is_told_at_once(tmp_path: Path) -> None:
    points = """[{'lr': 2, 'model': 'unett'}, {'kk': 4}, 5, {}, {'k': 4.0}, {'lr': 1e-3, 'model': 'unet', 'k': 12},
        {'model': 'fcn', 'k': 4}, {'lr': 0.0625}, {'lr': 1e-2}, {'lr': 1e-2}, {'lr': True}, {'lr': 10**400}]"""
    with pytest.raises(SpaceError) as told:
        draw(tmp_path, points)
    lines = str(told.value).splitlines()
    assert lines[0].endswith("mine.py does not fit the space:")
    for line, words in zip(
        lines[1:],
        [
            "point 1: lr is 2, outside float 0.0001 to 0.1, log.",
            "point 1: model is 'unett', outside one of unet, fcn. Did you mean 'unet'?",
            "point 2: unknown parameter 'kk'. Did you mean 'k'? The space has: k, lr, model",
            "point 3: 5 is not a point; give parameters and values",
            "point 4: {} is not a point",
            "point 5: k is 4.0, outside int 4 to 16",
            "point 6: k is 12, outside int 4 to 8",
            "point 7: 'k' is not used with its other parameters; leave it out",
            "point 8: suggest() raised ValueError: not this one (line 11)",
            "point 10: it is given twice",
            "point 11: lr is True, outside",
            f"point 12: lr is 1{'0' * 60}",
        ],
        strict=True,
    ):
        assert words in line


def test_another_type_than_a_list_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpaceError, match=r"START of .* is \{'lr': 1\}. Write for example: START = \["):
        draw(tmp_path, "{'lr': 1}")
