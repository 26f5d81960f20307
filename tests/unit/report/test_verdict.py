"""What is said of a model that finds nothing, or never finds some classes: only where it is so, everywhere."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from helpers.search_studies import add

from tuner.artifacts.optuna_store import TrialArtifacts
from tuner.cli import main
from tuner.cli.run import print_result
from tuner.goal import Goal, maximize, minimize
from tuner.paths import Home
from tuner.report.dashboard import save_figures
from tuner.report.page import read_report, render_report
from tuner.study import queries
from tuner.study.study import JoinedStudy
from tuner.study.verdict import Verdict, judge_trial, missed_classes

NOTHING, MISSED = "it finds nothing yet", "never found"
WEAK = ("next to nothing yet (IoU 0.005)", ("object (IoU 0.005)",))
STREETS = [f"class {at}" for at in range(11)]
CONFUSIONS = {  # rows of truth: how many of the first classes of 11 are found
    found: [[5 if column == (row if row < found else 0) else 0 for column in range(11)] for row in range(11)]
    for found in (11, 10, 4, 1)
}


def plant(joined: JoinedStudy, value: float, missed: dict[str, Any] | None = None, **more: Any) -> None:
    result = {"best_epoch": 1, "best_value": value, "device": "cpu"} | ({"missed": missed} if missed else {})
    add(joined, {"lr": 1e-3, "k": 8, "loss": "bce"}, [value], notes={"result": result}, **more)


def shown(joined: JoinedStudy, folder: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """What each place says of the study."""
    info = queries.find_study(joined.engine, None)
    save_figures(joined.storage, joined.engine, info)
    attrs = joined.storage.get_study_system_attrs(joined.id)
    note = "".join(str(attrs[key]) for key in sorted(attrs) if key.startswith("dashboard:note_str"))
    capsys.readouterr()
    print_result(queries.read_summary(joined.engine, info), str(folder), None)
    typed = {
        name: CliRunner().invoke(main, [name, "--home", str(folder)], catch_exceptions=False).output
        for name in ("best", "status")
    }
    page = render_report(read_report(joined.engine, info, TrialArtifacts(Home(folder))))
    return {"run": capsys.readouterr().out, "page": " ".join(page.split()), "note": note, **typed}


def test_a_model_that_finds_nothing_is_not_shipped(
    study: JoinedStudy, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plant(study, 0.0)
    said = shown(study, tmp_path, capsys)
    assert all(NOTHING in text and "Ship trial" not in text for text in said.values())
    assert "next: tuner report --study searched" in said["run"] and "--export" not in said["run"]
    assert "check the data with tuner data DATA" in said["run"] and "check the data" in said["best"]
    assert (
        "Do not ship trial 0 yet: it finds nothing yet (iou 0)." in said["page"] and "Do not ship" in said["note"]
    )
    assert "the one to ship" not in said["page"] and "--export best" not in said["page"]
    assert "tuner data shapes" in said["page"]


def test_classes_that_are_never_found_are_named(
    study: JoinedStudy, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plant(study, 0.2, missed_classes(CONFUSIONS[4], STREETS))
    said = shown(study, tmp_path, capsys)
    names = ", ".join(STREETS[4:])
    for text in said.values():
        assert f"these classes are never found: {names} (7 of 11)" in text and NOTHING not in text
        assert "Ship trial" not in text
    assert "--export" not in said["run"] and "next: tuner report" in said["run"]


def test_one_missed_class_is_named_and_the_trial_is_shipped(
    study: JoinedStudy, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plant(study, 0.6, missed_classes(CONFUSIONS[10], STREETS))
    said = shown(study, tmp_path, capsys)
    assert all("his class is never found: class 10" in text for text in said.values())
    assert "Ship trial 0. This class is never found: class 10." in said["page"]
    assert "next: tuner best --study searched --export best" in said["run"]


@pytest.mark.parametrize("missed", [None, missed_classes(CONFUSIONS[11], STREETS)])
def test_nothing_of_it_is_said_of_a_model_that_finds_all(
    study: JoinedStudy, tmp_path: Path, capsys: pytest.CaptureFixture[str], missed: dict[str, Any] | None
) -> None:
    plant(study, 0.6, missed)
    said = shown(study, tmp_path, capsys)
    for text in said.values():
        assert not any(words in text for words in (NOTHING, MISSED, "Do not ship", "the best so far, is marked"))
    assert "Ship trial 0." in said["page"] and "Ship trial 0" in said["note"]
    assert "next: tuner best --study searched --export best" in said["run"]


def test_a_trial_of_an_earlier_version_is_judged_by_its_file(study: JoinedStudy, tmp_path: Path) -> None:
    numbers = {"version": 1, "epoch": 1, "metric": "mean IoU", "classes": STREETS, "confusion": CONFUSIONS[4]}
    plant(study, 0.2, files={"details.json": json.dumps(numbers).encode()})
    info = queries.find_study(study.engine, None)
    assert read_report(study.engine, info, TrialArtifacts(Home(tmp_path))).verdict.classes == 11


@pytest.mark.parametrize(
    ("goal", "value", "missed", "verdict"),
    [
        (maximize("iou"), 0.0, None, Verdict(how_little="nothing yet (iou 0)")),
        (maximize("iou"), 0.0006, None, Verdict(how_little="next to nothing yet (iou 0.0006)")),
        (maximize("iou"), 0.01, None, Verdict()),
        (maximize("mine:score"), 0.0, None, Verdict()),  # whose values may be below 0
        (maximize("iou:sky"), 0.0, None, Verdict()),  # other classes may be found
        (minimize("loss"), 0.0, None, Verdict()),
        (minimize("count_error"), 0.0, None, Verdict()),
        (maximize("accuracy"), 0.97, [[95, 0], [5, 0]], Verdict(("object",), 2, "nothing yet")),
        (maximize("accuracy"), 0.97, [[900, 99], [99, 1]], Verdict((), 2, *WEAK)),
        (maximize("iou"), 0.1, [[0, 95], [0, 5]], Verdict(("background",), 2)),
        (maximize("iou"), 0.8, [[95, 0], [1, 4]], Verdict((), 2)),
    ],
)
def test_masks_and_goals(goal: Goal, value: float, missed: Any, verdict: Verdict) -> None:
    result = {"missed": missed_classes(missed, ("background", "object"))} if missed else {}
    assert judge_trial(goal, value, result) == verdict


def test_classes_that_are_hardly_found_count_as_missed() -> None:
    confusion = [[500 if row == column else 0 for column in range(11)] for row in range(11)]
    confusion[3][3], confusion[3][0] = 2, 498
    found = judge_trial(maximize("miou"), 0.8, {"missed": missed_classes(confusion, STREETS)})
    assert found.sentence == "this class is hardly found: class 3 (IoU 0.004)" and found.is_usable
    assert replace(found, never_found=tuple(STREETS[4:9])).is_usable is False


def test_more_classes_than_are_named_are_counted() -> None:
    confusion = [[0] * 500 for _ in range(500)]
    for at in range(500):
        confusion[at][at if at >= 300 else 499] = 1
    found = judge_trial(maximize("miou"), 0.4, {"missed": missed_classes(confusion, list(map(str, range(500))))})
    assert "and 288 more (300 of 500)" in found.sentence and not found.is_usable


def test_a_class_that_does_not_occur_is_not_missed() -> None:
    insects = ("ant", "bee", "wasp")
    assert missed_classes([[9, 0, 1], [4, 0, 0], [0, 0, 0]], insects) == {"names": ["bee"], "classes": 2}
    assert not replace(Verdict(), never_found=("bee",), classes=2).is_usable


@pytest.mark.parametrize("found", [{"missed": 3}, {"missed": {}}, {"missed": {"classes": "x"}}, {}])
def test_what_another_program_wrote_is_no_verdict(found: dict[str, Any]) -> None:
    assert judge_trial(maximize("iou"), 0.5, found) == Verdict()
