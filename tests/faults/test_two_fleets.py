"""Two commands on one host and one home: each has its own workers, and what ends one leaves the other alone."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from helpers.command_line import (
    children,
    epochs_of,
    finish,
    home_url,
    rows,
    running,
    states,
    wait_for,
    worker_pids,
    write_space,
)


def at_work(url: str, fleet: int) -> list[int]:
    """The workers of this fleet that have a trial in hand."""
    ours = {child.pid for child in children(fleet)}
    training = rows(url, "SELECT pid FROM tuner_worker WHERE state = 'training' AND step > 0")
    return [row.pid for row in training if row.pid in ours]


@pytest.mark.slow
def test_a_fleet_that_is_stopped_leaves_the_other_alone(tmp_path: Path) -> None:
    space = write_space(tmp_path, epochs=10)
    url = home_url(tmp_path / "home")
    search = ["run", "--space", space, "--home", tmp_path / "home", "--trials", "500"]
    with running(tmp_path, *search) as first, running(tmp_path, *search) as second:
        (left,) = wait_for(lambda: at_work(url, first.pid), first)
        (right,) = wait_for(lambda: at_work(url, second.pid), second)
        os.kill(right, signal.SIGKILL)  # its own fleet puts another there, and no one else
        wait_for(lambda: right not in worker_pids(url), second)
        os.kill(second.pid, signal.SIGINT)
        stopped = finish(second)
        assert stopped.returncode == 0, stopped.stderr
        assert worker_pids(url) == [left]  # the very same process
        os.kill(first.pid, signal.SIGINT)
        stopped = finish(first)
    assert stopped.returncode == 0, stopped.stderr
    assert worker_pids(url) == []
    ends = states(url)
    assert "RUNNING" not in ends.values() and set(ends) == set(range(len(ends)))
    for number in ends:
        epochs = epochs_of(url, number)
        assert epochs == list(range(1, len(epochs) + 1))
