"""Ctrl-C and SIGTERM: all is saved, the trial is put back, and typing the command again finishes it."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest
from helpers.command_line import (
    claims,
    epochs_of,
    finish,
    home_url,
    run,
    running,
    states,
    wait_for,
    worker_pids,
    write_space,
)

EPOCHS = 40
RESULT = "0 of 1 trial ended"


def search(folder: Path, *args: str) -> list[str | Path]:
    return ["run", "--space", folder / "tiny.py", "--home", folder / "home", "--trials", "1", *args]


def further(url: str, process: subprocess.Popen[str]) -> None:
    """Wait for two epochs more than there were."""
    before = len(epochs_of(url, 0))
    wait_for(lambda: len(epochs_of(url, 0)) >= before + 2, process)


def all_is_put_back(url: str) -> bool:
    return (states(url), claims(url), worker_pids(url)) == ({0: "WAITING"}, [(1, None, 0)], [])


@pytest.mark.slow
def test_a_trial_that_is_stopped_in_every_way_is_finished_in_the_end(tmp_path: Path) -> None:
    write_space(tmp_path, epochs=EPOCHS)
    url = home_url(tmp_path / "home")
    for number in (signal.SIGINT, signal.SIGTERM):
        with running(tmp_path, *search(tmp_path)) as fleet:
            further(url, fleet)
            os.kill(fleet.pid, number)
            stopped = finish(fleet)
        assert (stopped.returncode, RESULT in stopped.stdout) == (0, True), stopped.stderr
        assert "Traceback" not in stopped.stderr
        assert all_is_put_back(url)
        assert list((tmp_path / "home/trials").glob("tiny-*/00000/attempt-*/checkpoint.pt"))
    done = run(tmp_path, *search(tmp_path))
    assert done.returncode == 0, done.stderr
    assert states(url) == {0: "COMPLETE"}
    assert epochs_of(url, 0) == list(range(1, EPOCHS + 1))
    assert "1 of 1 trial ended" in done.stdout


STUBBORN = '''
import time
from pathlib import Path

from torch import nn


def net(channels, outputs):
    return Net(channels, outputs, 3, padding=1)


class Net(nn.Conv2d):
    """Takes no notice of anything in its sixth step."""

    steps = 0

    def forward(self, batch):
        self.steps += self.training
        while self.steps == 6:
            Path("hung").touch()
            time.sleep(1)
        return super().forward(batch)
'''


def test_a_second_ctrl_c_ends_at_once_and_puts_the_trial_back_too(tmp_path: Path) -> None:
    (tmp_path / "stubborn.py").write_text(STUBBORN)
    write_space(tmp_path, model='use("stubborn:net")')
    url = home_url(tmp_path / "home")
    with running(tmp_path, *search(tmp_path)) as fleet:
        wait_for((tmp_path / "hung").exists, fleet)
        os.kill(fleet.pid, signal.SIGINT)
        (pid,) = worker_pids(url)
        with pytest.raises(subprocess.TimeoutExpired):
            fleet.wait(1)  # the worker hangs, so one Ctrl-C is not enough
        os.kill(fleet.pid, signal.SIGINT)
        stopped = finish(fleet)
    assert stopped.returncode == 130
    assert "Traceback" not in stopped.stderr
    assert not Path(f"/proc/{pid}").exists()
    assert all_is_put_back(url)


def test_hours_alone_end_a_run_without_a_budget(tmp_path: Path) -> None:
    space = write_space(tmp_path, epochs=4000)
    stopped = run(tmp_path, "run", "--space", space, "--home", tmp_path / "home", "--hours", "0.0001")
    assert stopped.returncode == 0, stopped.stderr
    assert "0 trials ended" in stopped.stdout
    assert worker_pids(home_url(tmp_path / "home")) == []
