"""The commands that are printed, from the end of a run to the card of its model, work as they are typed."""

from __future__ import annotations

import re
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from helpers.made_studies import MADE_WITH, make_run
from optuna.trial import create_trial
from PIL import Image

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
