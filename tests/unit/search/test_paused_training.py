"""Trials that pause and are resumed, with real training: bitwise as if they had been trained at once."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.command_line import rows, states, wait_for
from helpers.local_training import same
from helpers.schedulers import Asked
from helpers.worker_place import Place
from optuna.trial import TrialState

from tuner.search import sync
from tuner.search.replay import replay_decisions
from tuner.search.session import Session
from tuner.space.search_settings import SearchSettings
from tuner.study.pending import ActiveTrial, read_seconds
from tuner.study.study import rejoin_study


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.syspath_prepend(str(tmp_path))
    return Place(tmp_path)


Result = tuple[list[object], dict[str, Any], bytes]


class Killed(BaseException):
    """As sudden as a power failure."""


def pausing(place: Place, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    """Have the next worker resume what is paused, and leave when the trial has reached that epoch."""
    scheduler, ask = Asked(at, "pause", range(100)), Session.check_signal

    def patient(session: Session, active: ActiveTrial) -> str:
        wait_for(lambda: not active.unjudged or session.sync.failure)
        return ask(session, active)

    monkeypatch.setattr(Session, "check_signal", patient)
    monkeypatch.setattr(sync, "make_scheduler", lambda info: scheduler)
    monkeypatch.setattr(scheduler, "choose", lambda *known: None if scheduler.seen else Asked().choose(*known))
    place.work()


def result(place: Place, attempt: int) -> Result:
    """Return the curve, the checkpoint without times, and the best weights of trial 0."""
    folder = place.run(attempt)
    state = torch.load(folder / "checkpoint.pt", weights_only=True)
    del state["progress"]["spent"]
    for report in state["progress"]["history"]:
        report |= {"seconds": 0, "images_per_second": 0, "peak_memory": 0}
    curve = [(row.epoch, row.value, row.lr, row.metrics) for row in rows(place.url, "SELECT * FROM tuner_epoch")]
    return curve, state, (folder / "best.safetensors").read_bytes()


def unbroken(tmp_path: Path, **space: object) -> Result:
    (tmp_path / "unbroken").mkdir()
    place = Place(tmp_path / "unbroken", search=SearchSettings(pruning="none")).study(1, **{"epochs": 5, **space})
    place.work()
    return result(place, 1)


def test_a_trial_in_four_stretches_equals_an_unbroken_one(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Bitwise; one of the workers is killed in its stretch."""
    expected = unbroken(tmp_path)
    place.search = SearchSettings(pruning="promote")
    place.study(1, epochs=5)
    for epoch in (1, 2, 4):
        with monkeypatch.context() as now:
            pausing(place, now, epoch)
        (trial,) = place.trials()
        assert (trial.state, trial.value) == (TrialState.PRUNED, trial.intermediate_values[epoch])
        (claim,) = rows(place.url, "SELECT * FROM tuner_claim")
        assert claim.paused_at == epoch and claim.kept_bytes > 1000
        assert trial.user_attrs["result"]["epochs"] == epoch
        if epoch == 2:
            with monkeypatch.context() as dying, pytest.raises(Killed):
                dying.setattr(Session, "check_signal", kill_after(3))
                place.work()
            assert states(place.url) == {0: "WAITING"}
    with monkeypatch.context() as now:
        pausing(place, now, 100)
    assert states(place.url) == {0: "COMPLETE"} and "starts again" not in caplog.text
    curve, state, best = result(place, 5)
    assert curve == expected[0] and same(state, expected[1]) and best == expected[2]
    assert [path.name for path in place.run(5).parent.glob("attempt-*")] == ["attempt-5"]


