"""The cost of a trial for the database, in statements and transactions."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa
from helpers.command_line import wait_for
from helpers.sessions import Bench, epochs_of, opened_bench, row, taken, written
from optuna.trial import TrialState

from tuner.fleet.config import WorkerSettings
from tuner.search.samplers import make_sampler
from tuner.search.scheduling import make_scheduler
from tuner.search.session import Session
from tuner.study.pending import ActiveTrial


@pytest.fixture
def bench(prepared_url: str) -> Iterator[Bench]:
    with opened_bench(prepared_url) as made:
        yield made


@contextmanager
def counted(engine: sa.Engine) -> Iterator[Callable[[], tuple[int, int]]]:
    """(statements, transactions) of an engine so far."""
    statements: list[object] = []
    commits: list[object] = []

    def said(*args: Any) -> None:
        statements.append(args[2])

    def committed(*args: Any) -> None:
        commits.append(args)

    sa.event.listen(engine, "before_cursor_execute", said)
    sa.event.listen(engine, "commit", committed)
    try:
        yield lambda: (len(statements), len(commits))
    finally:
        sa.event.remove(engine, "before_cursor_execute", said)
        sa.event.remove(engine, "commit", committed)


def test_a_trial_of_twenty_epochs_is_few_statements(bench: Bench) -> None:
    """Optuna alone needs a transaction for each parameter, attribute, report and query."""
    with bench.session("w", WorkerSettings(heartbeat_timeout=1e4, hang_timeout=1e4)) as session:
        session.joined.study.sampler = make_sampler(session.joined.info, 0)
        session.sync.scheduler = make_scheduler(session.joined.info)
        with counted(bench.engine) as so_far:
            held = taken(session)
            trial = session.optuna_trial(held)
            for name in ("lr", "decay", "dropout", "k"):
                trial.suggest_float(name, 0.0, 1.0)
            trial.set_user_attr("made_with", {"torch": "2"})
            trial.set_user_attr("recipe", {"model": "unet"})
            written_page(session, held)
            for epoch in range(1, 21):
                session.record_epoch(held, row(epoch, epoch / 100), judge=epoch < 20)
                written_page(session, held)
            trial.set_user_attr("result", {"best": 0.2})
            ended = threading.Event()
            session.end_trial(held, "COMPLETE", 0.2, ended.set)
            assert ended.wait(30)
            statements, transactions = so_far()
    assert statements <= 140 and transactions <= 45, (statements, transactions)
    assert bench.trials()[0].state is TrialState.COMPLETE and len(epochs_of(bench, 0)) == 20


def written_page(session: Session, held: ActiveTrial) -> None:
    """Write each epoch separately, as with slow epochs."""
    session.confirm_params(held)
    written(held)
    wait_for(lambda: not held.unjudged)
