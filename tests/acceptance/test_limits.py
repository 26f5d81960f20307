"""LIMITS of a space and --limit: what is refused, what is told, and what is trained."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from helpers.command_line import write_space

from tuner.cli import main

pytestmark = pytest.mark.usefixtures("forked_workers")
K = '    k = trial.suggest_int("k", 2, 8, step=2)\n'


def call(folder: Path, monkeypatch: pytest.MonkeyPatch, *args: str) -> Result:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.delenv("TUNER_STORAGE", raising=False)
    return CliRunner().invoke(main, list(args))


def limited(folder: Path, limits: str) -> None:
    path = write_space(folder, epochs=1, model='use("unet", k=k)', extra=K)
    path.write_text(f"{path.read_text()}\nLIMITS = {limits}\nSTART = [{{'k': 8}}, {{'k': 2}}]\n")


@pytest.mark.slow
def test_limits_from_the_space_to_the_best(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limited(tmp_path, '{"params": 5e4, "latency_ms": 1e6}')
    checked = call(tmp_path, monkeypatch, "check", "tiny.py")
    assert checked.exit_code == 0, checked.output
    assert "limit: params at most 50000 (" in checked.stdout and "of 66 recipes break it" in checked.stdout
    assert "limit: latency_ms at most 1e+06 (measured in each trial" in checked.stdout
    done = call(tmp_path, monkeypatch, "run", "--space", "tiny.py", "--trials", "2", "--limit", "macs=1e12")
    assert done.exit_code == 0, done.output
    assert "trial 0 over a limit: params" in done.stderr, done.output
    assert "2 of 2 trials ended (1 complete, 1 over limit)" in call(tmp_path, monkeypatch, "status").stdout
    best = call(tmp_path, monkeypatch, "best")
    assert best.exit_code == 0 and best.stdout.startswith("tiny: trial 1, iou"), best.output
    again = call(tmp_path, monkeypatch, "run", "--space", "tiny.py", "--trials", "5")
    assert again.exit_code == 2 and "limit of macs: from 1000000000000.0 to none" in again.stderr


def test_check_takes_the_options_of_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limited(tmp_path, '{"params": 5e4}')
    options = ("--limit", "params=2e4", "--pruning", "none", "--sampler", "random")
    checked = call(tmp_path, monkeypatch, "check", "tiny.py", *options)
    assert checked.exit_code == 0, checked.output
    assert "limit: params at most 20000 (" in checked.stdout and "search: random, pruning none" in checked.stdout
    refused = call(tmp_path, monkeypatch, "check", "tiny.py", "--limit", "params=10")
    assert refused.exit_code == 2 and "each of 66 recipes drawn from it breaks a limit" in refused.stderr


@pytest.mark.parametrize(
    ("limits", "args", "told"),
    [
        ('{"params": 10}', (), "each of 66 recipes drawn from it breaks a limit. The least that was met: params "),
        ('{"param": 10}', (), "LIMITS of "),
        ("7", (), "LIMITS of "),
        ('{"params": -2}', (), "the limit of params is -2; a number above 0 is needed."),
        ("{}", ("--limit", "params"), "'params' is not NAME=NUMBER, such as params=2e6."),
        ("{}", ("--limit", "parms=2e6"), "there is no limit of 'parms'. Did you mean 'params'?"),
        ("{}", ("--limit", "params=0"), "the limit of params is 0.0; a number above 0 is needed."),
        ("{}", ("--limit", "params=nan"), "'params=nan' is not NAME=NUMBER"),
    ],
)
def test_what_cannot_be_a_limit_or_met_is_told_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limits: str, args: tuple[str, ...], told: str
) -> None:
    limited(tmp_path, limits)
    done = call(tmp_path, monkeypatch, "run", "--space", "tiny.py", "--trials", "1", *args)
    assert done.exit_code == 2 and told in done.stderr, done.output
    assert not (tmp_path / "runs").exists()


def test_a_table_is_trained_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = call(tmp_path, monkeypatch, "run", "--table", "weizmann_unet", "--limit", "params=1")
    assert done.exit_code == 2 and "--limit belongs to --space" in done.stderr
