"""A bad space on the command line: one clear message, exit code 2, nothing made."""

from __future__ import annotations

import json
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from helpers.error_output import one_message

from tests.conftest import Tuner

SPACE = """from tuner import Recipe, {direction}, use

GOAL = {direction}("{metric}")


def suggest(trial):
    k = trial.suggest_int("k", 4, 8)
    {choices}
    return {result}
"""
RESULT = "Recipe('binary', use({data}), use({model}), use({loss}), use('adam'), epochs={epochs})"


def write(path: Path, **changes: str) -> Path:
    """A small space with some of it changed."""
    parts = {"data": "'shapes', image_size=32", "model": "'unet', k=k", "loss": "'bce'", "epochs": "1"}
    result = changes.pop("result", RESULT.format(**(parts | {k: changes.pop(k) for k in parts if k in changes})))
    space = {"direction": "maximize", "metric": "iou", "choices": "pass", "result": result}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(SPACE.format(**(space | changes)))
    return path


def refused(done: CompletedProcess[str], folder: Path, *said: str) -> str:
    """Exit code 2, one message of ours without a traceback, and no home, database or study made."""
    one_message(done, *said)
    assert not (folder / "runs").exists() and not list(folder.rglob("*.db*"))
    return done.stderr


BAD = {
    "image size": (
        {"data": "'shapes', image_size=4"},
        "an image of 4 x 4 is too small for 'unet': at least 8 x 8",
    ),
    "raises": ({"choices": "1 / 0"}, "suggest() raised ZeroDivisionError: division by zero (line 8)"),
    "no recipe": ({"result": "k"}, "suggest() returned int; it must return a Recipe"),
    "two ways": (
        {"choices": "k % 2 and trial.suggest_int('x', 0, 1) or trial.suggest_float('x', 0, 1)"},
        "parameter 'x' is drawn in two ways",
    ),
    "syntax": ({"choices": "for"}, "cannot be loaded: SyntaxError"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_space_is_refused_before_anything_is_made(tuner: Tuner, tmp_path: Path, case: str) -> None:
    changes, said = BAD[case]
    space = write(tmp_path / "bad space.py", **changes)
    refused(tuner("run", "--space", "./bad space.py", "--trials", "1"), tmp_path, str(space), said)


def test_everything_wrong_is_said_at_once_and_a_rehearsal_says_it_too(tuner: Tuner, tmp_path: Path) -> None:
    """A rehearsal has data, sizes and epochs of its own; it still refuses what the real study would."""
    write(
        tmp_path / "bad.py", data="'shaps', sise=3", model="'unet', kk=k", loss="'bcee'", epochs="0", metric="iuo"
    )
    for more in ([], ["--rehearse"]):
        message = refused(
            tuner("run", "--space", "bad.py", *more),
            tmp_path,
            "its recipes cannot be trained:",
            "no dataset or folder 'shaps'. Did you mean 'shapes'?",
            "model 'unet' takes no argument 'kk'. Did you mean 'k'? It takes: k, dropout.",
            "no loss 'bcee'. Did you mean 'bce'? Known: bce, cross_entropy, dice, ",
            "epochs is 0; a whole number of at least 1 is needed",
            "the goal 'iuo' is not a metric of the task 'binary'. Did you mean 'iou'?",
        )
        assert len(message.splitlines()) == 6


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("unet_j", "no space 'unet_j'. Did you mean 'unet_k'?"),
        ("gone.py", "no space file gone.py."),
        ("./", "is a folder; give one .py file of it."),
        ("", "no space ''."),
    ],
)
def test_a_space_that_is_not_there_is_refused(tuner: Tuner, tmp_path: Path, given: str, said: str) -> None:
    refused(tuner("check", given), tmp_path, said)


def test_a_run_of_a_space_that_is_not_there_is_refused(tuner: Tuner, tmp_path: Path) -> None:
    refused(tuner("run", "--space", "unet_j"), tmp_path, "no space 'unet_j'. Did you mean 'unet_k'?")


def test_an_unknown_dataset_on_the_command_line_is_refused(tuner: Tuner, tmp_path: Path) -> None:
    write(tmp_path / "good.py")
    for given in ("shaps", ""):
        refused(tuner("run", "--space", "good.py", "--data", given), tmp_path, f"no dataset or folder '{given}'")


def test_a_good_space_is_checked_and_described(tuner: Tuner, tmp_path: Path) -> None:
    write(tmp_path / "été 馬.py", choices="trial.suggest_float('lr', 1e-5, 1e-2, log=True)")
    done = tuner("check", "été 馬.py")
    assert done.returncode == 0 and done.stderr == ""
    assert "64 draws, all valid" in done.stdout and "goal: maximize iou   data: shapes" in done.stdout
    assert "k              int 4 to 8" in done.stdout and "float 1e-05 to 0.01, log" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["été 馬.py"]


def test_spaces_lists_the_shipped_ones_and_the_users_own_hide_them(tuner: Tuner, tmp_path: Path) -> None:
    shipped = {row["name"]: row for row in json.loads(tuner("spaces", "--json").stdout)}
    assert shipped["unet_k"]["about"].startswith("U-Net of width k") and Path(shipped["unet_k"]["path"]).is_file()
    write(tmp_path / "search_spaces" / "unet_k.py")
    (tmp_path / "search_spaces" / "broken.py").write_text("def (")
    done = tuner("spaces", "--json")
    mine = {row["name"]: row for row in json.loads(done.stdout)}
    assert mine["unet_k"]["path"] == "search_spaces/unet_k.py" and mine.keys() == shipped.keys() | {"broken"}
    assert "cannot be read" in mine["broken"]["about"]
    assert "search_spaces/unet_k.py" in tuner("spaces").stdout
    assert "data: shapes" in tuner("check", "unet_k").stdout  # and not weizmann_horse, of the shipped one


@pytest.mark.parametrize("body", ["while True: pass", "import os; os._exit(0)", "raise BaseException('mine')"])
def test_a_space_that_does_not_return_is_refused_and_listed(tuner: Tuner, tmp_path: Path, body: str) -> None:
    path = write(tmp_path / "search_spaces" / "mine.py")
    path.write_text(f"{path.read_text()}\n{body}\n")
    given = ["search_spaces/mine.py", "--timeout", "0.5"]
    said = {"while": "took more than 0.5 s", "import": "with exit code 0", "raise": "BaseException: mine (line "}
    for command in (["check"], ["run", "--trials", "1", "--space"]):
        refused(tuner(*command, *given), tmp_path, said[body.split()[0]])
    rows = {row["name"]: row for row in json.loads(tuner("spaces", "--json").stdout)}
    assert "error" not in rows["mine"] and "unet_k" in rows


def test_modules_beside_a_space_hide_none_that_the_program_needs(tuner: Tuner, tmp_path: Path) -> None:
    write(tmp_path / "mine.py")
    for name in ("torch", "tuner", "numpy", "random"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('mine')\n")
    assert "64 draws, all valid" in tuner("check", "mine.py").stdout
