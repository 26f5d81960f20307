"""Spaces: found, loaded and drawn from; what is wrong with one is said in the words of its file."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tuner.errors import SpaceError
from tuner.space.space import (
    describe_file,
    describe_parameter,
    draw_recipes,
    find_space,
    known_spaces,
    load_space,
    read_about,
)

HEAD = "from tuner import Recipe, maximize, use\nGOAL = maximize('iou')\n"
RECIPE = "Recipe('binary', use('shapes'), use('unet'), use('bce'), use('adam'), epochs=1)"
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write a space: the body of its suggest, after some lines of choice."""
    monkeypatch.chdir(tmp_path)

    def write(choices: str = "pass", result: str = RECIPE, head: str = HEAD, name: str = "mine.py") -> Path:
        lines = "".join(f"    {line}\n" for line in choices.splitlines())
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"{head}\n\ndef suggest(trial):\n{lines}    return {result}\n")
        return tmp_path / name

    return write


def said(path: Path) -> str:
    with pytest.raises(SpaceError) as caught:
        draw_recipes(load_space(str(path)))
    return str(caught.value)


def test_a_space_is_loaded_with_its_goal_and_first_line(write: Write) -> None:
    space = load_space(str(write(head=f'"""About horses.\n\nMore."""\n{HEAD}')))
    assert (space.name, str(space.goal), space.about) == ("mine", "maximize iou", "About horses.")


def test_draws_are_always_the_same_and_meet_every_parameter(write: Write) -> None:
    path = write(
        "trial.suggest_float('lr', 1e-5, 1e-2, log=True)\ntrial.suggest_categorical('loss', ['a', None, 1])"
    )
    draws = draw_recipes(load_space(str(path)))
    assert len(draws.recipes) == 64 and draws == draw_recipes(load_space(str(path)))
    assert {name: describe_parameter(p) for name, p in draws.parameters.items()} == {
        "loss": "one of a, None, 1",
        "lr": "float 1e-05 to 0.01, log",
    }


def test_bounds_that_depend_on_a_branch_give_the_widest(write: Write) -> None:
    path = write(
        "big = trial.suggest_categorical('big', [True, False])\ntrial.suggest_int('k', 4, 64 if big else 8)"
    )
    assert describe_parameter(draw_recipes(load_space(str(path))).parameters["k"]) == "int 4 to 64"


def test_the_users_own_space_hides_a_shipped_one_of_the_same_name(write: Write) -> None:
    assert find_space("unet_k").parent.name == "search_spaces" and Path.cwd() not in find_space("unet_k").parents
    write(name="search_spaces/unet_k.py")
    write(name="search_spaces/deep/other.py")
    write(name="search_spaces/_helper.py")
    assert find_space("unet_k").absolute() == Path.cwd() / "search_spaces" / "unet_k.py"
    assert "deep/other" in known_spaces() and not [name for name in known_spaces() if "helper" in name]


@pytest.mark.parametrize("name", ["été.py", "my space.py", "a.b.py", "馬.py", "-.py", "1.py"])
def test_any_name_of_a_file_will_do(write: Write, name: str) -> None:
    path = write(name=name)
    assert load_space(str(path)).name == path.stem and len(draw_recipes(load_space(f"./{name}")).recipes) == 64


def test_an_unknown_name_is_told_the_near_one(write: Write) -> None:
    with pytest.raises(
        SpaceError, match=r"no space 'unet_j'\. Did you mean 'unet_k'\? Known: .*path of a \.py file"
    ):
        load_space("unet_j")
    with pytest.raises(SpaceError, match="no space ''"):
        load_space("")


def test_a_missing_file_and_a_folder_are_told_with_what_is_there(write: Write) -> None:
    folder = write().parent
    with pytest.raises(SpaceError, match=r"no space file .*gone\.py.* contains: mine\.py"):
        load_space(str(folder / "gone.py"))
    with pytest.raises(SpaceError, match=r"is a folder; give one \.py file of it\. .* contains: mine\.py"):
        load_space(str(folder))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def suggest(trial:\n", "SyntaxError: "),
        ("x = 1\nimport no_such_package\n", "ModuleNotFoundError: No module named 'no_such_package' (line 2)"),
        ("\n\n1 / 0\n", "ZeroDivisionError: division by zero (line 3)"),
        ("import sys\nsys.exit(3)\n", "SystemExit: 3 (line 2)"),
        ("from tuner import Goal\nGOAL = Goal('iou', 'max')\n", "a goal's direction is 'max'"),
        ("from tuner import maximize\nGOAL = maximize(5)\n", "the name of a metric is needed"),
        ("from tuner import maximise\n", "cannot import name 'maximise'"),
        ("\x00", "cannot be loaded"),
    ],
)
@pytest.mark.parametrize("relative", [True, False])
def test_a_file_that_cannot_be_run_is_told_with_its_line(
    write: Write, text: str, message: str, relative: bool
) -> None:
    path = write()
    path.write_text(text)
    error = said(Path(f"./{path.name}") if relative else path)
    assert error.startswith(f"{path} cannot be loaded: ") and message in error


