"""Processes killed in the middle of a trial: the trial goes on, and nothing else is lost."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import optuna
import psutil
import pytest
from helpers.command_line import (
    alter,
    claims,
    epochs_of,
    finish,
    home_url,
    rows,
    run,
    running,
    states,
    wait_for,
    worker_pids,
    write_space,
)
from helpers.recording_model import write_booked

EPOCHS = 40

DEADLY = '''
import os
import signal

import torch
from torch import nn


class Net(nn.Module):
    """Kills its process in its third epoch, however often it is taken up again: it counts in its weights."""

    def __init__(self, channels, outputs, deadly):
        super().__init__()
        self.body = nn.Conv2d(channels, outputs, 3, padding=1)
        self.register_buffer("steps", torch.zeros(1))
        self.deadly = deadly

    def forward(self, batch):
        if self.training and not batch.is_meta:
            self.steps += 1
            if self.deadly and self.steps > 7:
                os.kill(os.getpid(), signal.SIGKILL)
        return self.body(batch)


def net(channels, outputs, *, deadly=False):
    return Net(channels, outputs, deadly)
'''


def search(folder: Path, *args: str | Path, trials: int = 1) -> list[str | Path]:
    return ["run", "--space", folder / "tiny.py", "--home", folder / "home", "--trials", str(trials), *args]


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def reached(url: str, epoch: int, process: subprocess.Popen[str], number: int = 0) -> None:
    wait_for(lambda: len(epochs_of(url, number)) >= epoch, process)


def test_a_trial_survives_its_worker_its_fleet_and_both(tmp_path: Path) -> None:
    write_space(tmp_path, epochs=EPOCHS)
    url = home_url(tmp_path / "home")

    with running(tmp_path, *search(tmp_path)) as fleet:  # the worker alone: the fleet puts another in its place
        reached(url, 3, fleet)
        (first,) = worker_pids(url)
        os.kill(first, signal.SIGKILL)
        before = len(epochs_of(url, 0))
        wait_for(lambda: worker_pids(url) not in ([], [first]), fleet)
        assert states(url).keys() == {0}
        reached(url, before + 3, fleet)

        (second,) = worker_pids(url)  # the fleet alone: its worker notices, saves and puts the trial back
        fleet.kill()
        fleet.wait()
        wait_for(lambda: is_gone(second))
    assert states(url) == {0: "WAITING"}
    assert claims(url) == [(1, None, 0)]
    assert worker_pids(url) == []

    with running(tmp_path, *search(tmp_path)) as fleet:  # both: nobody is left to put anything back
        before = len(epochs_of(url, 0))
        reached(url, before + 3, fleet)
        (third,) = worker_pids(url)
        fleet.kill()
        os.kill(third, signal.SIGKILL)
        wait_for(lambda: is_gone(third))
    assert states(url) == {0: "RUNNING"}

    done = run(tmp_path, *search(tmp_path))
    assert done.returncode == 0, done.stderr
    assert states(url) == {0: "COMPLETE"}
    assert epochs_of(url, 0) == list(range(1, EPOCHS + 1))
    (trial,) = optuna.load_study(study_name="tiny", storage=url).trials
    assert sorted(trial.intermediate_values) == list(range(1, EPOCHS + 1))
    assert trial.user_attrs["result"]["epochs"] == EPOCHS


@pytest.mark.slow
def test_a_trial_that_kills_three_workers_is_set_aside_and_the_study_goes_on(tmp_path: Path) -> None:
    (tmp_path / "deadly.py").write_text(DEADLY)
    write_space(tmp_path, model='use("deadly:net", deadly=trial.number == 0)', epochs=4)
    done = run(tmp_path, *search(tmp_path, trials=2))
    url = home_url(tmp_path / "home")
    assert done.returncode == 0, done.stderr
    assert states(url)[0] == "FAIL"
    assert states(url)[1] in ("COMPLETE", "PRUNED")
    assert "trial 0 failed: set aside: 3 workers died" in done.stderr
    failed = optuna.load_study(study_name="tiny", storage=url).trials[0]
    assert "set aside: 3 workers died" in failed.user_attrs["failure"]
    assert failed.user_attrs["failure_kind"] == "workers died on it"
    assert epochs_of(url, 0) == [1, 2]


BROKEN = """
from torch import nn


