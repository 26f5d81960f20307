"""Database outages under a worker: nothing is lost, and no error is raised too early."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa
from helpers.command_line import wait_for
from helpers.postgres import Postgres
from helpers.sessions import Bench, chosen, chosen_or_none, epochs_of, opened_bench, row, taken, written
from helpers.tcp_proxy import Proxy
from optuna.trial import TrialState

from tuner.study import database


@pytest.fixture
def away(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Bench, Bench, Proxy]]:
    """(the bench of a worker behind a proxy, a bench that sees the same database directly, the proxy)."""
    monkeypatch.setattr(database, "patience", 60.0)
    direct = postgres.fresh()
    with (
        Proxy(postgres.folder) as proxy,
        opened_bench(proxy.through(direct)) as bench,
        opened_bench(direct) as seen,
    ):
        yield bench, seen, proxy


@contextmanager
def gone(proxy: Proxy, sync: Any) -> Iterator[None]:
    """Make the database unreachable, and wait until the sync thread has noticed."""
    failed = threading.Event()
    beat = sync.send_heartbeat

    def noticed() -> None:
        try:
            beat()
        except sa.exc.OperationalError:
            failed.set()
            raise

    sync.send_heartbeat = noticed
    proxy.refuse(), proxy.cut()
    yield
    assert failed.wait(30)
    proxy.accept()


def test_training_goes_on_without_the_database_and_all_is_written_afterwards(
    away: tuple[Bench, Bench, Proxy],
) -> None:
    bench, seen, proxy = away
    with bench.session("w") as session:
        held = written(chosen(session))
        with gone(proxy, session.sync):
            for epoch in range(1, 6):
                assert session.check_signal(held) == ""
                session.record_epoch(held, row(epoch, epoch / 10))
            session.optuna_trial(held).set_user_attr("result", {"best": 0.5})
            session.end_trial(held, "COMPLETE", 0.5)
            assert seen.states() == {0: "RUNNING"} and epochs_of(seen, 0) == []
        following = chosen(session)
        assert following.number == 1
        wait_for(lambda: seen.states()[0] == "COMPLETE")
    trial = seen.trials()[0]
    assert (trial.value, trial.user_attrs) == (0.5, {"result": {"best": 0.5}})
    assert trial.intermediate_values == {epoch: epoch / 10 for epoch in range(1, 6)}
    assert epochs_of(seen, 0) == [1, 2, 3, 4, 5] and session.sync.failure is None


def test_a_trial_put_back_while_the_database_is_away_loses_nothing(away: tuple[Bench, Bench, Proxy]) -> None:
    """The sync thread may hold the pending writes at that moment without being able to write them."""
    bench, seen, proxy = away
    with bench.session("w") as session:
        held = taken(session)
        lr = session.optuna_trial(held).suggest_float("lr", 0.0, 1.0)
        with gone(proxy, session.sync):
            session.optuna_trial(held).set_user_attr("recipe", {"lr": lr})
            session.confirm_params(held)
            session.record_epoch(held, row(1))
            leaving = threading.Thread(target=session.put_back_trial, args=(held,))
            leaving.start()
        leaving.join()
    trial = seen.trials()[0]
    assert (trial.state, trial.params, trial.user_attrs) == (
        TrialState.WAITING,
        {"lr": lr},
        {"recipe": {"lr": lr}},
    )
    assert epochs_of(seen, 0) == [1] and seen.claim(0).worker is None


def test_a_page_that_is_on_its_way_when_the_connection_breaks_is_written_before_its_trial_is_put_back(
    away: tuple[Bench, Bench, Proxy], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, seen, proxy = away
    with bench.session("w") as session:
        held = written(chosen(session))
        monkeypatch.setattr(
            session.sync, "send_heartbeat", lambda: None
        )  # so that it is the page that is on its way
        proxy.stall()
        session.optuna_trial(held).set_user_attr("recipe", {"k": 64})
        session.record_epoch(held, row(1))
        wait_for(lambda: not held.pending)
        leaving = threading.Thread(target=session.put_back_trial, args=(held,))
        leaving.start()
        proxy.refuse(), proxy.cut(), proxy.flow()
        proxy.accept()
        leaving.join()
    (trial,) = seen.trials()
    assert (trial.state, trial.user_attrs) == (TrialState.WAITING, {"recipe": {"k": 64}})
    assert epochs_of(seen, 0) == [1]


@pytest.mark.slow
def test_a_connection_cut_again_and_again_costs_nothing(away: tuple[Bench, Bench, Proxy]) -> None:
    """Some commits succeed although their answers are lost, and are repeated."""
    bench, seen, proxy = away
    bench.set(num_trials=4)
    over, drawn = threading.Event(), random.Random(1)

    def cut() -> None:
        """Cut after a number of answers, not after a time, so that slow machines make progress too."""
        while not over.is_set():
            until = proxy.round_trips + drawn.randint(10, 40)
            while proxy.round_trips < until and not over.wait(0.001):
                pass
            proxy.cut()

    cutting = threading.Thread(target=cut)
    with bench.session("w") as session:
        cutting.start()
        try:
            while held := chosen_or_none(session):
                for epoch in range(1, 8):
                    assert session.check_signal(held) == ""
                    session.record_epoch(held, row(epoch, held.number + epoch / 100))
                    written(held)
                session.end_trial(held, "COMPLETE", held.number / 10)
        finally:
            over.set()
            cutting.join()
    assert proxy.connections > 4
    assert [(t.number, t.state, t.value) for t in seen.trials()] == [
        (number, TrialState.COMPLETE, number / 10) for number in range(4)
    ]
    assert all(epochs_of(seen, number) == list(range(1, 8)) for number in range(4)) and seen.num_claims() == 4


@pytest.mark.slow
def test_a_database_that_stays_away_ends_the_worker_with_its_error(
    away: tuple[Bench, Bench, Proxy], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, seen, proxy = away
    monkeypatch.setattr(database, "patience", 0.5)
    with pytest.raises(sa.exc.OperationalError), bench.session("w") as session:
        held = chosen(session)
        proxy.refuse(), proxy.cut()
        wait_for(lambda: session.check_signal(held) == "never")
    proxy.accept()
    assert seen.states() == {0: "RUNNING"} and seen.workers() == ["w"]  # others will notice
