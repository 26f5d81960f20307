"""A worker lives for hundreds of trials: what failed and pruned ones held must be free again."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest
from helpers.command_line import finish, home_url, rows, running, wait_for, worker_pids, write_space

FAT = '''
from torch import nn


def net(channels, outputs):
    """A trial of it takes some 30 MB, most of it what a batch leaves between its layers."""
    fat = nn.Conv2d(channels, 2**17, 1)
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), fat, nn.Conv2d(2**17, outputs, 1), nn.Upsample(size=(32, 32)))
'''
MB = 2**20
EARLY, LATE = 6, 26


@pytest.mark.slow
def test_pruned_and_failed_trials_leave_nothing_in_memory(tmp_path: Path) -> None:
    (tmp_path / "fat.py").write_text(FAT)
    bad = "    lr = 1e38 if trial.number % 2 else lr\n"  # every other one ends with a loss that is not a number
    space = write_space(tmp_path, model='use("fat:net")', epochs=2, extra=bad)
    url = home_url(tmp_path / "home")
    args = ["run", "--space", space, "--home", tmp_path / "home", "--trials", str(LATE + 1)]
    with running(tmp_path, *args) as fleet:
        taken = {number: wait_for(lambda n=number: memory_after(url, n), fleet) for number in (EARLY, LATE)}
        done = finish(fleet)
    assert done.returncode == 0, done.stderr
    ends = {row.state for row in rows(url, "SELECT DISTINCT state FROM trials")}
    assert {"FAIL", "PRUNED"} <= ends
    assert taken[LATE] < taken[EARLY] + 100 * MB, {n: m // MB for n, m in taken.items()}


def memory_after(url: str, number: int) -> int:
    """What the worker takes right after so many trials have ended; 0 before."""
    ended = rows(url, "SELECT trial_id FROM trials WHERE state NOT IN ('RUNNING', 'WAITING')")
    pids = worker_pids(url)
    return psutil.Process(pids[0]).memory_info().rss if len(ended) >= number and pids else 0
