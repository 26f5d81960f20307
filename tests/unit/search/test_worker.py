"""A worker in the test's own process, with real training and a real database."""

from __future__ import annotations

import errno
import json
import sys
import threading
from pathlib import Path

import optuna
import pytest
import sqlalchemy as sa
from helpers.command_line import claims, epochs_of, rows, states, wait_for
from helpers.schedulers import Asked
from helpers.worker_place import Place
from optuna.trial import TrialState

from tuner.errors import FailureKind, FilesError, SpaceChanged, StudyError
from tuner.fleet.config import WorkerConfig
from tuner.search import sync, trial_pictures
from tuner.search.worker import Worker
from tuner.study import queries
from tuner.study.claims import WorkerRemoved, release_worker
from tuner.study.tables import worker_table
from tuner.tasks import TASKS

LONG = 400  # epochs: ended by the test, not by itself


def artifacts(place: Place) -> list[str]:
    """Return the files that the dashboard shows of a study's only trial, in its order."""
    found = rows(place.url, "SELECT * FROM trial_system_attributes ORDER BY trial_system_attribute_id")
    told = [json.loads(json.loads(row.value_json)) for row in found if row.key.startswith("artifacts:")]
    return [meta["filename"] for meta in told]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.syspath_prepend(str(tmp_path))
    return Place(tmp_path)


def test_everything_about_every_epoch_and_trial_is_recorded(place: Place) -> None:
    place.study(2, epochs=3).work()
    for row in rows(place.url, "SELECT * FROM tuner_epoch"):
        assert row.seconds > 0
        assert row.images_per_second > 0
        assert row.peak_memory > 10 * 2**20
        assert 1e-4 <= row.lr <= 1e-2
        metrics = json.loads(row.metrics)
        names = TASKS["binary"].metrics
        only_val = {"train_batch_iou", "train_batch_dice"}
        assert set(metrics) == {f"{split}_{name}" for split in ("train", "val") for name in names} - only_val
        assert row.value == metrics["val_iou"]
    first = place.trials()[0]
    assert first.state == TrialState.COMPLETE
    assert sorted(first.intermediate_values) == [1, 2, 3]
    assert set(first.params) == {"lr", "loss"}
    assert first.value == max(first.intermediate_values.values())
    assert first.user_attrs["recipe"]["optimizer"]["args"]["lr"] == first.params["lr"]
    made = first.user_attrs["made_with"]
    assert {"torch", "optuna", "tuner", "python", "commit", "data_hash"} <= set(made)
    assert made["data"] == "shapes"
    assert first.user_attrs["result"]["best_value"] == first.value
    assert first.datetime_start is not None
    assert first.datetime_complete is not None


@pytest.mark.slow
def test_the_same_seed_gives_the_same_study(tmp_path: Path) -> None:
    def study(name: str, seed: int) -> list[tuple[object, object]]:
        folder = tmp_path / name
        folder.mkdir()
        place = Place(folder, seed).study(2, epochs=1)
        place.work()
        return [(trial.params, trial.value) for trial in place.trials()]

    assert study("one", 0) == study("two", 0) != study("three", 1)


def test_a_stopped_trial_is_put_back_and_goes_on_with_its_number(place: Place) -> None:
    place.study(1, epochs=12).work_until(3, lambda worker: worker.stop.set())
    assert states(place.url) == {0: "WAITING"}
    assert claims(place.url) == [(1, None, 0)]
    assert (place.run(1) / "checkpoint.pt").is_file()
    place.work()
    assert states(place.url) == {0: "COMPLETE"}
    assert epochs_of(place.url, 0) == list(range(1, 13))
    names = ["strip.png", "predictions.png", "curves.png", "quality.png", "details.json", "confusion.csv"]
    assert [name for name in artifacts(place) if name != "explanation.png"] == names  # none of them twice


