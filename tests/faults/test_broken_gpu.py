"""A GPU that fails under its workers, on a host where two are pretended: each worker sees which one it has."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from helpers.command_line import claims, home_url, rows, run, states, write_space
from helpers.fake_nvidia_smi import smi

MODEL = """
import os

from torch import nn


class Net(nn.Conv2d):
    def forward(self, batch):
        if self.training and not batch.is_meta and os.environ.get("CUDA_VISIBLE_DEVICES") in self.bad.split():
            raise RuntimeError("CUDA error: " + self.says)
        return super().forward(batch)


def net(channels, outputs, *, bad="", says=""):
    made = Net(channels, outputs, 3, padding=1)
    made.bad, made.says = bad, says
    return made
"""
ECC = "uncorrectable ECC error encountered"
ASSERT = "device-side assert triggered"


def search(
    folder: Path, bad: str, says: str, trials: int, *args: str, **env: str
) -> subprocess.CompletedProcess[str]:
    (folder / "mine.py").write_text(MODEL)
    space = write_space(folder, epochs=2, model=f'use("mine:net", bad="{bad}", says="{says}")')
    env = {"CUDA_VISIBLE_DEVICES": "0,1", **env}
    return run(folder, "run", "--space", space, "--home", folder / "home", "--trials", str(trials), *args, **env)


def lines(done: subprocess.CompletedProcess[str], sign: str) -> list[str]:
    return [line for line in done.stderr.splitlines() if sign in line]


def test_a_broken_gpu_is_left_out_and_its_trial_moves_to_the_other(tmp_path: Path) -> None:
    done = search(tmp_path, "1", ECC, 3)
    assert done.returncode == 0, done.stderr
    assert set(states(home_url(tmp_path / "home")).values()) <= {"COMPLETE", "PRUNED"}
    (line,) = lines(done, "is broken")
    assert line.startswith(f"GPU 1 is broken or busy: CUDA error: {ECC}. ") and "The other one goes on" in line
    assert "Traceback" not in done.stderr
    again = search(tmp_path, "0 1", ECC, 4, "--mix")  # now no GPU is left
    assert again.returncode == 2
    (told,) = lines(again, "tuner: ")
    assert "No GPU is left" in told
    assert states(home_url(tmp_path / "home"))[3] == "WAITING"
    assert claims(home_url(tmp_path / "home"))[3] == (4, None, 0)  # no trial is to blame


@pytest.mark.slow
def test_an_assert_on_the_gpu_fails_its_trial_and_not_the_gpu(tmp_path: Path) -> None:
    done = search(tmp_path, "0", ASSERT, 2, "--gpus", "0")
    assert done.returncode == 0, done.stderr
    assert states(home_url(tmp_path / "home")) == {0: "FAIL", 1: "FAIL"}
    assert lines(done, "is broken") == []


@pytest.mark.slow
def test_as_many_workers_share_a_gpu_as_its_memory_allows(tmp_path: Path) -> None:
    path = smi(tmp_path / "bin", memory="4096, 0\n")
    done = search(
        tmp_path, "", "", 24, "--per-gpu", "auto", "--gpus", "0", PATH=path
    )  # 8 may end before it counts
    assert done.returncode == 0, done.stderr
    (line,) = lines(done, "GPU 0: ")
    workers = int(line.split()[2])
    assert 2 <= workers <= 8
    (joined,) = rows(home_url(tmp_path / "home"), "SELECT num_workers FROM tuner_study")
    assert joined.num_workers == workers
