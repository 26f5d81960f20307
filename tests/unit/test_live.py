"""What `tuner run` shows, from a real study."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState
from rich.console import Console, RenderableType
from tiny import home_url

from tuner import control, live, overview
from tuner.goal import Goal
from tuner.runs import Home
from tuner.study import Joined, Plan, join
from tuner.tables import claim_table, epoch_table, worker_table

WORKER = {"host": "node7.lab", "pid": 1, "born": 1.0, "device": "cpu", "state": "training", "worker": "w"}
EPOCH = {"seconds": 1.0, "images_per_second": 9.0, "peak_memory": 1, "lr": 0.1, "metrics": {}}


@pytest.fixture
def study(home: Path) -> Iterator[Joined]:
    Home(home).make()
    joined = join(home_url(home), "s", Plan("unet_k", Goal("iou", "maximize"), "shapes", False, 0, {}))
    control.set_budget(joined.engine, joined.id, num_trials=3)
    doing = {"number": 0, "step": 2, "steps": 4, "params": {"lr": 0.00123}}
    with joined.engine.begin() as db:
        db.execute(worker_table.insert().values(study_id=joined.id, **WORKER, **doing))
    yield joined
    joined.engine.dispose()


def begin(study: Joined) -> optuna.Trial:
    trial = study.study.ask()
    trial.suggest_float("lr", 1e-4, 1e-2)
    slot = {"study_id": study.id, "slot": trial.number + 1, "trial_id": trial._trial_id, "worker": "w"}
    with study.engine.begin() as db:
        db.execute(claim_table.insert().values(slot))
    return trial


def epoch(study: Joined, trial: optuna.Trial, number: int, value: float) -> None:
    with study.engine.begin() as db:
        row = {"trial_id": trial._trial_id, "epoch": number, "value": value, **EPOCH}
        db.execute(epoch_table.insert().values(row))


def plain(study: Joined, lines: list[str]) -> live.Plain:
    return live.Plain(study.engine, overview.find_study(study.engine, "s"), lines.append)


def test_a_log_gets_a_line_for_each_new_best_and_each_end(study: Joined) -> None:
    lines: list[str] = []
    with plain(study, lines) as show:
        trial = begin(study)
        for at, value in enumerate((0.5, 0.4, 0.6), start=1):
            epoch(study, trial, at, value)
            show()
        trial.set_user_attr("result", {"best_value": 0.6, "best_epoch": 3, "epochs": 3})
        study.study.tell(trial, 0.6)
    assert lines[:2] == [
        "trial 0 epoch 1/4: iou 0.5000 (best so far)",
        "trial 0 epoch 3/4: iou 0.6000 (best so far)",
    ]
    assert lines[2].startswith("[1 of 3] trial 0 finished: iou 0.6000 at epoch 3; lr=")
    assert len(lines) == 3


def test_a_pruned_and_a_failed_trial_say_why(study: Joined) -> None:
    lines: list[str] = []
    with plain(study, lines):
        pruned, failed = begin(study), begin(study)
        pruned.set_user_attr("result", {"best_value": 0.1, "best_epoch": 1, "epochs": 1})
        study.study.tell(pruned, state=TrialState.PRUNED)
        failed.set_user_attr("failure", "Traceback ...\nValueError: of the user's own\n")
        study.study.tell(failed, state=TrialState.FAIL)
    assert lines[0].startswith("[1 of 3] trial 0 pruned after epoch 1, best iou 0.1000 at epoch 1; lr=")
    assert lines[1].startswith("[2 of 3] trial 1 failed: ValueError: of the user's own; lr=")


def test_what_ended_before_is_not_told_again(study: Joined) -> None:
    study.study.tell(begin(study), 0.6)
    lines: list[str] = []
    with plain(study, lines) as show:
        show()
    assert lines == []


def test_epochs_recorded_before_are_not_told_again_and_count_for_the_best(study: Joined) -> None:
    trial = begin(study)
    epoch(study, trial, 1, 0.5)
    epoch(study, trial, 2, 0.7)
    epoch(study, trial, 3, 0.6)
    lines: list[str] = []
    with plain(study, lines) as show:
        show()
        assert lines == []
        epoch(study, trial, 4, 0.8)
        show()
    assert lines == ["trial 0 epoch 4/4: iou 0.8000 (best so far)"]


def test_a_first_new_epoch_below_the_recorded_best_is_no_best(study: Joined) -> None:
    trial = begin(study)
    epoch(study, trial, 1, 0.7)
    lines: list[str] = []
    with plain(study, lines):
        epoch(study, trial, 2, 0.6)
    assert lines == ["trial 0 epoch 2/4: iou 0.6000"]


@pytest.mark.parametrize("paused", [True, False])
def test_the_heading_says_that_a_study_is_paused(paused: bool, study: Joined) -> None:
    control.pause(study.engine, study.id, paused)
    shown: list[RenderableType] = []
    with live.Live(study.engine, overview.find_study(study.engine, "s")) as show:
        show.screen.update = shown.append  # type: ignore[method-assign, assignment]
        show()
    console = Console(file=io.StringIO(), width=120, record=True)
    console.print(shown[0])
    assert ("s: maximize iou on shapes   paused" in console.export_text()) == paused


def test_the_screen_shows_study_workers_and_best(study: Joined) -> None:
    best = begin(study)
    study.study.tell(best, 0.75)
    now = overview.overview(study.engine, overview.find_study(study.engine, "s"))
    console = Console(file=io.StringIO(), width=120, record=True)
    console.print(live.draw(now, "12 min"))
    shown = console.export_text()
    for words in (
        "s: maximize iou on shapes",
        "1 of 3 trials",
        "1 finished",
        "time left: 12 min",
        "best so far: iou 0.7500",
    ):
        assert words in shown
    assert "node7:1 " in shown
    assert "lr=0.00123" in shown
    assert "2/4" in shown


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (89, "89 s"), (90, "2 min"), (720, "12 min"), (5400, "1.5 h"), (12240, "3.4 h")],
)
def test_seconds_as_people_say_them(seconds: float, words: str) -> None:
    assert live.show_seconds(seconds) == words


def test_time_left_goes_by_the_pace_of_this_run(study: Joined) -> None:
    def left(before: int) -> str:
        info = overview.find_study(study.engine, "s")
        return live.time_left(overview.overview(study.engine, info), 60.0, before)

    assert left(0) == "unknown"
    study.study.tell(begin(study), 0.5)
    assert left(0) == "2 min"
    assert left(1) == "unknown"


def test_without_a_terminal_the_view_is_plain(study: Joined) -> None:
    assert isinstance(live.view(study.engine, overview.find_study(study.engine, "s")), live.Plain)


def test_names_with_brackets_are_shown_as_they_are(study: Joined) -> None:
    from rich.console import Console

    info = replace(overview.find_study(study.engine, "s"), name="my [/x] study", data="photos [raw]")
    console = Console(record=True, width=120, file=io.StringIO())
    console.print(live.draw(overview.overview(study.engine, info), "unknown"))
    assert "my [/x] study: maximize iou on photos [raw]" in console.export_text()


def test_an_epoch_without_validation_is_recorded_and_not_told(study: Joined) -> None:
    trial = study.study.ask()
    with study.engine.begin() as db:
        claim = {"study_id": study.id, "slot": 9, "trial_id": trial._trial_id, "worker": "w", "deaths": 0}
        db.execute(claim_table.insert().values(claim))
        for epoch, value in ((1, None), (2, 0.5)):
            row = {"trial_id": trial._trial_id, "epoch": epoch, "value": value, **EPOCH}
            db.execute(epoch_table.insert().values(row))
        assert overview.new_epochs(db, study.id, {}) == [(trial._trial_id, trial.number, 2, 0.5)]
    assert [row["value"] for row in overview.history(study.engine, trial._trial_id)] == [None, 0.5]
