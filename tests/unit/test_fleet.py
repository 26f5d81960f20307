"""The fleet without its workers: seats, and who counts as gone."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import sqlalchemy as sa
from optuna.trial import TrialState, create_trial
from tiny import home_url

from tuner import fleet, overview, records
from tuner.goal import Goal
from tuner.runs import Home
from tuner.study import Joined, Plan, join

BORN = psutil.Process().create_time()
ME = overview.Worker("w", socket.gethostname(), os.getpid(), BORN, "cpu", 0, "training", None, 0, 0, None, None)


@pytest.fixture
def study(home: Path) -> Iterator[Joined]:
    Home(home).make()
    joined = join(home_url(home), "s", Plan("unet_k", Goal("iou", "maximize"), "shapes", False, 0, {}))
    records.set_budget(joined.engine, joined.id, 5)
    yield joined
    joined.engine.dispose()


@pytest.fixture
def crew(study: Joined, home: Path) -> fleet.Fleet:
    return fleet.Fleet(
        orders=fleet.Orders("", "s", "", str(home), 1.0),
        home=Home(home),
        engine=study.engine,
        info=overview.find_study(study.engine, "s"),
        seats=[],
        deadline=None,
        look=lambda: None,
    )


def begin(study: Joined, worker: overview.Worker) -> int:
    """A trial in the hands of a worker."""
    records.enter(study.engine, study.id, {key: value for key, value in vars(worker).items() if key != "beats"})
    claim = records.claim_slot(study.engine, study.id, worker.worker)
    trial_id = study.study._storage.create_new_trial(study.id, create_trial(state=TrialState.WAITING))
    assert claim is not None
    assert records.bind(study.engine, claim, trial_id)
    study.study._storage.set_trial_state_values(trial_id, TrialState.RUNNING)
    return trial_id


def state(study: Joined) -> list[str]:
    return [trial.state.name for trial in study.study.get_trials()]


def test_this_process_is_not_gone() -> None:
    assert not fleet.is_gone(ME)


def test_a_later_process_of_the_same_number_is_another_one() -> None:
    assert fleet.is_gone(replace(ME, born=ME.born - 100))


def test_a_process_of_another_host_is_not_looked_for_here() -> None:
    assert not fleet.is_gone(replace(ME, host="elsewhere", pid=2**22 + 1))


def test_a_killed_process_is_gone_even_while_nobody_buries_it() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    worker = replace(ME, pid=child.pid, born=psutil.Process(child.pid).create_time())
    assert not fleet.is_gone(worker)
    child.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and is a zombie from here on
    assert fleet.is_gone(worker)
    child.communicate()
    assert fleet.is_gone(worker)


def test_a_dead_worker_of_this_host_is_put_back_at_once(study: Joined, crew: fleet.Fleet) -> None:
    trial_id = begin(study, replace(ME, born=1.0))
    crew.reap(0.0)
    assert state(study) == ["WAITING"]
    assert records.deaths(study.engine, trial_id) == 1
    assert crew.work_left()


def test_a_worker_of_another_host_is_put_back_after_a_long_silence(study: Joined, crew: fleet.Fleet) -> None:
    begin(study, replace(ME, host="elsewhere"))
    for now in (0.0, fleet.SILENT_SECONDS):
        crew.reap(now)
        assert state(study) == ["RUNNING"]
    crew.reap(fleet.SILENT_SECONDS + 1)
    assert state(study) == ["WAITING"]


def test_a_worker_that_beats_is_left_alone(study: Joined, crew: fleet.Fleet) -> None:
    begin(study, replace(ME, host="elsewhere"))
    for now in (0.0, 29.0, 58.0, 87.0):
        records.beat(study.engine, "w", {"step": 1})
        crew.reap(now)
    assert state(study) == ["RUNNING"]


def test_a_fleet_does_not_leave_before_a_worker_elsewhere_was_seen_alive_or_dead(
    study: Joined, crew: fleet.Fleet
) -> None:
    begin(study, replace(ME, host="elsewhere", number=0))
    crew.reap(0.0)
    assert crew.waits_for_a_sign()
    records.beat(study.engine, "w", {"step": 1})
    crew.reap(1.0)
    assert not crew.waits_for_a_sign()


def test_a_fleet_takes_up_what_a_silent_worker_elsewhere_held(study: Joined, crew: fleet.Fleet) -> None:
    begin(study, replace(ME, host="elsewhere", number=0))
    crew.reap(0.0)
    crew.reap(fleet.SILENT_SECONDS + 1)
    assert not crew.waits_for_a_sign() and crew.work_left()


def test_silence_does_not_count_while_the_database_was_away(study: Joined, crew: fleet.Fleet) -> None:
    begin(study, replace(ME, host="elsewhere"))
    crew.reap(0.0)
    with crew.database_may_fail(), study.engine.connect() as db:
        db.execute(sa.text("SELECT * FROM nowhere"))
    crew.reap(1000.0)
    assert state(study) == ["RUNNING"]


def test_what_a_worker_without_a_row_owns_is_put_back(study: Joined, crew: fleet.Fleet) -> None:
    begin(study, ME)
    with study.engine.begin() as db:
        db.execute(sa.delete(records.worker_table))
    crew.reap(0.0)
    assert state(study) == ["WAITING"]


def test_a_study_that_is_done_starts_no_worker(study: Joined, crew: fleet.Fleet) -> None:
    records.set_budget(study.engine, study.id, 0)
    crew.seats = [fleet.Seat(0, None, [])]
    assert crew.run() == 0
    assert crew.seats[0].process is None


def test_one_seat_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    assert [seat.gpu for seat in fleet.seats(None)] == ["2", "5"]
    assert [seat.gpu for seat in fleet.seats(3)] == ["2", "5", "2"]


def test_without_a_gpu_the_workers_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 4, 5})
    assert [seat.cores for seat in fleet.seats(None)] == [[]]
    assert [seat.cores for seat in fleet.seats(2)] == [[0, 1], [4, 5]]
    assert sorted(core for seat in fleet.seats(3) for core in seat.cores) == [0, 1, 4, 5]
    assert all(len(seat.cores) == 1 for seat in fleet.seats(7))