def said_of(text: str, path: Path) -> str:
    path.write_text(text)
    return said(path)


def test_a_file_that_is_no_utf8_is_told(write: Write) -> None:
    path = write()
    path.write_bytes(b"x = '\xff\xfe'\n")
    assert "cannot be loaded: SyntaxError" in said(path) and read_about(path).startswith("cannot be read")


def test_a_missing_goal_or_suggest_is_told_with_an_example(write: Write) -> None:
    path = write()
    assert 'has no GOAL. Write for example: GOAL = maximize("iou")' in said_of("", path)
    assert "has no GOAL" in said_of("GOAL = 'iou'\ndef suggest(trial): ...", path)
    assert "has no function suggest(trial) that returns a Recipe" in said_of(HEAD, path)
    assert "has no function suggest" in said_of(HEAD + "suggest = 5", path)


def test_a_suggest_that_takes_no_argument_is_told(write: Write) -> None:
    assert "suggest() raised TypeError: suggest() takes 0 positional" in said_of(
        HEAD + "def suggest(): ...", write()
    )


@pytest.mark.parametrize(("result", "kind"), [("None", "NoneType"), ("{'k': 3}", "dict"), ("Recipe", "type")])
def test_a_suggest_that_returns_no_recipe_is_told_what_it_returned(write: Write, result: str, kind: str) -> None:
    assert f"suggest() returned {kind}; it must return a Recipe" in said(write(result=result))


def test_a_suggest_that_raises_is_told_with_the_line_of_the_users_file(write: Write) -> None:
    error = said(write("x = 1\nraise KeyError('nope')"))
    assert error.endswith("drawing from it failed: suggest() raised KeyError: 'nope' (line 7)")
    assert "SystemExit" in said(write("raise SystemExit"))


def test_a_suggest_that_fails_in_one_branch_only_is_found(write: Write) -> None:
    error = said(write("if trial.suggest_int('k', 1, 20) == 7:\n    raise ValueError('seven')"))
    assert error.endswith("suggest() raised ValueError: seven (line 7)")


def test_a_suggest_that_fails_in_64_ways_is_cut_short(write: Write) -> None:
    error = said(write("raise ValueError(trial.suggest_float('lr', 0, 1))"))
    assert len(error.splitlines()) == 22 and error.endswith("... and 44 more")


@pytest.mark.filterwarnings("ignore:Choices for a categorical")  # Optuna says it too, without the name
def test_everything_wrong_with_the_draws_is_told_at_once(write: Write) -> None:
    error = said(
        write(
            "if trial.suggest_categorical('a', [True, False]):\n"
            "    trial.suggest_float('x', 0, 1)\n"
            "else:\n"
            "    trial.suggest_int('x', 0, 9)\n"
            "trial.suggest_categorical('size', [(1, 2), 'text'])\n"
            "if trial.suggest_int('z', 0, 3) == 2:\n"
            "    raise ValueError('two')\n"
        )
    )
    assert "ValueError: two" in error
    assert "parameter 'x' is drawn in two ways: " in error and "rename one of them" in error
    assert "parameter 'size' has the choice (1, 2); text, numbers, True, False and None are allowed" in error
    assert len(error.splitlines()) == 4


@pytest.mark.parametrize(
    "other",
    [
        "trial.suggest_int('x', 0, 9)",
        "trial.suggest_float('x', 0.1, 1, log=True)",
        "trial.suggest_categorical('x', [0])",
    ],
)
def test_a_parameter_of_two_kinds_over_branches_is_named_once(write: Write, other: str) -> None:
    error = said(
        write(f"if trial.suggest_int('a', 0, 5):\n    trial.suggest_float('x', 0.1, 1)\nelse:\n    {other}")
    )
    assert error.count("parameter 'x' is drawn in two ways") == 1


def test_choices_that_depend_on_a_branch_are_named_once(write: Write) -> None:
    error = said(write("a = trial.suggest_int('a', 0, 30)\ntrial.suggest_categorical('x', [a, 'b'])"))
    assert error.count("parameter 'x' is drawn in two ways") == 1


def test_a_parameter_drawn_twice_in_two_ways_is_told(write: Write) -> None:
    error = said(write("trial.suggest_float('lr', 0, 1)\ntrial.suggest_float('lr', 0, 2)"))
    assert "Inconsistent parameter values" in error and "(line 7)" in error


def test_two_datasets_or_tasks_are_told(write: Write) -> None:
    result = RECIPE.replace("'shapes'", "d").replace("'binary'", "t")
    choices = "d = trial.suggest_categorical('d', ['a', 'b'])\nt = trial.suggest_categorical('t', ['binary', 'x'])"
    error = said(write(choices, result))
    assert "it draws more than one dataset (a, b); a study needs exactly one" in error
    assert "it draws more than one task (binary, x)" in error


