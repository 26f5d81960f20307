"""A home and a bundle that version 0.1 made are read, continued and used."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from helpers.command_line import glance, home_url, opened, rows, run
from PIL import Image

from tuner.study import queries, trial_queries
from tuner.study.budget import read_budget
from tuner.study.info import StudyKind
from tuner.study.tables import create, study_table
from tuner.study.trial_queries import TrialInfo

GOLDEN = Path(__file__).parent.parent / "golden" / "v0_1"
pytestmark = pytest.mark.xdist_group("version 0.1")  # one copy for all of them


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the home. Each test below changes a study that no other one reads."""
    return Path(shutil.copytree(GOLDEN, tmp_path_factory.mktemp("golden") / "v0_1"))


def typed(folder: Path, *args: str) -> str:
    """What a command prints that ends well."""
    done = run(folder, *args)
    assert done.returncode == 0, done.stderr
    return done.stdout


def trials_of(folder: Path, study: str) -> list[TrialInfo]:
    with opened(home_url(folder / "runs")) as engine:
        return trial_queries.read_trials(engine, queries.find_study(engine, study))


def test_the_studies_are_shown_with_the_kinds_of_their_failures(folder: Path) -> None:
    told: list[dict[str, Any]] = json.loads(typed(folder, "status", "--home", "runs", "--json"))
    by_name = {study["study"]: study for study in told}
    assert {"small", "small-8-epochs", "small-table"} <= by_name.keys()
    for study in ("small", "small-table"):
        failures = by_name[study]["failures"]
        assert failures["kinds"].keys() == {"loss not finite"}
        assert failures["last"][0]["reason"].startswith("train_loss is nan at epoch 1 with adam(lr=1e+30)")
    with opened(home_url(folder / "runs")) as engine:
        kinds = {info.name: (info.kind, info.subject) for info in queries.read_studies(engine)}
    assert kinds["small"] == (StudyKind.SEARCH, "")
    assert kinds["small-table"] == (StudyKind.TABLE, "small")
    assert kinds["small-8-epochs"] == (StudyKind.EXTENSION, "small")


def test_hours_that_were_not_counted_then_are_counted_by_the_trials(tmp_path: Path) -> None:
    """The time in which any trial ran; the one that was put back has an epoch of 4.3 seconds."""
    shutil.copytree(GOLDEN / "runs", tmp_path / "runs")
    small = (34.653864 - 6.669172) + (36.026751 - 34.660739) + (36.489473 - 36.031651) + (36.975446 - 36.493714)
    expected = {
        "small": small + 4.344915348,
        "small-table": (33.909228 - 9.049270) + (37.458861 - 34.052384),
        "small-8-epochs": 30.411898 - 15.459447,
    }
    for _ in range(2):  # once only
        told = json.loads(typed(tmp_path, "status", "--home", "runs", "--json"))
        hours = {study["study"]: study["spent"]["hours"] for study in told}
        assert hours == pytest.approx({name: seconds / 3600 for name, seconds in expected.items()}, abs=1e-8)
    with opened(home_url(tmp_path / "runs")) as engine:
        create(engine)
        with engine.begin() as db:
            db.execute(sa.update(study_table).values(clock_seconds=0.0))
        create(engine)  # of this version now: nothing is counted again
        assert read_budget(engine, queries.find_study(engine, "small").id).spent.hours == 0


def test_the_best_trial_the_table_and_the_report_are_shown(folder: Path) -> None:
    assert "small-8-epochs: trial 0, iou 0.0050" in typed(
        folder, "best", "--home", "runs", "--study", "small-8-epochs"
    )
    table = typed(folder, "table", "small", "--home", "runs")
    assert "study small-table" in table and "0.3666" in table and "failed" in table
    typed(folder, "report", "--home", "runs", "--study", "small-table", "--out", "report.html")
    page = (folder / "report.html").read_text()
    assert "given: table small" in page and "loss not finite" in page


