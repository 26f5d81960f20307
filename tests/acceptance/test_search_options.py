"""How a space is searched: SEARCH and START of the file, and the options that override it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from helpers.command_line import call, home_url, opened, write_space

from tuner.study import queries, trial_queries

pytestmark = pytest.mark.usefixtures("forked_workers")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("search")
    for name, text in (
        ("plain", ""),
        (
            "rests",
            'SEARCH = search(sampler="grid", grid={"lr": [1e-3, 2e-3, 3e-3], "loss": ["bce"]}, pruning="promote")',
        ),
        ("grids", 'SEARCH = search(sampler="grid", grid={"lr": [1e-3, 1e-2], "loss": ["bce"]}, pruning="none")'),
        (
            "told",
            'SEARCH = search(warm_from=["before"], prior={"lr": (0.004, 0.7)})',
        ),
        ("starts", 'START = [{"lr": 0.005, "loss": "dice"}, {"lr": 0.002}]\nSEARCH = search(sampler="random")'),
    ):
        path = write_space(folder, epochs=2 if name == "rests" else 1, name=name)
        path.write_text(f"{path.read_text()}\nfrom tuner import search\n{text}\n")
    (folder / "own_sampler.py").write_text("def mine(seed):\n    raise ValueError('not yet')\n")
    return folder


def params_of(folder: Path, study: str) -> list[dict[str, Any]]:
    with opened(home_url(folder / "runs")) as engine:
        return [trial.params for trial in trial_queries.read_trials(engine, queries.find_study(engine, study))]


def test_a_grid_is_trained_once_and_says_when_it_is_spent(folder: Path) -> None:
    done = call(folder, "run", "--space", "grids.py", "--trials", "9")
    assert done.exit_code == 0, done.output
    assert "the grid has 2 points: so many trials, not 9" in done.stderr
    assert "all 2 points of the grid are trained" in done.stdout
    assert sorted(params["lr"] for params in params_of(folder, "grids")) == [1e-3, 1e-2]
    done = call(folder, "budget", "--study", "grids", "--trials", "3")
    assert done.exit_code == 2 and "study 'grids' is a grid of 2 points, each is one trial" in done.stderr
    done = call(folder, "run", "--space", "grids.py", "--sampler", "tpe")
    assert done.exit_code == 2 and "sampler: from grid to tpe" in done.stderr
    assert "grid of lr: from [0.001, 0.01] to none" in done.stderr


@pytest.mark.slow
def test_paused_trials_of_a_spent_grid_wait_for_no_larger_budget(folder: Path) -> None:
    done = call(folder, "run", "--space", "rests.py", "--epoch-budget", "3")
    assert done.exit_code == 0 and "paused; they may go on when the budget is raised" in done.stdout, done.output
    call(folder, "budget", "--study", "rests", "--epoch-budget", "9")
    done = call(folder, "run", "--space", "rests.py")
    assert "2 paused; they lost at their rungs, and no point is left to start" in done.stdout, done.output


def test_points_of_start_come_first_and_the_sampler_may_change(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    done = call(folder, "run", "--space", "starts.py", "--trials", "2")
    assert done.exit_code == 0, done.output
    first, second = params_of(folder, "starts")
    assert first == {"lr": 0.005, "loss": "dice"} and second["lr"] == 0.002
    done = call(folder, "run", "--space", "starts.py", "--trials", "3", "--sampler", "qmc")
    assert done.exit_code == 0 and len(params_of(folder, "starts")) == 3, done.output
    with opened(home_url(folder / "runs")) as engine:
        assert queries.find_study(engine, "starts").search.sampler == "qmc"


@pytest.mark.slow
def test_a_study_learns_from_another_one_and_a_prior(folder: Path) -> None:
    call(folder, "run", "--space", "starts.py", "--study", "before", "--trials", "2")
    learns = r"learns from before: \d trials, [23] points first"
    shown = call(folder, "check", "told.py").stdout
    assert "pruning promote, first rung 1, factor 3, learns from before, prior of lr (judged" in shown
    assert re.search(rf"\n{learns}\n", shown) and "START 1        lr=0.004, the others chosen" in shown
    done = call(folder, "run", "--space", "told.py", "--trials", "2", "--sampler", "random")
    assert done.exit_code == 0, done.output
    first, second, *_ = params_of(folder, "told")
    assert first["lr"] == 0.004 and second in params_of(folder, "before")
    assert re.search(rf"\n  {learns}\n", call(folder, "status", "--study", "told").stdout)
    done = call(folder, "run", "--space", "told.py", "--warm-from", "plain")
    assert done.exit_code == 2 and "warm from: from before to plain" in done.stderr


def test_a_check_tells_how_a_space_is_searched(folder: Path) -> None:
    shown = call(folder, "check", "starts.py").stdout
    assert "64 draws and 2 points of START, all valid" in shown and "search: random, pruning promote" in shown
    assert "START 1        lr=0.005 loss=dice\n" in shown and "lr=0.002, the others chosen by the sampler" in shown
    shown = call(folder, "check", "grids.py").stdout
    assert "search: grid of 2 points, pruning none" in shown and "grid: 0.001, 0.01" in shown


@pytest.mark.parametrize(
    ("space", "options", "said"),
    [
        ("plain", ["--sampler", "tpee"], "sampler is 'tpee'. Did you mean 'tpe'? Known: tpe, early, gp"),
        ("plain", ["--sampler", "own_sampler:mine"], "'own_sampler:mine' raised ValueError: not yet (line 2)"),
        ("plain", ["--sampler", "own_sampler:other"], "has no attribute 'other'"),
        ("plain", ["--sampler", "grid"], "'lr' has no step: float 0.0001 to 0.01, log. Give its values"),
        ("starts", ["--sampler", "grid"], "has START and a grid, which has every point in any case"),
        ("grids", ["--each", "loss"], "a grid has every combination in any case: leave --each out"),
        ("plain", ["--warm-from", "start"], "there is no study 'start'"),
        ("plain", ["--warm-from", ","], "',' is not a list of names, such as horses,cells"),
        ("grids", ["--warm-from", "starts"], "a grid has every point in any case: leave warm_from and prior out"),
        ("plain", ["--factor", "1"], "Invalid value for '--factor': 1 is not in the range"),
    ],
)
def test_what_cannot_be_searched_is_told_in_one_line(
    folder: Path, space: str, options: list[str], said: str
) -> None:
    done = call(folder, "run", "--space", f"{space}.py", "--study", "never", *options)
    assert done.exit_code == 2 and said in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