@pytest.mark.slow
def test_a_trial_that_pauses_within_its_first_epoch_equals_an_unbroken_one(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bitwise. Two workers are killed in that epoch: one before the trial is scored, one that resumed it."""
    space: dict[str, object] = {"epochs": 2, "batch": 4}
    expected = unbroken(tmp_path, **space)
    place.search = SearchSettings(pruning="promote", first_rung=1 / 3)
    place.study(1, **space)

    def killed() -> None:
        with monkeypatch.context() as dying, pytest.raises(Killed):
            dying.setattr(Session, "check_signal", kill_after(2))
            place.work()
        assert states(place.url) == {0: "WAITING"} and not rows(place.url, "SELECT * FROM tuner_epoch")

    killed()
    with monkeypatch.context() as now:
        pausing(place, now, 0)
    (trial,), (claim,) = place.trials(), rows(place.url, "SELECT * FROM tuner_claim")
    assert (trial.state, list(trial.intermediate_values)) == (TrialState.PRUNED, [0])
    assert trial.value == trial.intermediate_values[0] and claim.paused_at == 0 and claim.kept_bytes > 1000
    attrs = trial.user_attrs["result"]
    assert (attrs["best_epoch"], attrs["epochs"], attrs["partial"]) == (0, 0, [1 / 3, trial.value])
    notes = [row.value_json for row in rows(place.url, "SELECT value_json FROM study_system_attributes")]
    assert any("best iou at epoch 0.33, paused at 0.33 of 2" in note for note in notes)
    decided = "SELECT action, epoch FROM tuner_decision ORDER BY decision_id"
    assert rows(place.url, decided) == [("start", 0), ("pause", 0)]
    killed()
    with monkeypatch.context() as now:
        pausing(place, now, 100)
    (trial,) = place.trials()
    assert trial.state is TrialState.COMPLETE and list(trial.intermediate_values) == [0, 1, 2]
    curve, state, best = result(place, 4)
    assert state["progress"].pop("partial") == (1 / 3, trial.intermediate_values[0])
    assert expected[1]["progress"].pop("partial") is None
    assert curve == expected[0] and same(state, expected[1]) and best == expected[2]
    assert rows(place.url, decided)[2:] == [("resume", 0), ("continue", 1)]


def test_trials_that_are_compared_by_seconds_pause_and_go_on(place: Place) -> None:
    """The clock of a trial is that of its recorded epochs, over its attempts."""
    place.search = SearchSettings(pruning="promote", first_rung="0.001s", factor=10**6)
    place.study(2, epochs=2).work()
    assert states(place.url) == {0: "COMPLETE", 1: "PRUNED"} or states(place.url) == {0: "PRUNED", 1: "COMPLETE"}
    decided = rows(place.url, "SELECT action, epoch FROM tuner_decision ORDER BY decision_id")
    assert decided == [("start", 0), ("pause", 1)] * 2 + [("resume", 1)]
    joined = rejoin_study(place.url, "tiny")
    replayed = replay_decisions(joined)
    assert [each for each in replayed if not each.is_same] == []
    assert [each.stored.reason["rung"] for each in replayed if each.stored.action != "start"] == [0.001] * 3
    for trial in joined.storage.get_all_trials(joined.id):
        spent = [row.seconds for row in rows(place.url, EPOCHS, number=trial.number)]
        assert read_seconds(trial) == pytest.approx(dict(enumerate(accumulate(spent), 1)), abs=0.01)
    joined.engine.dispose()


EPOCHS = (
    "SELECT seconds FROM tuner_epoch e JOIN trials t ON t.trial_id = e.trial_id "
    "WHERE number = :number ORDER BY epoch"
)


def kill_after(number: int) -> Callable[..., str]:
    asked = iter(range(number))

    def check_signal(session: Session, active: ActiveTrial) -> str:
        if not active.is_choosing and next(asked, None) is None:  # not while the data is read
            wait_for(lambda: not active.pending)
            raise Killed
        return ""

    return check_signal


@pytest.mark.slow
def test_a_paused_trial_whose_checkpoint_is_gone_starts_again(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    expected = unbroken(tmp_path)
    place.search = SearchSettings(pruning="promote")
    place.study(1, epochs=5)
    for epoch in (2, 100):
        with monkeypatch.context() as now:
            pausing(place, now, epoch)
        if epoch == 2:
            shutil.rmtree(place.run(1))
    assert "trial 0: there is no checkpoint of it here; it starts again" in caplog.text
    curve, state, best = result(place, 2)
    assert curve == expected[0] and same(state, expected[1]) and best == expected[2]