def test_a_part_given_as_text_and_a_numpy_number_are_told_with_their_line(write: Write) -> None:
    error = said(write(result=RECIPE.replace("use('unet')", "'unet'")))
    assert "model is 'unet'; write model=use('unet') (line 7)" in error
    error = said(write("import numpy as np", RECIPE.replace("use('unet')", "use('unet', k=np.int64(8))")))
    assert "argument 'k' of 'unet' is np.int64(8)" in error and "use int(...)" in error


def test_an_unknown_argument_of_the_recipe_is_told(write: Write) -> None:
    assert "unexpected keyword argument 'epoch'" in said(write(result=RECIPE.replace("epochs", "epoch")))


def test_a_space_may_hold_a_dataclass_and_import_what_lies_beside_it(write: Write) -> None:
    path = write(
        "Sizes(width())",
        head="from __future__ import annotations\nfrom dataclasses import dataclass\n"
        f"from helper_beside_a_space import width\n{HEAD}\n@dataclass\nclass Sizes:\n    k: int\n",
    )
    (path.parent / "helper_beside_a_space.py").write_text("def width():\n    return 8\n")
    assert len(draw_recipes(load_space(str(path))).recipes) == 64


def test_a_space_that_changes_the_path_of_modules_does_no_harm(write: Write) -> None:
    import sys

    path = write(head=f"import sys\nsys.path.insert(0, 'mine')\n{HEAD}")
    load_space(str(path))
    sys.path.remove("mine")
    before = list(sys.path)
    load_space(str(path))
    sys.path.remove("mine")
    assert sys.path == before and sys.path.count(str(path.parent)) == 1


def test_an_edit_within_the_same_second_counts(write: Write) -> None:
    for k in range(10, 30):
        path = write(f"trial.suggest_int('k', {k}, 99)")
        assert draw_recipes(load_space(str(path)), 1).parameters["k"]["low"] == k
    assert not (path.parent / "__pycache__").exists()


def test_about_reads_without_running(write: Write) -> None:
    path = write()
    path.write_text('"""First line.\n\nMore."""\nraise SystemExit\n')
    assert read_about(path) == "First line."
    path.write_text("def (")
    assert read_about(path).startswith("cannot be read: ")


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        ("suggest_float(5, 0, 1)", "a parameter is named 5; a text of 1 to 200 printable characters is needed"),
        ("suggest_float(None, 0, 1)", "a parameter is named None;"),
        ("suggest_float(('a',), 0, 1)", "a parameter is named ('a',);"),
        ("suggest_float(b'a', 0, 1)", "a parameter is named b'a';"),
        ("suggest_float('', 0, 1)", "a parameter is named '';"),
        ("suggest_float('a\\nb', 0, 1)", "a parameter is named 'a\\nb';"),
        ("suggest_float('a\\ud800', 0, 1)", "a parameter is named 'a\\ud800';"),
        ("suggest_float('n' * 201, 0, 1)", "characters is needed"),
        ("suggest_int('x', 0, 10**30)", "parameter 'x' has the value 1000000000000000000000000000000; a finite"),
        ("suggest_categorical('x', [10**5000])", "parameter 'x' has the value of 16,610 bits; a finite"),
        ("suggest_categorical('x', [float('nan')])", "parameter 'x' has the value nan; a finite"),
        ("suggest_categorical('x', ['c' * 1001])", "parameter 'x' has a choice of 1,001 characters; 1,000 fit"),
    ],
)
def test_names_and_numbers_that_cannot_be_stored_are_told(write: Write, draw: str, message: str) -> None:
    assert message in said(write(f"trial.{draw}"))


def test_more_choices_or_parameters_than_a_study_can_have_are_told(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tuner.space.space.MOST_CHOICES", 3)
    monkeypatch.setattr("tuner.space.space.MOST_PARAMETERS", 4)
    lines = "trial.suggest_categorical('x', [1, 2, 3, 4])"
    assert "parameter 'x' has 4 choices; at most 3 are possible" in said(write(lines))
    lines = "for i in range(5):\n    trial.suggest_float(f'x{i}', 0, 1)"
    assert "it has 5 parameters; at most 4 are possible" in said(write(lines))


@pytest.mark.parametrize("kind", ["FIFO", "device", "large", "deep", "long", "binary", "warning"])
def test_a_file_that_cannot_be_read_is_marked(write: Write, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write()
    if kind in ("FIFO", "device"):
        path.unlink()
        os.mkfifo(path) if kind == "FIFO" else path.symlink_to("/dev/zero")
    else:
        texts = {"deep": "x = " + "-" * 100_000 + "1", "long": "x = " + "9" * 5000, "binary": "x = 1\0"}
        texts |= {"large": "#" * (1 << 20) + "\n", "warning": "'\\d'\n"}
        path.write_text(texts[kind])
    found = describe_file(path)
    assert ("error" in found) == (kind != "warning") and len(found["about"]) < 600
    if kind != "warning":
        assert found["about"].startswith("cannot be read: ")
        with pytest.raises(SpaceError):
            load_space(str(path))
