"""`tuner report` and `tuner compare` as a user types them, and what they say to bad input."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from helpers.command_line import write_space
from helpers.search_studies import add, details, open_study
from optuna.trial import TrialState
from PIL import Image

from tuner.cli import main

PARAMS = {"lr": 1e-3, "k": 8, "loss": "bce"}
Call = Callable[..., Result]


@pytest.fixture(scope="module")
def four_trials(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    joined = open_study(folder)
    add(joined, PARAMS, [0.2, 0.6, 0.5], files={"details.json": details([0.5, 0.6, 0.7])})
    add(joined, PARAMS | {"lr": 1e-4}, [0.1, 0.4], files={"details.json": details([0.4, 0.6, 0.8])})
    add(joined, PARAMS | {"loss": "dice"}, [0.3, 0.7])
    add(joined, PARAMS, [], TrialState.FAIL, notes={"failure": "out of memory"})
    joined.engine.dispose()
    return folder


@pytest.fixture
def call(four_trials: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    """The command line in this process, in a folder with a study of four trials in runs/."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("TUNER_STORAGE", raising=False)
    shutil.copytree(four_trials, tmp_path / "runs")
    return lambda *args: CliRunner().invoke(main, [str(arg) for arg in args])


def refused(done: Result, *said: str) -> None:
    """Exit code 2 and one line of ours."""
    assert done.exit_code == 2 and done.stdout == "" and done.stderr.startswith("tuner: ")
    assert done.stderr.count("\n") == 1 and all(words in done.stderr for words in said), done.stderr


def test_a_real_run_is_told_and_compared(
    tuner: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    """From `tuner run` to the page: in processes of their own, which load no torch."""
    done = tuner("run", "--space", write_space(tmp_path, epochs=2), "--trials", "2")
    assert done.returncode == 0 and "could not be saved" not in done.stderr, done.stderr
    done = tuner("report")
    assert done.returncode == 0 and done.stdout == "tiny-report.html\n" and done.stderr == ""
    written = (tmp_path / "tiny-report.html").read_text()
    assert "Ship trial" in written and "data:image/webp" in written and "tuner extend --trial" in written
    done = tuner("compare", "0", "1", "--json")
    assert [line["number"] for line in json.loads(done.stdout)] == [0, 1]


@pytest.mark.parametrize("command", [["report", "--out", "x.html"], ["compare", "0", "1", "--out", "x.png"]])
@pytest.mark.slow
def test_neither_loads_torch(call: Call, tmp_path: Path, command: list[str]) -> None:
    code = (
        "import sys\nsys.argv = ['tuner', *sys.argv[1:]]\nfrom tuner.cli import main\n"
        "try:\n    main()\nfinally:\n    print('torch' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *command], cwd=tmp_path, env=os.environ, capture_output=True, text=True
    )
    assert done.returncode == 0 and done.stdout.endswith("\nFalse\n"), done.stderr


def test_a_report_goes_where_it_is_told_and_over_nothing_without_force(call: Call, tmp_path: Path) -> None:
    done = call("report", "--out", "sub/r.html", "--figures", "figures", "--format", "svg")
    assert done.exit_code == 0 and done.stdout.splitlines()[0] == "sub/r.html"
    drawn = sorted(path.name for path in (tmp_path / "figures").iterdir())
    assert drawn[0] == "01-history.svg" and len(drawn) == 11
    refused(call("report", "--out", "sub/r.html"), "sub/r.html is there already", "--force")
    before = (tmp_path / "sub" / "r.html").read_bytes()
    assert call("report", "--out", "sub/r.html", "--force").exit_code == 0
    assert (tmp_path / "sub" / "r.html").read_bytes() == before


def test_what_a_report_cannot_be_made_of_is_told_in_one_line(call: Call, tmp_path: Path) -> None:
    refused(call("report", "--study", "serched"), "no study 'serched'. Did you mean 'searched'?")
    refused(call("report", "--out", "."), "is a folder")
    refused(call("report", "--out", "r.pdf"), "ends in .html")
    refused(call("report", "--home", "nowhere"), "no study yet")
    refused(call("report", "--out", "tuner.html/r.html", "--home", "nowhere"), "no study yet")
    (tmp_path / "file").touch()
    refused(call("report", "--out", "file/r.html"), "file where a folder is needed")
    assert not list(tmp_path.glob("*.html"))


def test_trials_stand_beside_each_other(call: Call, tmp_path: Path) -> None:
    done = call("compare", 0, 1, "--out", "curves.png")
    assert done.exit_code == 0 and " 0.6 " in done.stdout and "curves.png" in done.stdout
    few = "only 3 validation images, too few to say which trial others would prefer"
    assert f"\nahead is not given: {few}.\n" in done.stdout and "better images" in done.stdout
    assert "loss" not in done.stdout  # of both it is the same
    with Image.open(tmp_path / "curves.png") as drawn:
        assert drawn.width > 800
    lines = json.loads(call("compare", "0", "#2", "searched#1", "--metric", "train_iou", "--json").stdout)
    assert [line["train_iou"] for line in lines] == pytest.approx([0.61, 0.71, 0.41])
    assert lines[1]["params"] == {"lr": 1e-3, "loss": "dice"}
    assert json.loads(call("compare", "0", "1", "--json").stdout)[1]["ahead_unknown"] == few
    assert lines[1]["ahead_unknown"] is None


def test_groups_stand_beside_each_other(call: Call, tmp_path: Path) -> None:
    done = call("compare", "--by", "loss", "--out", "by.html")
    assert done.exit_code == 0 and "loss=bce" in done.stdout and "loss=dice" in done.stdout
    assert "Content-Security-Policy" in (tmp_path / "by.html").read_text()
    bce, dice = json.loads(call("compare", "--by", "loss", "--json").stdout)
    assert (bce["trials"], dice["trials"]) == (2, 1) and bce["mean"] == pytest.approx(0.5)
    assert dice["deviation"] is None


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ([], "two trials or more"),
        (["0"], "two trials or more"),
        (["0", "17"], "has no trial 17. It has: 0, 1, 2, 3"),
        (["0", "3"], "has no epoch yet (fail)"),
        (["0", "zero"], "'zero' is not a trial"),
        (["0", "serched#1"], "Did you mean 'searched'?"),
        (["0", "1", "--metric", "iuo"], "Did you mean 'iou'?"),
        (["--by", "lss"], "no parameter 'lss'. Did you mean 'loss'?"),
        (["0", "1", "--by", "loss"], "give either trial numbers"),
        (["0", "1", "--out", "x.gif"], "ends in .html or .png or .svg"),
        (["0", "1", "--study", "other"], "no study 'other'"),
    ],
)
def test_what_cannot_be_compared_is_told_in_one_line(
    call: Call, tmp_path: Path, args: list[str], said: str
) -> None:
    refused(call("compare", *args), said)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["runs"]


def test_curves_are_drawn_over_nothing_without_force(call: Call, tmp_path: Path) -> None:
    (tmp_path / "c.svg").write_text("mine")
    refused(call("compare", 0, 1, "--out", "c.svg"), "c.svg is there already")
    assert (tmp_path / "c.svg").read_text() == "mine"
    assert call("compare", 0, 1, "--out", "c.svg", "--force").exit_code == 0
    assert "<svg" in (tmp_path / "c.svg").read_text()
