"""A Python function is written as a space file that means the same."""

from __future__ import annotations

import math
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tuner import Goal, Part, Recipe, Stage, maximize, use
from tuner.api.function_space import space_source, write_function_space
from tuner.errors import SpaceError
from tuner.paths import Home
from tuner.space.space import draw_recipes, load_space

WIDTHS = (4, 8)
LOSSES = {"bce": use("bce"), "dice": use("dice", smooth=1.0)}
BASE = Recipe("binary", use("shapes", image_size=32), use("unet"), use("bce"), use("adam"), epochs=2)
STAGES = [Stage(1, frozen="encoder", lr=1e-3), Stage(2)]
FOLDER, LIMIT, WEIGHT = Path("photos"), math.inf, np.float64(0.5)
EMPTY: dict[str, Any] = {"list": [], "tuple": (), "none": None, "yes": True}


def width_of(trial: Any) -> int:
    return trial.suggest_categorical("k", list(WIDTHS))


choose_width = width_of


def small(trial: Any, base: Recipe = BASE) -> Recipe:
    """Small networks."""
    assert math.isinf(LIMIT) and FOLDER.name == "photos" and EMPTY["list"] == [] and len(STAGES) == 2
    loss = trial.suggest_categorical("loss", sorted(LOSSES))
    return Recipe(base.task, base.data, use("unet", k=choose_width(trial)), LOSSES[loss], base.optimizer, epochs=2)


def suggest(trial: Any) -> Recipe:
    return small(trial)


def with_helper_named_suggest(trial: Any) -> Recipe:
    return suggest(trial)


def with_array(trial: Any) -> Recipe:
    return Recipe("binary", BASE.data, BASE.model, use("bce", weight=WEIGHT), BASE.optimizer, epochs=2)


def with_ordered(trial: Any) -> Recipe:
    return OrderedDict(trial=BASE)[trial]  # an installed class is imported, not written


def enclosing(number: int) -> Callable[[Any], Recipe]:
    def inner(trial: Any) -> Recipe:
        return Recipe(BASE.task, BASE.data, use("unet", k=number), BASE.loss, BASE.optimizer, epochs=number)

    return inner


def load(function: Callable[[Any], Recipe], folder: Path, goal: Goal | None = None) -> Any:
    return load_space(str(write_function_space(function, goal or maximize("iou"), Home(folder))))


def test_the_file_draws_the_same_recipes_as_the_function(tmp_path: Path) -> None:
    from optuna.trial import FixedTrial

    space = load(small, tmp_path)
    assert (space.name, space.about, space.goal) == ("small", "Small networks.", maximize("iou"))
    params = {"loss": "dice", "k": 8}
    assert space.suggest(FixedTrial(params)) == small(FixedTrial(params))
    assert set(draw_recipes(space, 8).parameters) == {"loss", "k"}


def test_a_variable_of_an_enclosing_function_is_written(tmp_path: Path) -> None:
    assert load(enclosing(3), tmp_path).suggest(None).epochs == 3
    assert load(enclosing(5), tmp_path).suggest(None).model == use("unet", k=5)


def test_a_file_stays_when_the_function_changes(tmp_path: Path) -> None:
    first, second = (write_function_space(enclosing(n), maximize("iou"), Home(tmp_path)) for n in (1, 2))
    again = write_function_space(enclosing(1), maximize("iou"), Home(tmp_path))
    assert first == again != second and first.is_file() and first.name == second.name == "inner.py"


@pytest.mark.parametrize(
    ("function", "goal", "message"),
    [
        (lambda trial: BASE, maximize("iou"), "defined with def"),
        (width_of, None, "maximize"),
        (with_array, maximize("iou"), "'WEIGHT', a float64"),
        (with_helper_named_suggest, maximize("iou"), "rename"),
        (enclosing(np.int64(3)), maximize("iou"), "'number', a int64"),  # type: ignore[arg-type]
        (enclosing, "iou", "maximize"),
        ("a string".upper, maximize("iou"), "defined with def"),
    ],
)
def test_what_cannot_be_written_is_named(function: Any, goal: Any, message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        space_source(function, goal)


def test_an_interactive_python_is_told_to_use_a_file() -> None:
    code = (
        "from tuner.api.function_space import space_source\nfrom tuner import maximize, TunerError\n"
        "exec('def suggest(trial): pass')\n"
        "try:\n    space_source(suggest, maximize('iou'))\nexcept TunerError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "cannot be read" in done.stdout and "notebook or a script" in done.stdout, done.stderr


def test_modules_beside_a_script_are_found_by_workers(tmp_path: Path) -> None:
    (tmp_path / "shared_values.py").write_text("K = 4\ndef width(): return K\n")
    script = tmp_path / "script.py"
    script.write_text(
        "from shared_values import width\nfrom tuner.api.function_space import space_source\n"
        "from tuner import maximize\ndef suggest(trial):\n    return width()\n"
        "print(space_source(suggest, maximize('iou')))\n"
    )
    written = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True).stdout
    checked = subprocess.run(
        [sys.executable, "-c", written + "\nprint(suggest(None))"], capture_output=True, text=True, cwd="/"
    )
    assert checked.stdout == "4\n", checked.stderr


def test_parts_and_recipes_survive() -> None:
    def reads_all(trial: Any) -> Any:
        return BASE, STAGES, LOSSES, Part

    scope: dict[str, Any] = {}
    exec(space_source(reads_all, maximize("iou")), scope)
    assert scope["suggest"](None) == (BASE, STAGES, LOSSES, Part)


def test_points_that_are_trained_first_are_written(tmp_path: Path) -> None:
    points = [{"k": 8, "loss": "dice"}, {"k": 4}]
    space = load_space(str(write_function_space(small, maximize("iou"), Home(tmp_path), points)))
    assert list(space.start) == points and load(small, tmp_path).start == ()
    with pytest.raises(SpaceError, match=r"start is .*plain values"):
        space_source(small, maximize("iou"), [{"k": np.int64(8)}])
    with pytest.raises(SpaceError, match=r"start is 5; .*plain values"):
        space_source(small, maximize("iou"), 5)  # type: ignore[arg-type]
