"""The commands that are printed, from the end of a run to the card of its model, work as they are typed."""

from __future__ import annotations

import ast
import re
import shlex
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner
from helpers.made_studies import MADE_WITH, make_run
from optuna.trial import create_trial
from PIL import Image

import tuner
from tuner.artifacts.own_code import save_code
from tuner.cli import main
from tuner.cli.run import print_result
from tuner.goal import maximize
from tuner.paths import Home
from tuner.recipe import Recipe, use
from tuner.registry import own_modules
from tuner.study import queries
from tuner.study.info import StudyInfo
from tuner.study.study import join_study
from tuner.wording import repeat_options

MODEL = """from torch import nn


def net(channels, outputs):
    return nn.Sequential(nn.Conv2d(channels, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, outputs, 1))
"""


def record_study(recipe: Recipe, home: Home) -> queries.StudySummary:
    """Record a study with one finished trial of this recipe; return its state."""
    joined = join_study(home.make().database, StudyInfo("my study", "made", maximize("iou"), "shapes"))
    run = make_run(recipe, home.run(joined.info.name, joined.info.key, 0).folder)
    made = {**MADE_WITH, "code": save_code(recipe.own_names, run)}
    notes = {"recipe": recipe.to_json(), "result": {"best_epoch": 1}, "made_with": made}
    joined.study.add_trial(create_trial(value=0.5, user_attrs=notes))
    found = queries.read_summary(joined.engine, queries.find_study(joined.engine, None))
    joined.engine.dispose()
    return found


def type_command(line: str) -> str:
    program, *words = shlex.split(line)
    assert program == "tuner"
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, f"{line}\n{done.output}"
    return done.stdout


@pytest.mark.parametrize("own", [True, False], ids=["own code", "no own code"])
def test_every_command_from_the_run_to_the_card_works(
    own: bool, own_folder: Path, toy_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (own_folder / "printed_model.py").write_text(MODEL)
    recipe = replace(toy_recipe, model=use("printed_model:net")) if own else toy_recipe
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save("photo.jpg")
    with repeat_options(home="my home"):
        print_result(record_study(recipe, Home(Path("my home"))), "my home", None)
    own_modules.search_in({})  # as where the bundle is used
    (own_folder / "printed_model.py").unlink()

    (following,) = re.findall("^next: (.+)$", capsys.readouterr().out, flags=re.M)
    exported = type_command(following.replace("--export best", "--export 'my best'"))
    (use_it,) = re.findall("use it with: (.+)$", exported, flags=re.M)
    card = Path("my best/card.md").read_text(encoding="utf-8")
    (shown,) = re.findall("^    (tuner .+)$", card, flags=re.M)
    for command in (use_it.replace("IMAGE...", "photo.jpg"), shown):
        assert ("--trust" in command) == own
        assert "photo_mask.png" in type_command(command)
    names: dict[str, object] = {}
    exec(card.split("```python\n")[1].split("```")[0], names)
    assert ("trust=True" in card) == own and names["mask"].shape == (8, 8)  # type: ignore[attr-defined]


def written_text(node: ast.AST) -> str:
    """Return the text of a string; each value in it becomes X."""
    if isinstance(node, ast.JoinedStr):
        return "".join(str(each.value) if isinstance(each, ast.Constant) else "X" for each in node.values)
    return str(node.value) if isinstance(node, ast.Constant) else ""


def find_commands(node: ast.AST) -> list[tuple[str, set[str]]]:
    """Return the name and the options of each command in a string or a call of write_command."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "write_command":
        options = {f"--{each.arg.replace('_', '-')}" for each in node.keywords if each.arg}
        return [(name, options) for name in written_text(node.args[0]).split()[:1]]
    pattern = r"(?:^|: |`|\()tuner ([a-z][a-z-]*)([^.;`\n]*)"
    found = re.findall(pattern, written_text(node), flags=re.M)
    return [(name, set(re.findall(r"(?<=\s)--[a-z][a-z-]*", rest))) for name, rest in found]


def test_every_command_that_the_program_writes_has_these_options() -> None:
    wrong, number = [], 0
    for path in sorted(Path(tuner.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            for name, options in find_commands(node):
                number += 1
                command = main.commands.get(name)
                params = command.get_params(click.Context(command)) if command else []
                unknown = options - {option for each in params for option in (*each.opts, *each.secondary_opts)}
                if command is None or unknown:
                    wrong.append(
                        f"{path.name}:{getattr(node, 'lineno', 0)}: tuner {name} {' '.join(sorted(unknown))}"
                    )
    assert number > 30
    assert not wrong, "\n".join(wrong)
