"""A worker that slept for longer than the heartbeat timeout: somebody else has its trial, and it lets go of it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psutil
import pytest
from helpers.command_line import claims, epochs_of, finish, rows, running, states, wait_for, worker_pids
from helpers.postgres import Postgres
from helpers.recording_model import once, trained, write_booked, write_rows

EPOCHS = 60
FIRST_HALF = (
    "SELECT e.epoch, e.value, e.seconds FROM tuner_epoch e JOIN trials t ON t.trial_id = e.trial_id "
    "WHERE t.number = 0 AND e.epoch < :last ORDER BY e.epoch"
)


@pytest.mark.slow
def test_a_host_that_slept_finds_its_trial_taken_over_and_leaves_it_alone(
    tmp_path: Path, postgres: Postgres
) -> None:
    """Its fleet slept as well, so that it cannot replace its worker; on waking it holds nobody else for dead."""
    write_booked(tmp_path, EPOCHS, f"pace=0.05, gate={EPOCHS // 2} * (trial.number == 0)")
    url, home = postgres.fresh(), tmp_path / "home"
    search = ["run", "--table", write_rows(tmp_path, 2), "--home", home, "--heartbeat-timeout", "5"]
    with running(tmp_path, *search, TUNER_STORAGE=url) as sleeper:
        wait_for((tmp_path / "waiting").exists, sleeper)
        (slept,) = worker_pids(url)
        for pid in (sleeper.pid, slept):
            os.kill(pid, signal.SIGSTOP)
        with running(tmp_path, *search, TUNER_STORAGE=url) as other:
            wait_for(lambda: set(pids(tmp_path)) - {slept}, other)  # it takes it up when its own is done
            (tmp_path / "go").touch()
            wait_for(lambda: len(epochs_of(url, 0)) > EPOCHS // 2 + 2, other)
            before = rows(url, FIRST_HALF, last=EPOCHS // 2)
            for pid in (slept, sleeper.pid):
                os.kill(pid, signal.SIGCONT)
            wait_for(lambda: not psutil.pid_exists(slept), sleeper)  # a new worker sits there now
            (tmp_path / "quick").touch()
            done = finish(other)
        woken = finish(sleeper)
    assert (done.returncode, woken.returncode) == (0, 0), done.stderr + woken.stderr
    assert "Traceback" not in done.stderr + woken.stderr
    assert states(url) == {0: "COMPLETE", 1: "COMPLETE"}
    assert epochs_of(url, 0) == list(range(1, EPOCHS + 1))
    assert rows(url, FIRST_HALF, last=EPOCHS // 2) == before
    assert [deaths for *_, deaths in claims(url)] == [0, 0]  # it got on afterwards
    assert [path.name for path in home.glob("trials/*/00000/*")] == ["attempt-2"]
    assert trained(tmp_path) - once(EPOCHS) <= once(EPOCHS // 2)  # the woken one stopped in the epoch it was in
    log = "".join(path.read_text() for path in (home / "logs" / "rows").iterdir())
    assert "Traceback" not in log
    assert rows(url, "SELECT * FROM tuner_worker") == []


def pids(folder: Path) -> list[int]:
    """Who trained the first trial."""
    lines = [line.split() for line in (folder / "book").read_text().splitlines()]
    return [int(line[3]) for line in lines if line[1] == "0"]
