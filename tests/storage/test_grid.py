"""A grid trains each of its points exactly once, over all workers; START points come first, each once."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import optuna
import pytest
from helpers.command_line import wait_for
from helpers.postgres import Postgres
from helpers.sessions import INFO, Bench, opened_bench

from tuner.errors import PartError
from tuner.search.samplers import make_sampler
from tuner.search.session import Session
from tuner.space.search_settings import SearchSettings
from tuner.study import claims
from tuner.study.pending import ActiveTrial
from tuner.study.study import join_study
from tuner.study.trial_list import add_start_points

VALUES = {"k": [4, 8, 16], "loss": ["bce", "dice"], "lr": [1e-3, 1e-2]}
GRID = SearchSettings(sampler="grid", grid=VALUES)
START = [{"k": 8, "loss": "dice", "lr": 0.005}, {"lr": 0.002}]


def suggest(trial: optuna.Trial) -> tuple[Any, ...]:
    return (
        trial.suggest_categorical("loss", VALUES["loss"]),
        trial.suggest_int("k", 4, 16),
        trial.suggest_float("lr", 1e-4, 1e-1, log=True),
    )


def open_trial(bench: Bench, session: Session) -> tuple[ActiveTrial, tuple[Any, ...]] | None:
    held = session.take_trial()
    if held is None:
        return None
    drawn = suggest(session.optuna_trial(held))
    session.confirm_params(held)
    return held, drawn


def test_twelve_points_over_three_workers_of_which_one_dies_are_each_trained_once(postgres: Postgres) -> None:
    url = postgres.fresh()
    join_study(url, INFO).engine.dispose()
    died = threading.Event()

    def work(number: int) -> list[tuple[Any, ...]]:
        done = []
        with opened_bench(url, name="grid", search=GRID) as bench:
            bench.set(num_trials=12)
            with bench.session(f"w{number}") as session:
                bench.joined.study.sampler = make_sampler(bench.joined.info, session.ordinal)
                while opened := open_trial(bench, session):
                    held, drawn = opened
                    if number == 0 and not died.is_set():  # as after kill -9, its parameters written or not
                        died.set()
                        claims.release_worker(bench.engine, "w0", died=True)
                        session.register()
                        session.drop_trial(held)
                        continue
                    done.append(drawn)
                    session.end_trial(held, "COMPLETE", 0.5)
                wait_for(lambda: not session.storage.unwritten)
        return done

    with ThreadPoolExecutor(3) as pool:
        done = [point for points in pool.map(work, range(3)) for point in points]
    assert died.is_set()
    assert sorted(done) == sorted(
        (loss, k, lr) for loss in ("bce", "dice") for k in (4, 8, 16) for lr in (1e-3, 1e-2)
    )
    with opened_bench(url, name="grid", search=GRID) as bench:
        assert (
            sorted(bench.states().values()) == ["COMPLETE"] * 12 and max(c.attempt for c in claims_of(bench)) == 2
        )


def claims_of(bench: Bench) -> list[Any]:
    return bench.rows("SELECT attempt FROM tuner_claim")


def test_points_of_deleted_trials_come_again_and_then_the_grid_says_that_it_is_spent(prepared_url: str) -> None:
    with opened_bench(prepared_url, search=GRID) as bench:
        bench.set(num_trials=12)
        with bench.session("w") as session:
            bench.joined.study.sampler = make_sampler(bench.joined.info, 0)
            bench.joined.study.enqueue_trial(
                {"k": 5, "loss": "bce", "lr": 0.05}
            )  # by another tool: no point of it
            done = finish_all(bench, session)
            bench.delete(3)
            bench.set(num_trials=14)
            session.storage.caches.clear()
            done += finish_all(bench, session, 2)
            assert ("bce", 5, 0.05) in done and len(done) == 14 and len(set(done)) == 13
            bench.set(num_trials=15)
            with pytest.raises(PartError, match="the grid has 12 points, and each was trained"):
                open_trial(bench, session)


def finish_all(bench: Bench, session: Session, number: int = 100) -> list[tuple[Any, ...]]:
    done = []
    while len(done) < number and (opened := open_trial(bench, session)):
        done.append(opened[1])
        session.end_trial(opened[0], "COMPLETE", 0.5)
    wait_for(lambda: not session.storage.unwritten)
    return done


def test_the_points_of_start_come_first_in_order_and_once_however_often_it_is_typed(prepared_url: str) -> None:
    join_study(prepared_url, INFO).engine.dispose()

    def type_it(_: int) -> int:
        with opened_bench(prepared_url) as bench:
            return add_start_points(bench.joined, prepared_url, START)

    with ThreadPoolExecutor(3) as pool:
        assert sorted(pool.map(type_it, range(3))) == [0, 0, 2]
    with opened_bench(prepared_url) as bench, bench.session("w") as session:
        bench.set(num_trials=3)
        bench.joined.study.sampler = make_sampler(bench.joined.info, 0)
        done = []
        while opened := open_trial(bench, session):
            done.append(opened[1])
            session.end_trial(opened[0], "FAIL")
        wait_for(lambda: not session.storage.unwritten)
        assert done[0] == ("dice", 8, 0.005) and done[1][2] == 0.002 and len(done) == 3
        assert add_start_points(bench.joined, prepared_url, START) == 0, "also one that failed comes once"
        assert add_start_points(bench.joined, prepared_url, [*START, {"lr": 0.004}]) == 1