class Net(nn.Conv2d):
    def forward(self, batch):
        if self.training and not batch.is_meta:
            raise ZeroDivisionError("of the user's own")
        return super().forward(batch)


def net(channels, outputs):
    print("a model may print as much as it likes: " + "x" * 200_000)
    return Net(channels, outputs, 3, padding=1)
"""


def test_a_bug_in_a_model_stops_the_worker_loudly_with_its_traceback_kept(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text(BROKEN)
    write_space(tmp_path, model='use("broken:net")')
    done = run(tmp_path, *search(tmp_path, trials=3))
    url = home_url(tmp_path / "home")
    assert done.returncode == 1
    assert states(url) == {0: "FAIL"}
    told = [line for line in done.stderr.splitlines() if line.startswith("tuner: ")]
    assert len(told) == 1
    assert "ZeroDivisionError: of the user's own" in told[0]
    log = tmp_path / "home" / "logs" / "tiny" / "worker-0.log"
    assert str(log) in told[0]
    assert "Traceback" in log.read_text()
    failed = optuna.load_study(study_name="tiny", storage=url).trials[0]
    assert "broken.py" in failed.user_attrs["failure"]
    assert failed.user_attrs["failure_kind"] == "exception"


@pytest.mark.slow
def test_a_worker_that_cannot_even_start_names_its_log(tmp_path: Path) -> None:
    write_space(tmp_path)
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "if {'tuner.search.worker', 'tuner.fleet.fork_server'} & set(sys.orig_argv): raise SystemExit(1)\n"
    )
    done = run(
        tmp_path, *search(tmp_path), PYTHONHASHSEED="1"
    )  # a real start of Python: one that forks has started
    assert done.returncode == 1
    assert str(tmp_path / "home" / "logs" / "tiny" / "worker-0.log") in done.stderr
    assert "Traceback" not in done.stderr


def test_a_study_deleted_under_its_worker_ends_with_one_line(tmp_path: Path) -> None:
    write_space(tmp_path, epochs=400)
    url = home_url(tmp_path / "home")
    with running(tmp_path, *search(tmp_path)) as fleet:
        reached(url, 2, fleet)
        optuna.delete_study(study_name="tiny", storage=url)
        done = finish(fleet)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "study 'tiny' was deleted" in done.stderr
    assert rows(url, "SELECT * FROM tuner_worker") == []
    assert "Traceback" not in (tmp_path / "home" / "logs" / "tiny" / "worker-0.log").read_text()


def test_a_trial_deleted_under_its_worker_ends_with_one_line_and_frees_its_place(tmp_path: Path) -> None:
    """As the dashboard deletes one: all of its rows go, and nobody tells the worker."""
    write_booked(tmp_path, 6, "gate=4 * (trial.number == 0)")
    url = home_url(tmp_path / "home")
    with running(tmp_path, *search(tmp_path, trials=2)) as fleet:
        wait_for((tmp_path / "waiting").exists, fleet)
        wait_for(lambda: len(epochs_of(url, 0)) == 3, fleet)
        for table in (
            "trial_params",
            "trial_user_attributes",
            "trial_system_attributes",
            "trial_intermediate_values",
        ):
            alter(url, f"DELETE FROM {table}")
        alter(url, "DELETE FROM trials")
        (tmp_path / "go").touch()
        done = finish(fleet)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    log = (tmp_path / "home" / "logs" / "tiny" / "worker-0.log").read_text()
    assert log.count("dropped, it was deleted from the database") == 1
    assert "Traceback" not in log
    assert len(states(url)) == 2  # others fill the budget
    assert set(states(url).values()) <= {"COMPLETE", "PRUNED"}
    assert len(claims(url)) == 2