def test_a_worker_needs_nothing_that_draws_charts(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    place.study(1, epochs=1).work()
    assert states(place.url) == {0: "COMPLETE"} and {"curves.png", "quality.png"} <= set(artifacts(place))


@pytest.mark.slow
def test_the_strip_of_a_running_trial_is_there(place: Place) -> None:
    seen: list[str] = []

    def look(worker: Worker) -> None:
        seen.extend(wait_for(lambda: artifacts(place)))
        wait_for(lambda: list((place.folder / "home" / "artifacts").iterdir()))
        worker.stop.set()

    place.study(1, epochs=LONG).work_until(2, look)
    assert seen == ["strip.png"] and states(place.url) == {0: "WAITING"}


WILD = """
from torch import nn


def net(channels, outputs, *, wild=True):
    return Net(channels, outputs, 3, padding=1)


class Net(nn.Conv2d):
    def forward(self, batch):
        return super().forward(batch) * float("nan")
"""


def test_a_loss_that_is_no_number_fails_its_trial_only(place: Place) -> None:
    (place.folder / "wild.py").write_text(WILD)
    place.study(2, model='use("wild:net") if trial.number == 0 else use("unet", k=4)').work()
    failed, fine = place.trials()
    assert (failed.state, fine.state) == (TrialState.FAIL, TrialState.COMPLETE)
    assert "train_loss is nan at epoch 1 with adam(" in failed.user_attrs["failure"]
    assert failed.user_attrs["failure_kind"] == FailureKind.LOSS_NOT_FINITE
    assert failed.user_attrs["failure_line"] == failed.user_attrs["failure"]


def test_a_deleted_study_is_told(place: Place) -> None:
    def delete(worker: Worker) -> None:
        optuna.delete_study(study_name="tiny", storage=place.url)

    with pytest.raises(StudyError, match="'tiny' was deleted"):
        place.study(2, epochs=LONG).work_until(2, delete)


def test_a_study_that_was_deleted_before_the_worker_came_is_told(place: Place) -> None:
    place.study(2)
    optuna.delete_study(study_name="tiny", storage=place.url)
    with pytest.raises(StudyError, match="'tiny' was deleted"):
        place.work()


def test_a_deleted_trial_is_dropped_and_the_next_one_taken(place: Place) -> None:
    def delete(worker: Worker) -> None:
        for table in ("trial_params", "trial_intermediate_values", "trial_user_attributes", "trials"):
            place.execute(f"DELETE FROM {table} WHERE trial_id = 1")

        (place.folder / "deleted").touch()

    epochs = f"1 if __import__('os').path.exists({str(place.folder / 'deleted')!r}) else {LONG}"
    place.study(2, epochs=epochs).work_until(2, delete)
    assert states(place.url) == {0: "COMPLETE", 1: "COMPLETE"}
    assert len(claims(place.url)) == 2


@pytest.mark.slow
def test_a_trial_that_somebody_else_ended_is_dropped(place: Place) -> None:
    def end(worker: Worker) -> None:
        place.execute("UPDATE trials SET state = 'FAIL' WHERE number = 0")

    place.study(2, epochs=f"{LONG} if trial.number == 0 else 1").work_until(2, end)
    assert states(place.url) == {0: "FAIL", 1: "COMPLETE"}


def test_a_trial_given_to_another_worker_is_dropped_quietly(place: Place) -> None:
    def give_away(worker: Worker) -> None:
        with worker.engine.begin() as db:
            row = dict(db.execute(sa.select(worker_table)).mappings().one())
            db.execute(sa.insert(worker_table).values(row | {"worker": "other"}))  # one that lives
        place.execute("UPDATE tuner_claim SET worker = 'other' WHERE slot = 1")

    place.study(2, epochs=f"{LONG} if trial.number == 0 else 1").work_until(2, give_away)
    assert states(place.url) == {0: "RUNNING", 1: "COMPLETE"}
    assert claims(place.url)[0] == (1, "other", 0)


def test_a_worker_given_up_for_dead_makes_room_for_a_new_one(place: Place) -> None:
    def reap(worker: Worker) -> None:
        release_worker(worker.engine, worker.session.name, died=True)

    with pytest.raises(WorkerRemoved):
        place.study(2, epochs=LONG).work_until(2, reap)
    assert states(place.url) == {0: "WAITING"}


def test_an_enqueued_trial_takes_a_slot_with_its_own_parameters(place: Place) -> None:
    place.study(2, epochs=1)
    optuna.load_study(study_name="tiny", storage=place.url).enqueue_trial({"lr": 0.002, "loss": "dice"})
    place.work()
    first, second = place.trials()
    assert first.params == {"lr": 0.002, "loss": "dice"}
    assert second.params["lr"] != 0.002
    assert len(claims(place.url)) == 2


def test_a_trial_left_waiting_by_a_killed_worker_fills_its_slot(place: Place) -> None:
    place.study(1, epochs=1)
    with place.worker() as worker:
        worker.session.register()
        worker.session.take_trial()  # and here it is killed
        release_worker(worker.engine, worker.session.name, died=True)
    place.work()
    assert states(place.url) == {0: "COMPLETE"} and claims(place.url)[0][0] == 1


def test_the_beat_tells_where_a_worker_is(place: Place) -> None:
    seen: list[queries.WorkerInfo] = []

    def look(worker: Worker) -> None:
        info = queries.find_study(worker.engine, "tiny")
        (now,) = wait_for(
            lambda: [
                w
                for w in queries.read_summary(worker.engine, info).workers
                if w.state == "training" and w.step > 0
            ]
        )
        seen.append(now)
        worker.stop.set()

    place.study(1, epochs=LONG).work_until(1, look)
    assert (seen[0].number, seen[0].steps, seen[0].state) == (0, LONG, "training")
    assert seen[0].params is not None
    assert set(seen[0].params) == {"lr", "loss"}
    assert rows(place.url, "SELECT * FROM tuner_worker") == []


@pytest.mark.slow
def test_a_stop_while_data_is_cached_is_obeyed_there_and_the_trial_goes_on_later(place: Place) -> None:
    place.study(1, epochs=1)
    with place.worker() as worker:
        tell = worker.session.update_status
        worker.session.update_status = lambda **doing: (  # type: ignore[method-assign]
            tell(**doing),
            doing.get("state", "").startswith("caching") and worker.stop.set(),
        )
        worker.work()
    assert [trial.state for trial in place.trials()] == [TrialState.WAITING]
    assert list((place.folder / "home" / "cache").glob("*/entry.json")) == []
    place.work()
    assert [trial.state for trial in place.trials()] == [TrialState.COMPLETE]


def test_a_space_changed_under_a_running_study_is_not_trained_unseen(place: Place) -> None:
    place.study(1)
    config = WorkerConfig(
        place.url, "tiny", str(place.folder / "tiny.py"), str(place.folder / "home"), space_digest="another"
    )
    with pytest.raises(SpaceChanged, match="changed while its study runs"):
        Worker(config, threading.Event())


def test_a_trial_that_was_pruned_stays_pruned_whatever_happens_then(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.study(1, epochs=LONG)
    asked = Asked(answer_at=1)
    monkeypatch.setattr(sync, "make_scheduler", lambda info: asked)
    with monkeypatch.context() as broken:
        broken.setattr(trial_pictures, "write_pictures", full_disk)
        with pytest.raises(FilesError):
            place.work()
    before = epochs_of(place.url, 0)
    assert states(place.url) == {0: "WAITING"} and before
    place.work()
    (trial,) = place.trials()
    assert (trial.state, trial.user_attrs["pruned_at"]) == (TrialState.PRUNED, 1)
    assert epochs_of(place.url, 0) == before and asked.epochs == [1]


def full_disk(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")
