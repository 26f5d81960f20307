"""A run of a spent study ends before the space is loaded; in every doubtful case it checks everything."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from helpers.made_studies import make_bundle
from helpers.optuna_revisions import prepare_file
from helpers.trial_rows import put

from tuner.api.run import check_options, find_spent_run
from tuner.cli import main
from tuner.goal import maximize
from tuner.paths import Home
from tuner.recipe import Recipe
from tuner.search import pruning
from tuner.search.spent import find_spent
from tuner.space.search_settings import SearchSettings
from tuner.study import budget
from tuner.study.info import StudyInfo
from tuner.study.study import JoinedStudy, join_study
from tuner.study.tables import claim_table

SPACE = 'raise SystemExit("it is loaded")  # data=use("shapes")\n'


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> JoinedStudy:
    """A study of two trials, both ended, and the file of its space, which is older."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TUNER_STORAGE", raising=False)
    (tmp_path / "mine.py").write_text(SPACE)
    os.utime(tmp_path / "mine.py", (1e9, 1e9))
    (tmp_path / "photos").mkdir()
    home = Home(tmp_path / "runs").make()
    prepare_file(tmp_path / "runs" / "tuner.db")
    info = StudyInfo("mine", "mine", maximize("iou"), "shapes", search=SearchSettings(pruning="none"))
    joined = join_study(home.database, info)
    budget.set_budget(joined.engine, joined.id, num_trials=2)
    put(joined, 0, "COMPLETE", [0.5])
    put(joined, 1, "FAIL", [0.3])
    return joined


def ask(*args: str) -> Any:
    """Return what is found for `tuner run --space mine.py ARGS`."""
    given = main.commands["run"].make_context("run", ["--space", "mine.py", *args]).params
    return find_spent(Home(Path("runs")).database, given)


@pytest.mark.parametrize(
    "args",
    [
        [],
        ["--trials", "2"],
        ["--study", "mine"],
        ["--data", "shapes"],
        ["--no-pruning", "--workers", "2", "--seed", "7"],
    ],
)
def test_a_spent_study_is_found_without_its_space(planted: JoinedStudy, args: list[str]) -> None:
    now = ask(*args)
    assert now.study.name == "mine" and (now.num_finished, now.num_trials) == (2, 2)


@pytest.mark.parametrize(
    "args",
    [
        ["--trials", "3"],
        ["--hours", "1"],
        ["--data", "photos"],
        ["--study", "other"],
        ["--sampler", "qmc"],
        ["--pruning", "promote"],
        ["--limit", "params=2e6"],
        ["--rehearse"],
        ["--shrink", "2"],
        ["--each", "loss"],
    ],
)
def test_options_that_change_something_are_checked_as_ever(planted: JoinedStudy, args: list[str]) -> None:
    assert ask(*args) is None


def raise_budget(joined: JoinedStudy) -> None:
    budget.set_budget(joined.engine, joined.id, num_trials=3)


def leave_one_running(joined: JoinedStudy) -> None:
    put(joined, 2, "RUNNING", [0.1])


def put_one_back(joined: JoinedStudy) -> None:
    trial_id = put(joined, 2, "WAITING", [0.1])
    with joined.engine.begin() as db:
        db.execute(sa.update(claim_table).where(claim_table.c.trial_id == trial_id).values(worker=None))


def edit_space(joined: JoinedStudy) -> None:
    os.utime("mine.py", (4e9, 4e9))


def read_other_data(joined: JoinedStudy) -> None:
    Path("mine.py").write_text("data = use('scenes')\n")
    os.utime("mine.py", (1e9, 1e9))


@pytest.mark.parametrize("change", [raise_budget, leave_one_running, put_one_back, edit_space, read_other_data])
def test_whatever_may_be_left_to_do_is_left_to_the_run(
    planted: JoinedStudy, change: Callable[[JoinedStudy], None]
) -> None:
    change(planted)
    assert ask() is None


@pytest.mark.parametrize("is_due", [False, True])
def test_a_paused_trial_that_is_to_go_on_is_left_to_the_run(
    planted: JoinedStudy, monkeypatch: pytest.MonkeyPatch, is_due: bool
) -> None:
    info = replace(planted.info, name="mine@photos", data=str(Path("photos").absolute()), id=0)
    joined = join_study(Home(Path("runs")).database, replace(info, search=SearchSettings(pruning="promote")))
    budget.set_budget(joined.engine, joined.id, num_trials=1)
    put(joined, 0, "COMPLETE", [0.5])
    asked: list[str] = []
    monkeypatch.setattr(
        pruning, "make_due_check", lambda again: lambda: bool(asked.append(again.info.name)) or is_due
    )
    assert (ask("--data", "photos") is None) == is_due
    assert asked == ["mine@photos"]


@pytest.mark.parametrize(
    "args",
    [["predict", "BUNDLE", "gone.png"], ["evaluate", "gone"], ["run", "--space", "mine.py", "--data", "./gone"]],
)
def test_what_does_not_exist_is_told_before_torch_is_imported(
    planted: JoinedStudy, toy_recipe: Recipe, args: list[str]
) -> None:
    bundle = make_bundle(toy_recipe, Path("best"))
    code = (
        "import sys; sys.exit = lambda code: print(code, sorted({'torch', 'optuna', 'cv2'} & set(sys.modules)));"
        f"from tuner.cli import main; main({[str(bundle) if arg == 'BUNDLE' else arg for arg in args]})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.startswith("2 []") and "gone" in done.stderr


def test_python_returns_the_study_and_loads_neither_torch_nor_the_space(planted: JoinedStudy) -> None:
    code = (
        "import sys, tuner; study = tuner.run('mine.py', trials=2, progress=False);"
        "assert not {'torch', 'optuna', 'cv2'} & set(sys.modules), 'torch' in sys.modules;"
        "print(study.name)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "mine\n"), done.stderr


def test_a_run_from_python_with_a_prior_or_another_folder_of_modules_checks_everything(
    planted: JoinedStudy,
) -> None:
    url, options = (
        Home(Path("runs")).database,
        check_options({"trials": 2, "rehearse": False}) | {"space": "mine.py"},
    )
    found = find_spent_run(url, options)
    assert found is not None and found.study.name == "mine"
    assert find_spent_run(url, options | {"prior": {"lr": (1e-3, 0.5)}}) is None
    Path("mine.py").write_text(f"import sys\nsys.path.append('lib')\n{SPACE}")
    os.utime("mine.py", (1e9, 1e9))
    assert find_spent_run(url, options) is None


def test_the_command_says_so_and_loads_neither_torch_nor_the_space(planted: JoinedStudy) -> None:
    code = (
        "import sys; from tuner.cli import main; main(['run', '--space', 'mine.py'], standalone_mode=False);"
        "assert not {'torch', 'optuna', 'cv2', 'numpy'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == ""
    lines = done.stdout.splitlines()
    assert lines[0] == "study 'mine': 2 of 2 trials ended" and lines[1].startswith("best: iou 0.5000, trial 0")
    assert lines[-1] == "2 trials trained; to continue: tuner run --space mine.py --trials 4"
