"""Deleting a study deletes the files of its trials, unless workers or other studies need them."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from helpers.made_studies import add_trial, make_study
from helpers.sessions import who
from helpers.wsgi_client import HERE, Answer, ask
from optuna.trial import TrialState

from tuner.artifacts.store import FolderStore
from tuner.paths import Home
from tuner.study import heartbeat
from tuner.study.storage import open_storage
from tuner.study.study import JoinedStudy
from tuner.study.tables import worker_table
from tuner.study.trial_queries import EXTENDS, TOOK_OVER
from tuner.web.dashboard_compat import dashboard_app
from tuner.web.server import ServerOptions, build_app, open_artifacts
from tuner.web.study_api import StudyApi

Delete = Callable[[int], Answer]


@pytest.fixture
def joined(tmp_path: Path) -> Iterator[JoinedStudy]:
    """Yield a study of one trial, whose weights are in the home and in a store, beside an export."""
    joined = make_study(tmp_path, "horses")
    add_trial(joined, [0.5])
    run = Home(tmp_path).run("horses", joined.info.key, 0, 1).make()
    run.best.write_bytes(bytes(1_500_000))
    place = run.best.relative_to(tmp_path).as_posix()
    for name in (place, "trials/horses-other/00000/best"):
        FolderStore(tmp_path / "store").put(run.best, name)
    (tmp_path / "best").mkdir()
    (tmp_path / "best" / "weights.safetensors").hardlink_to(run.best)
    yield joined
    joined.engine.dispose()


@pytest.fixture
def delete(joined: JoinedStudy, tmp_path: Path) -> Iterator[Delete]:
    """Yield a function that deletes the study of an id as the page does."""
    storage, engine = open_storage(f"sqlite:///{tmp_path / 'tuner.db'}")
    pictures = open_artifacts(engine, Home(tmp_path).make(), str(tmp_path / "store"))
    app = build_app(StudyApi(dashboard_app(storage, pictures), storage, engine), pictures, ServerOptions())
    body = {"remove_associated_artifacts": False}
    yield lambda study: ask(app, f"/api/studies/{study}", "DELETE", json=body, origin=f"http://{HERE}")
    engine.dispose()


def said(answer: Answer, code: int, key: str) -> str:
    assert answer.code == code, answer.body
    return str(json.loads(answer.body)[key])


def remains(folder: Path) -> set[str]:
    """Return the files of trials and exports that there are, but pictures."""
    return {
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and path.parts[len(folder.parts)] in ("trials", "store", "best")
    }


def test_the_files_of_its_trials_go_and_the_log_says_so(
    joined: JoinedStudy, delete: Delete, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_study(tmp_path, "other").engine.dispose()
    other = Home(tmp_path).run("other", "0a1b2c", 0, 1).make().best
    other.write_bytes(b"kept")
    remark = said(delete(joined.id), 200, "remark")
    assert remark == "study 'horses' is deleted, 1.5 MB of its trials' files are free"  # the export has the other
    assert capsys.readouterr().err == f"tuner: {remark}\n"
    assert remains(tmp_path) == {
        str(other.relative_to(tmp_path)),
        "store/trials/horses-other/00000/best",
        "best/weights.safetensors",
    }
    assert delete(joined.id).code == 404


@contextmanager
def worker(joined: JoinedStudy, is_alive: bool) -> Iterator[None]:
    """A worker of the study, from another machine, that sends heartbeats or is dead."""
    row = who("w", machine="another", version="0")
    mine, over = worker_table.c.worker == "w", threading.Event()
    with joined.engine.begin() as db:
        db.execute(sa.insert(worker_table).values(study_id=joined.id, **row))

    def send() -> None:
        while is_alive and not over.wait(0.02):
            with joined.engine.begin() as db:
                db.execute(sa.update(worker_table).where(mine).values(beats=worker_table.c.beats + 1))

    thread = threading.Thread(target=send)
    thread.start()
    yield
    over.set(), thread.join()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "MAX_HEARTBEAT_GAP", 1.0)


@pytest.mark.usefixtures("quick")
def test_a_study_that_is_worked_on_keeps_its_files(joined: JoinedStudy, delete: Delete, tmp_path: Path) -> None:
    before = remains(tmp_path)
    with worker(joined, is_alive=True):
        reason = said(delete(joined.id), 409, "reason")
    assert reason.startswith(
        "nothing was deleted: 1 worker of study 'horses' still running. Stop them first: tuner"
    )
    assert "stop --study horses" in reason and remains(tmp_path) == before
    assert joined.study.trials[0].value == 0.5


@pytest.mark.usefixtures("quick")
def test_a_worker_that_died_keeps_no_study(joined: JoinedStudy, delete: Delete) -> None:
    with worker(joined, is_alive=False):
        assert "1.5 MB" in said(delete(joined.id), 200, "remark")


def extension(joined: JoinedStudy, folder: Path, attrs: dict[str, Any]) -> JoinedStudy:
    """A study with a trial that waits to go on from the first one of `joined`."""
    longer = make_study(folder, "horses-9-epochs")
    origin = {"study": "horses", "key": joined.info.key, "number": 0, "attempt": 1}
    longer.study.enqueue_trial({"lr": 0.001}, user_attrs={EXTENDS: origin, **attrs})
    return longer


def test_a_study_that_is_still_to_be_extended_keeps_its_files(
    joined: JoinedStudy, delete: Delete, tmp_path: Path
) -> None:
    longer, before = extension(joined, tmp_path, {}), remains(tmp_path)
    reason = said(delete(joined.id), 409, "reason")
    assert "trials of horses-9-epochs are still to go on from 'horses'" in reason and remains(tmp_path) == before
    assert delete(longer.id).code == delete(joined.id).code == 200
    longer.engine.dispose()


def test_an_extension_with_its_own_copies_goes_on(joined: JoinedStudy, delete: Delete, tmp_path: Path) -> None:
    extension(joined, tmp_path, {TOOK_OVER: True}).engine.dispose()
    assert delete(joined.id).code == 200


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("weights", ["horses", "horses#0", "FILE"])
def test_a_study_that_starts_from_its_weights_is_told_of(
    joined: JoinedStudy, delete: Delete, tmp_path: Path, weights: str
) -> None:
    for name, uses in (("pets", weights), ("cats", "imagenet"), ("dogs", "horses2")):
        later = make_study(tmp_path, name)
        add_trial(later, [0.5], TrialState.RUNNING)
        path = str(Home(tmp_path).run("horses", joined.info.key, 0, 1).best)
        recipe = {"weights": {"name": path if uses == "FILE" else uses, "args": {}}}
        later.storage.set_trial_user_attr(later.study.trials[0]._trial_id, "recipe", recipe)
        if name == "pets":
            with worker(later, is_alive=True):
                reason = said(delete(joined.id), 409, "reason")
            assert "trials of 'pets', which is running, start from weights of 'horses'" in reason
            with later.engine.begin() as db:
                db.execute(sa.delete(worker_table))
        later.engine.dispose()
    remark = said(delete(joined.id), 200, "remark")
    assert remark.endswith("; its weights are gone too: new trials of pets cannot start from them")
