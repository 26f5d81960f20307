"""The front of several goals in the figures, the report and `tuner best`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from helpers.optuna_revisions import prepare_file
from optuna.trial import TrialState, create_trial

from tuner.cli import main
from tuner.goal import maximize, minimize
from tuner.report.figures import make_own_figures, plot_fronts
from tuner.report.importance import Importances
from tuner.report.sections import front_table
from tuner.report.study_data import StudyData, read_study
from tuner.study.info import StudyInfo
from tuner.study.study import join_study

VALUES = [[0.9, 1e6, 0.2], [0.85, 2e4, 0.3], [0.5, 1e4, 0.4], [0.8, 3e4, 0.5]]


def study_of(folder: Path, goals: int = 2) -> StudyData:
    further = (minimize("params"), minimize("loss"))[: goals - 1]
    url = f"sqlite:///{folder / 'tuner.db'}"
    prepare_file(folder / "tuner.db")
    joined = join_study(url, StudyInfo("two", "two", maximize("iou"), "shapes", further=further))
    for values in VALUES:
        joined.study.add_trial(create_trial(values=values[:goals], user_attrs={"params": values[1]}))
    joined.study.add_trial(create_trial(state=TrialState.PRUNED, user_attrs={"params": 1.0}))
    found = read_study(joined.engine, joined.info)
    joined.engine.dispose()
    return found


def test_the_front_is_a_line_over_a_logarithmic_axis_with_the_others_behind(tmp_path: Path) -> None:
    study = study_of(tmp_path)
    assert [trial.number for trial in study.front] == [0, 1, 2]
    (figure,) = plot_fronts(study)
    others, line, points = figure.chart.series
    assert figure.name == "front-params" and figure.chart.log_x
    assert (line.x, line.y) == (points.x, points.y) == ([1e4, 2e4, 1e6], [0.5, 0.85, 0.9])
    assert (others.x, others.y) == ([3e4], [0.8])
    assert "3 of 4 finished trials" in figure.says and figure.name in [
        f.name for f in make_own_figures(study, Importances())
    ]
    table = front_table(study, study.best)
    assert table.headings[:3] == ["trial", "iou", "params"] and [row[0] for row in table.rows] == ["0", "1", "2"]
    assert table.marked == 0


def test_three_goals_have_two_figures_without_a_line(tmp_path: Path) -> None:
    figures = plot_fronts(study_of(tmp_path, goals=3))
    assert [figure.name for figure in figures] == ["front-params", "front-loss"]
    assert all(series.kind == "points" for figure in figures for series in figure.chart.series)


def test_one_goal_has_no_front_to_draw(tmp_path: Path) -> None:
    assert plot_fronts(study_of(tmp_path, goals=1)) == []


@pytest.mark.parametrize(
    ("pick", "number"),
    [
        ((), 0),
        (("--pick", "knee"), 1),
        (("--pick", "params<1.5e4"), 2),
        (("--pick", "iou:1,params:3"), 1),
        (("--pick", "iou:1,params:900"), 2),
    ],
)
def test_best_prints_the_front_and_marks_what_was_picked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pick: tuple[str, ...], number: int
) -> None:
    monkeypatch.delenv("TUNER_STORAGE", raising=False)
    study_of(tmp_path)
    shown = CliRunner().invoke(main, ["best", "--home", str(tmp_path), *pick])
    assert shown.exit_code == 0, shown.output
    assert shown.stdout.startswith(f"two: trial {number}, iou ")
    assert "the front of maximize iou, minimize params, 3 trials:" in shown.stdout
    (marked,) = [line.split() for line in shown.stdout.splitlines() if line.startswith("  * ")]
    assert int(marked[1]) == number and float(marked[3]) == VALUES[number][1]
    told = json.loads(CliRunner().invoke(main, ["best", "--home", str(tmp_path), "--json", *pick]).stdout)
    assert told["trial"] == number and [each["trial"] for each in told["front"]] == [0, 1, 2]


def test_a_pruned_trial_cannot_be_picked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TUNER_STORAGE", raising=False)
    study_of(tmp_path)
    args = ["best", "--home", str(tmp_path), "--pick", "4", "--export", str(tmp_path / "b")]
    refused = CliRunner().invoke(main, args)
    assert refused.exit_code == 2 and "has no finished trial 4. Finished: 0, 1, 2, 3." in refused.stderr
    assert not (tmp_path / "b").exists()
