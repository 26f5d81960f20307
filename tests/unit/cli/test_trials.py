"""`tuner trials`, `tuner show` and `tuner best --trial` on planted trials of every state."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result
from helpers.made_studies import MADE_WITH, make_run
from helpers.optuna_revisions import prepare_file
from helpers.trial_rows import put

import tuner
from tuner.cli import main
from tuner.errors import StudyError
from tuner.goal import maximize
from tuner.paths import Home
from tuner.recipe import Recipe
from tuner.study.info import StudyInfo
from tuner.study.study import JoinedStudy, join_study
from tuner.study.tables import claim_table

STATES = ["complete", "complete", "paused", "pruned", "failed", "running", "waiting", "over limit"]


@pytest.fixture
def joined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, toy_recipe: Recipe) -> JoinedStudy:
    """Eight trials: 0 and 1 finished, 2 paused, 3 pruned, 4 failed, 5 runs, 6 waits, 7 is over a limit."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TUNER_STORAGE", raising=False)
    home = Home(tmp_path / "runs").make()
    prepare_file(tmp_path / "runs" / "tuner.db")
    joined = join_study(home.database, StudyInfo("made", "made", maximize("iou"), "shapes"))
    plain: dict[str, Any] = {"recipe": toy_recipe.to_json() | {"epochs": 6}, "made_with": MADE_WITH}

    def end(value: float, epoch: int) -> dict[str, Any]:
        return plain | {"result": {"best_value": value, "best_epoch": epoch, "attempt": 1}}

    put(joined, 0, "COMPLETE", [0.1, 0.5], **end(0.5, 2))
    put(joined, 1, "COMPLETE", [0.7, 0.6, 0.6], **end(0.7, 1))
    paused = put(joined, 2, "PRUNED", [0.2, 0.6, 0.3], **end(0.6, 2))
    put(joined, 3, "PRUNED", [0.2], **end(0.2, 1))
    put(
        joined, 4, "FAIL", [0.3], failure="loss is nan", failure_kind="loss not finite", failure_line="loss is nan"
    )
    put(joined, 5, "RUNNING", [0.4], **plain)
    put(joined, 6, "WAITING", [])
    put(joined, 7, "PRUNED", [], over_limit="params 3e6, at most 2e6")
    with joined.engine.begin() as db:
        db.execute(sa.update(claim_table).where(claim_table.c.trial_id == paused).values(paused_at=3))
    for number in (1, 2):
        make_run(toy_recipe, home.run("made", joined.info.key, number, 1).folder)
    return joined


def call(*args: str) -> Result:
    return CliRunner().invoke(main, args)


def column(name: str, *args: str) -> list[str]:
    """Return a column of `tuner trials --csv`."""
    return [row[name] for row in csv.DictReader(io.StringIO(call("trials", "--csv", *args).stdout))]


def test_every_trial_is_listed_with_its_state(joined: JoinedStudy) -> None:
    lines = call("trials").stdout.splitlines()
    assert lines[0].strip() == "made: maximize iou on shapes, 8 trials"
    shown = [[cell.strip() for cell in line.strip("│").split("│")] for line in lines if line.startswith("│")]
    assert [row[1] for row in shown] == STATES
    assert shown[2][:5] == ["2", "paused", "0.6000", "2", "3/6"]
    assert shown[4][6] == "loss is nan" and shown[6][2:5] == ["-", "-", "0"]


@pytest.mark.parametrize(
    ("args", "numbers"),
    [
        (["--state", "paused", "--state", "pruned"], "23"),
        (["--sort", "value"], "12054367"),
        (["--sort", "value", "--reverse", "--state", "complete"], "01"),
        (["--sort", "epochs", "--state", "complete", "--reverse"], "10"),
        (["--state", "over limit"], "7"),
    ],
)
def test_trials_are_filtered_and_sorted(joined: JoinedStudy, args: list[str], numbers: str) -> None:
    assert "".join(column("trial", *args)) == numbers


