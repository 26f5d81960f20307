"""Parts of the user's own, found as the installed command finds them: without the working folder on the path."""

from __future__ import annotations

import re
import shlex
import shutil
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from helpers.command_line import run, write_space
from PIL import Image

from tuner import load_study

MINE = """import tuner_is_not_hidden
from torch import nn


def net(channels, outputs, *, width=4):
    return nn.Conv2d(channels, outputs, 3, padding=1)
"""
AS_INSTALLED = {"PYTHONPATH": "", "PYTHONSAFEPATH": "1"}


def write_own_model(folder: Path, space: Path) -> Path:
    """Write an own model with a helper module and files named like ours; return its space."""
    (folder / "mine.py").write_text(MINE)
    (folder / "tuner_is_not_hidden.py").touch()
    for name in ("torch", "tuner", "numpy"):
        (folder / f"{name}.py").write_text("raise RuntimeError('hidden')\n")
    return write_space(space, epochs=1, model='use("mine:net", width=2)')


@pytest.mark.parametrize("place", ["beside the space", "the working folder"])
def test_own_parts_are_found_by_the_command_and_its_workers(tmp_path: Path, place: str) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    space = write_own_model(there if place == "beside the space" else here, there)
    done = run(here, "run", "--space", space, "--trials", 1, **AS_INSTALLED)
    assert done.returncode == 0, done.stderr
    assert load_study(home=here / "runs").trials[0].state == "COMPLETE"


def test_a_part_that_is_nowhere_is_told_in_one_line(tmp_path: Path) -> None:
    here = tmp_path / "here"
    here.mkdir()
    space = write_space(tmp_path, model='use("mine:net")', extra='    mine = use("mine:loss")\n')
    done = run(here, "check", space, **AS_INSTALLED)
    assert done.returncode == 2
    places = f"{tmp_path} (beside the space), {here} (the working folder) and the installed packages"
    assert done.stderr == (
        f"tuner: {space}: its recipes cannot be trained: there is no module 'mine'. Looked in {places}. "
        "Put mine.py into one of these folders, or install its package.\n"
    )


ROOT = Path(__file__).parents[2]
GUIDE, README = ((ROOT / name).read_text(encoding="utf-8") for name in ("docs/own.md", "README.md"))


def draw_pairs(folder: Path) -> None:
    """Pictures of squares in the layout of both pages."""
    (folder / "pairs").mkdir(parents=True)
    random = np.random.default_rng(0)
    for number in range(10):
        mask = np.zeros((24, 24), np.uint8)
        row, column = random.integers(12, size=2)
        mask[row : row + 10, column : column + 10] = 255
        picture = np.clip(mask[..., None] * 0.5 + random.integers(80, size=(24, 24, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(picture).save(folder / "pairs" / f"{number}.png")
        Image.fromarray(mask).save(folder / "pairs" / f"{number}.mask.png")


@pytest.fixture
def guide(tmp_path: Path) -> Path:
    """The folder of docs/own.md, with every file that it shows, and pictures of squares."""
    folder = tmp_path / "guide"
    draw_pairs(folder)
    for name, text in re.findall(r"<!-- file: (\S+) -->\n```python\n(.*?)```", GUIDE, flags=re.S):
        (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.mark.slow
def test_the_examples_of_the_guide_work_as_typed(guide: Path, tmp_path: Path) -> None:
    block = next(block for block in re.findall(r"```\n(.*?)```", GUIDE, flags=re.S) if "tuner check" in block)
    commands = re.findall(r"^tuner (.+)$", block, flags=re.M)
    assert [command.split()[0] for command in commands] == [
        "parts",
        "check",
        "data",
        "run",
        "extend",
        "best",
        "predict",
    ]
    for command in commands:
        done = run(guide, *shlex.split(command), **AS_INSTALLED)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        if command.startswith("best "):
            (use_it,) = re.findall("use it with: tuner (.+)$", done.stdout, flags=re.M)
    study = load_study(home=guide / "runs")
    (trial,) = study.trials
    assert trial.state == "COMPLETE" and trial.value == trial.metrics["val_my_metric:worst_side"]
    names = ("my_metric:worst_side", "my_metric:LargestError", "torchmetrics.classification:BinaryJaccardIndex")
    assert all(0 <= trial.metrics[f"val_{name}"] <= 1 for name in names)
    assert trial.metrics[f"val_{names[2]}"] == pytest.approx(trial.metrics["val_iou"], abs=1e-4)
    assert (guide / "predictions" / "0_mask.png").is_file()

    away = tmp_path / "away"  # without any of the modules
    away.mkdir()
    shutil.copytree(guide / "best", away / "best")
    shutil.copyfile(guide / "pairs" / "1.png", away / "1.png")
    refused = run(away, "predict", "best", "1.png", **AS_INSTALLED)
    assert refused.returncode == 2 and "It is in" in refused.stderr and "--trust" in refused.stderr
    assert not (away / "predictions").exists()
    card = (away / "best" / "card.md").read_text(encoding="utf-8")
    assert f"Of installed packages: torchmetrics {version('torchmetrics')}." in card
    done = run(away, *shlex.split(use_it.replace("IMAGE...", "1.png")), **AS_INSTALLED)
    assert done.returncode == 0, done.stderr

    shutil.copytree(guide / "pairs", away / "pairs")  # the code of the extension is that of the trial
    done = run(away, "extend", "--epochs", 3, "--home", guide / "runs", **AS_INSTALLED)
    assert done.returncode == 0, done.stderr
    assert load_study(home=guide / "runs").trials[0].state == "COMPLETE"


README_SPACE = """from tuner import Recipe, maximize, use

{goal}


def suggest(trial):
    return Recipe(task="binary", {data}, {model}, {metrics},
                  loss=use("bce"), optimizer=use("adam", lr=1e-3), epochs=1, batch_size=4, precision="fp32")
"""


@pytest.mark.slow
def test_the_three_parts_of_the_readme_work_as_typed(tmp_path: Path) -> None:
    draw_pairs(tmp_path)
    for block in re.findall(r"```python\n(# my_\w+\.py\n.*?)```", README, flags=re.S):
        (tmp_path / block.split()[1]).write_text(block, encoding="utf-8")
    assert {file.stem for file in tmp_path.glob("*.py")} == {"my_data", "my_model", "my_metric"}
    typed = {
        name: re.search(rf"`({name} ?= ?.*?my_.*?[)\]])`", README) for name in ("GOAL", "data", "model", "metrics")
    }
    parts = {name.lower(): found[1] for name, found in typed.items() if found}
    (tmp_path / "mine.py").write_text(README_SPACE.format(**parts))
    command = re.search(r"`tuner (predict best) photo.jpg (--trust)`", README)
    assert command
    for words in (
        ["run", "--space", "mine.py", "--data", "my_data:pairs", "--trials", "1"],
        ["best", "--export", "best"],
        [*command[1].split(), "pairs/0.png", command[2]],
    ):
        done = run(tmp_path, *words, **AS_INSTALLED)
        assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
    (trial,) = load_study(home=tmp_path / "runs").trials
    assert trial.state == "COMPLETE" and 8 <= trial.params["width"] <= 64
    assert trial.value == trial.metrics["val_my_metric:worst_side"] and 0 <= trial.value <= 1
    with Image.open(tmp_path / "predictions" / "0_mask.png") as mask:
        assert mask.size == (24, 24)
