"""The budget of trials: as given on the command line, as stored, or the default."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from helpers.sessions import opened_bench

from tuner.goal import Goal
from tuner.paths import Home
from tuner.search.run import DEFAULT_TRIALS, RunOptions, RunRequest, set_budget
from tuner.space.rehearsal import NUM_TRIALS
from tuner.study import budget, claims
from tuner.study.info import StudyInfo
from tuner.study.study import join_study

INFO = StudyInfo("s", "unet_k", Goal("iou", "maximize"), "shapes")


def typed(trials: int | None = None, hours: float | None = None, rehearse: bool = False) -> RunRequest:
    means = RunOptions("", Home(Path("home")), hours=hours)
    return RunRequest("unet_k", None, trials, means, None, 0, rehearse)


@pytest.mark.parametrize(
    ("commands", "budgets"),
    [
        ([typed()], [DEFAULT_TRIALS]),
        ([typed(rehearse=True)], [NUM_TRIALS]),
        ([typed(trials=3), typed(), typed(trials=5), typed(hours=1.0)], [3, 3, 5, 5]),
        ([typed(hours=1.0), typed(hours=1.0), typed()], [None, None, DEFAULT_TRIALS]),
        ([typed(trials=4, hours=1.0)], [4]),
    ],
)
def test_the_budget_after_each_command(
    prepared_url: str, commands: list[RunRequest], budgets: list[int | None]
) -> None:
    study = join_study(prepared_url, INFO)
    met = []
    for command in commands:
        set_budget(study.engine, study.info, command)
        met.append(budget.read_budget(study.engine, study.id).budget.num_trials)
    study.engine.dispose()
    assert met == budgets


def test_a_study_is_done_when_its_budget_is_claimed_and_nothing_waits(prepared_url: str) -> None:
    with opened_bench(prepared_url) as bench:

        def is_done() -> bool:
            return claims.is_finished(bench.engine, bench.id)

        assert not is_done()
        bench.set(num_trials=1)
        bench.enter("w")
        assert not is_done()
        bench.take("w")
        assert is_done()
        claims.release_worker(bench.engine, "w", died=True)
        assert not is_done()
        bench.enter("w")
        bench.take("w")
        assert is_done()
        bench.set(num_trials=2)
        assert not is_done()


def test_a_study_with_a_limit_in_hours_gets_none_in_trials(prepared_url: str) -> None:
    with opened_bench(prepared_url) as bench:
        budget.set_budget(bench.engine, bench.id, gpu_hours=2.0)
        set_budget(bench.engine, replace(INFO, id=bench.id), typed())
        assert budget.read_budget(bench.engine, bench.id).budget == budget.Budget(None, None, 2.0)
        set_budget(bench.engine, replace(INFO, id=bench.id), typed(trials=4))
        assert budget.read_budget(bench.engine, bench.id).budget == budget.Budget(4, None, 2.0)