def test_as_json_a_trial_is_plain_and_complete(joined: JoinedStudy) -> None:
    rows = json.loads(call("trials", "--json").stdout)
    assert [row["trial"] for row in rows] == list(range(8))
    told = {"state": "PAUSED", "value": 0.6, "best_epoch": 2, "epochs": 3, "planned": 6, "seconds": 6.0}
    assert told.items() <= rows[2].items()
    assert json.loads(call("show", "2", "--json").stdout)["recipe"]["epochs"] == 6
    assert call("trials", "--json", "--csv").exit_code == 2


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (1, "made: trial 1, iou 0.7000\n  finished after 3 of 6 epochs, 6 s of training"),
        (2, "made: trial 2, iou 0.6000\n  paused after 3 of 6 epochs; it may go on, 6 s of training"),
        (3, "made: trial 3, iou 0.2000\n  pruned after 1 of 6 epochs, for good"),
        (4, "made: trial 4, iou 0.3000\n  failed after 1 epoch: loss is nan"),
        (5, "made: trial 5, iou 0.4000\n  running, 1 of 6 epochs so far"),
        (6, "made: trial 6\n  not started yet"),
        (7, "made: trial 7\n  not trained: its model is over a limit, params 3e6, at most 2e6"),
    ],
)
def test_a_trial_is_shown_as_far_as_it_came(joined: JoinedStudy, number: int, said: str) -> None:
    assert call("show", str(number)).stdout.startswith(said)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (
            ["show", "9"],
            "study 'made' has no trial 9. It has the trials 0 to 7; see them with: tuner trials --study made",
        ),
        (
            ["show", "-1"],
            "study 'made' has no trial -1. It has the trials 0 to 7; see them with: tuner trials --study made",
        ),
        (["best", "--trial", "-1"], "study 'made' has no trial -1. It has the trials 0 to 7"),
        (["best", "--trial", "9"], "study 'made' has no trial 9."),
        (["best", "--trial", "1", "--pick", "1"], "give --trial N or --pick, not both"),
        (["best", "--trial", "6"], "trial 6 of study 'made' has no epoch to show: not started yet."),
        (
            ["best", "--trial", "3", "--export", "x"],
            "trial 3 has no weights: pruned after 1 of 6 epochs, for good, and",
        ),
        (
            ["best", "--trial", "5", "--export", "x"],
            "trial 5 is running, 1 of 6 epochs so far: it has weights when it",
        ),
        (["best", "--trial", "0", "--export", "x"], "the weights of trial 0 are not at "),
        (
            ["trials", "--sort", "valu"],
            "--sort 'valu' is not possible. Did you mean 'value'? Known: number, value",
        ),
        (["trials", "--state", "done"], "'done' is not one of 'complete', 'paused'"),
    ],
)
def test_what_cannot_be_is_told_in_one_line(joined: JoinedStudy, args: list[str], said: str) -> None:
    done = call(*args)
    assert done.exit_code == 2 and said in done.stderr and not Path("x").exists()


def test_any_trial_with_weights_is_shown_and_exported(joined: JoinedStudy) -> None:
    done = call("best", "--trial", "2", "--export", "second")
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith(
        "made: trial 2, iou 0.6000\n  paused after 3 of 6 epochs; it may go on\n  better than 1 of 2"
    )
    card = Path("second", "card.md").read_text()
    assert "It was chosen by its number: paused after 3 of 6 epochs; it may go on." in card
    facts = json.loads(Path("second", "metrics.json").read_text())
    assert (facts["trial"], facts["value"], facts["epoch"]) == (2, 0.6, 2)
    assert (
        json.loads(call("best", "--trial", "2", "--json").stdout)["state"]
        == "paused after 3 of 6 epochs; it may go on"
    )


def test_the_same_in_python(joined: JoinedStudy) -> None:
    study = tuner.load_study("made")
    assert (study.trial(2).state, study.trial(3).best_epoch) == ("PAUSED", 1)
    bundle = study.export("second", trial=2)
    assert (bundle.path.name, bundle._opened.facts["trial"]) == ("second", 2)
    for wrong in (9, -1, True, "2"):
        with pytest.raises(StudyError, match=r"study 'made' has no trial .*\. Its trials: 0, 1, 2, "):
            study.trial(wrong)  # type: ignore[arg-type]
    with pytest.raises(StudyError, match="not both"):
        study.export("third", trial=2, pick=1)
