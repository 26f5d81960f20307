"""The default of a space: the middle of each range, and the first point of START before that."""

from __future__ import annotations

from pathlib import Path

import pytest

from tuner.space.child import SpaceProcess
from tuner.space.default_point import middle_of
from tuner.space.drawing import Choice, inspect_space

SPACE = """
from tuner import Recipe, maximize, use

GOAL = maximize("iou")
{start}

def suggest(trial):
    lr = trial.suggest_float("lr", 1e-4, 1e-2, log=True)
    k = trial.suggest_int("k", 4, 8, step=2)
    loss = trial.suggest_categorical("loss", ["dice", "bce"])
    return Recipe(task="binary", data=use("shapes", image_size=32), model=use("unet", k=k), loss=use(loss),
                  optimizer=use("adam", lr=lr), epochs=2)
"""


@pytest.mark.parametrize(
    ("parameter", "middle"),
    [
        ({"kind": "float", "low": 0.0, "high": 1.0, "log": False}, 0.5),
        ({"kind": "float", "low": 1e-4, "high": 1e-2, "log": True}, pytest.approx(1e-3)),
        ({"kind": "float", "low": 0.0, "high": 1.0, "log": False, "step": 0.2}, pytest.approx(0.4)),
        ({"kind": "int", "low": 4, "high": 16, "log": False, "step": 4}, 12),
        ({"kind": "int", "low": 4, "high": 64, "log": True, "step": 1}, 16),
        ({"kind": "categorical", "choices": ["dice", "bce"]}, "dice"),
        ({"kind": "categorical", "choices": [None, 1]}, None),
    ],
)
def test_the_middle_lies_on_the_scale_and_the_steps_of_its_range(parameter: dict, middle: object) -> None:
    assert middle_of({"x": parameter}) == {"x": middle}


@pytest.mark.parametrize(
    ("start", "params"),
    [("", {"lr": pytest.approx(1e-3), "k": 6, "loss": "dice"}),
     ('START = [{"loss": "bce", "k": 8}, {"k": 4}]', {"lr": pytest.approx(1e-3), "k": 8, "loss": "bce"})],
)  # fmt: skip
def test_the_default_is_the_first_start_and_the_middle_of_the_rest(
    tmp_path: Path, start: str, params: dict[str, object]
) -> None:
    path = tmp_path / "small.py"
    path.write_text(SPACE.format(start=start))
    with SpaceProcess(path) as process:
        drawn = inspect_space(process, Choice())
        found = process.call("tuner.space.default_point:draw_default", "draw", parameters=drawn.parameters)
    assert found["params"] == params
    assert found["recipe"]["model"]["args"]["k"] == params["k"]
    assert found["recipe"]["loss"]["name"] == params["loss"]
    assert set(found["distributions"]) == set(params)
