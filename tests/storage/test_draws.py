"""Sampling by workers: no point is drawn twice, also among two workers, with few statements."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy as sa
from helpers.command_line import wait_for
from helpers.postgres import Postgres
from helpers.sessions import Bench, opened_bench, row

from tuner.search.samplers import make_sampler
from tuner.search.sampling import REPEATS, redraw
from tuner.search.scheduling import make_scheduler
from tuner.search.session import Session
from tuner.space.search_settings import SearchSettings


def grid(trial: optuna.Trial) -> dict[str, Any]:
    """A space of sixteen points."""
    return {"a": trial.suggest_int("a", 0, 3), "b": trial.suggest_categorical("b", ["w", "x", "y", "z"])}


def draw(session: Session) -> dict[str, Any]:
    """One trial of a worker, from its parameters to its end."""
    held = session.take_trial()
    assert held is not None
    params = redraw(session.joined.study, session.optuna_trial(held), grid)
    session.confirm_params(held)
    session.end_trial(held, "COMPLETE", -float((params["a"] - 2) ** 2) - (params["b"] != "x"))
    return params


def test_24_trials_on_a_grid_of_sixteen_points_meet_all_and_repeats_are_named(prepared_url: str) -> None:
    with opened_bench(prepared_url) as bench, bench.session("w") as session:
        bench.joined.study.sampler = make_sampler(bench.joined.info, session.ordinal)
        drawn = [draw(session) for _ in range(24)]
        wait_for(lambda: not session.storage.unwritten)
        trials = bench.trials()
    assert [trial.params for trial in trials] == drawn, "what was forgotten is not written"
    assert len({tuple(params.values()) for params in drawn[:16]}) == 16
    assert [trial.number for trial in trials if REPEATS in trial.user_attrs] == list(range(16, 24))
    assert all(drawn[trial.user_attrs[REPEATS]] == trial.params for trial in trials[16:])


def test_two_workers_draw_different_points(prepared_url: str) -> None:
    drawn = []
    with opened_bench(prepared_url) as bench:
        for name in ("first", "second"):
            with opened_bench(prepared_url) as own, own.session(name) as session:
                own.joined.study.sampler = make_sampler(bench.joined.info, session.ordinal)
                for _ in range(4):
                    held = session.take_trial()
                    assert held is not None
                    drawn.append(session.optuna_trial(held).suggest_float("lr", 0.0, 1.0))
                    session.end_trial(held, "FAIL")
    assert len(set(drawn)) == 8


def test_a_trial_of_twenty_epochs_takes_few_words(postgres: Postgres) -> None:
    """Optuna's own storage needs about 260 statements in 59 transactions, without our epoch rows."""
    with opened_bench(postgres.fresh()) as bench, bench.session("w") as session:
        study = bench.joined.study
        study.sampler = make_sampler(bench.joined.info, session.ordinal)
        session.sync.scheduler = make_scheduler(bench.joined.info)
        for _ in range(12):
            draw(session)  # beyond the random ones
        wait_for(lambda: not session.storage.unwritten)
        said: list[str] = []
        for event in ("before_cursor_execute", "commit", "rollback"):
            sa.event.listen(bench.engine, event, lambda *_, event=event: said.append(event))
        train(bench, session)
    assert said.count("before_cursor_execute") <= 140
    assert said.count("commit") + said.count("rollback") <= 45


def train(bench: Bench, session: Session) -> None:
    """Twenty epochs of a twentieth of a second."""
    held = session.take_trial()
    assert held is not None
    trial = session.optuna_trial(held)
    for name in "vwxyz":
        trial.suggest_float(name, 0.0, 1.0)
    for name in ("recipe", "made_with", "result"):
        trial.set_user_attr(name, {"a": 1})
    session.confirm_params(held)
    for epoch in range(1, 21):
        time.sleep(0.05)
        session.check_signal(held)
        session.record_epoch(held, row(epoch))
    session.end_trial(held, "COMPLETE", 0.5)
    wait_for(lambda: not session.storage.unwritten)
    assert len(bench.rows("SELECT 1 FROM tuner_epoch")) == 20


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["cmaes", "nsga2"])
def test_workers_share_generations_through_the_trials_alone(sampler: str, tmp_path: Path) -> None:
    """What a sampler notes on a trial reaches the other worker; nothing is noted on the study."""
    if sampler == "cmaes":
        pytest.importorskip("cmaes")
    url, settings = f"sqlite:///{tmp_path / 'tuner.db'}", SearchSettings(sampler=sampler)
    with opened_bench(url, search=settings) as bench, opened_bench(url, search=settings) as other:
        with bench.session("a") as first, other.session("b") as second:
            for session in (first, second):
                session.joined.study.sampler = make_sampler(session.joined.info, session.ordinal)
            for _ in range(30):
                for session in (first, second):
                    held = session.take_trial()
                    assert held is not None
                    trial = session.optuna_trial(held)
                    value = trial.suggest_float("x", 0, 1) + trial.suggest_float("y", 0, 1)
                    session.confirm_params(held)
                    session.end_trial(held, "COMPLETE", value)
            wait_for(lambda: not first.storage.unwritten and not second.storage.unwritten)
        key = {"cmaes": "cma:generation", "nsga2": "NSGAIISampler:generation"}[sampler]
        generations = [trial.system_attrs.get(key, 0) for trial in bench.trials()]
        assert max(generations) >= {"cmaes": 5, "nsga2": 1}[sampler]
        notes = bench.rows("SELECT key FROM study_system_attributes")
        assert {row.key for row in notes} <= {"study:metric_names"}