def test_a_search_continues_and_resumes_its_trial_from_the_checkpoint(folder: Path) -> None:
    epochs = (
        "SELECT epoch, seconds FROM tuner_epoch JOIN trials USING (trial_id) "
        "WHERE number = 6 AND study_id = 1 ORDER BY epoch"
    )
    before = rows(home_url(folder / "runs"), epochs)
    out = typed(folder, "run", "--space", "small", "--trials", "8", "--home", "runs")
    assert "study 'small': 8 of 8 trials ended" in out
    after = rows(home_url(folder / "runs"), epochs)
    assert [row.epoch for row in before] == [1] and [row.epoch for row in after] == [1, 2, 3, 4, 5, 6]
    assert after[0] == before[0]  # not trained again
    resumed, new = trials_of(folder, "small")[6:]
    assert (resumed.state, resumed.attrs["result"]["attempt"]) == ("COMPLETE", 2)
    assert new.number == 7 and new.state in ("COMPLETE", "PRUNED", "FAIL")
    assert new.attrs["recipe"]["data"] == resumed.attrs["recipe"]["data"]
    made = [trial.attrs["made_with"] for trial in trials_of(folder, "small") if "made_with" in trial.attrs]
    assert {(with_["data_hash"], with_["train_images"], with_["val_images"]) for with_ in made} == {
        ("3430aab68b51f781", 99, 21)  # divided as the study began
    }
    assert typed(folder, "best", "--home", "runs", "--study", "small", "--export", "best").startswith("small: ")
    assert (folder / "best" / "weights.safetensors").is_file()


def test_its_study_keeps_its_pruning_and_has_no_decisions(folder: Path) -> None:
    done = run(folder, "run", "--space", "small", "--trials", "9", "--home", "runs", "--pruning", "promote")
    assert done.returncode == 2 and "pruning: from stop to promote" in done.stderr
    assert "Traceback" not in done.stderr
    shown = typed(folder, "decisions", "--home", "runs", "--study", "small-table")
    assert shown == "small-table: no decisions; pruning is 'stop'\n"
    assert "0 of 0 decisions" in typed(folder, "decisions", "--home", "runs", "--study", "small-table", "--replay")


def test_a_trial_is_trained_for_more_epochs_from_its_checkpoint(folder: Path) -> None:
    typed(folder, "extend", "--trial", "0", "--epochs", "7", "--study", "small", "--home", "runs")
    now = glance(home_url(folder / "runs"), "small-7-epochs")
    assert (now.study.kind, now.study.subject) == (StudyKind.EXTENSION, "small")
    assert now.states == {"COMPLETE": 1} and now.best is not None
    assert now.best.attrs["result"]["epochs"] == 7 and now.best.attrs["goes_on_from"]["number"] == 0


def test_the_failed_row_of_a_table_is_trained_again(folder: Path) -> None:
    out = typed(folder, "run", "--table", "small", "--home", "runs")
    assert "study 'small-table': 3 of 3 trials ended" in out
    _, old, new = trials_of(folder, "small-table")
    assert new.params == old.params and new.state == old.state == "FAIL"
    assert new.attrs["failure_kind"] == "loss not finite" and "failure_kind" not in old.attrs
    with opened(home_url(folder / "runs")) as engine:
        assert queries.find_study(engine, "small-table").table == "small"


def test_a_bundle_predicts_what_it_predicted_then(folder: Path) -> None:
    typed(folder, "predict", "bundle", "photo.png", "--out", "masks")
    now = np.asarray(Image.open(folder / "masks" / "photo_mask.png"))
    then = np.asarray(Image.open(GOLDEN / "expected" / "photo_mask.png"))
    assert now.shape == then.shape and np.mean(now != then) < 0.001  # another processor may round otherwise


def test_a_bundle_is_scored_on_the_images_that_were_held_out_then(folder: Path) -> None:
    now = json.loads(typed(folder, "evaluate", "bundle", "--split", "val", "--home", "runs", "--json"))
    then = json.loads((GOLDEN / "bundle" / "metrics.json").read_text())["metrics"]
    assert now["images"] == 21
    measured = {name.removeprefix("val_"): value for name, value in then.items() if name.startswith("val_")}
    later = {name: now["metrics"].pop(name) for name in ("batch_iou", "batch_dice")}  # not measured then
    assert now["metrics"] == pytest.approx(measured, abs=1e-3)
    assert all(0 <= value <= 1 for value in later.values())
