"""Throughput of 64 workers on one PostgreSQL with trials of one second, against bare Optuna.

A trial sleeps for a second and reports ten times. No torch: what is measured is the way to the database.
Every worker is a process. They are forked from one that has imported everything, stay for all rounds, and
do in each round as configured: bare Optuna (`Study.optimize` on its own storage) or tuner's session.
"""

from __future__ import annotations

import multiprocessing as mp
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks.measure import Row, Section, Setting, in_turns, median, spread
from benchmarks.server import Server, postgres

TARGET = 0.9

PRELOAD = [
    *(
        "optuna",
        "optuna.storages._rdb.models",
        "optuna.storages._rdb.storage",
        "optuna.samplers._tpe.sampler",
        "alembic.migration",
        "numpy.random",
    ),
    *("psycopg", "sqlalchemy.dialects.postgresql.psycopg", "tuner.search.session", "benchmarks.sleeping"),
]


@dataclass(frozen=True)
class Round:
    """What all workers do at once: a way (bare or session) with a sampler (random or tpe)."""

    way: str
    sampler: str
    url: str
    number: int  # of trials in all
    share: int  # of one worker: bare Optuna counts by itself


def measure(setting: Setting) -> Section:
    workers, trials = setting.pick(64, 4), setting.pick(15, 3)
    rows: list[Row] = []
    with (
        tempfile.TemporaryDirectory(dir=setting.folder) as folder,
        postgres(Path(folder) / "pg", connections=4 * workers + 20) as server,
        crew(workers) as pipes,
    ):
        for sampler in ("random", "tpe"):
            ways = {
                way: lambda way=way, sampler=sampler: one_round(setting, server, pipes, way, sampler, trials)
                for way in ("bare", "session")
            }
            rows.append(compared(workers, sampler, in_turns(setting.pick(3, 1), **ways)))
    reading = [
        f"{workers} processes on one PostgreSQL as it comes, each trial ten sleeps of 0.1 s with a report after "
        f"each; {workers * trials} trials a round, from the start of the first to the end of the last.",
        "Bare Optuna: `Study.optimize` on its RDBStorage, every process with its share of the trials. tuner: "
        "worker sessions, with the budget shared by all workers, a row for every epoch, and heartbeats.",
        "In every round exactly the trials of the budget completed, and none failed.",
        "The second row draws with TPE and asks the pruner after every report; equal values keep it from pruning.",
    ]
    return Section("many", f"{workers} workers", ("", "tuner", "bare Optuna"), rows, reading)


def compared(workers: int, sampler: str, rates: dict[str, list[float]]) -> Row:
    ratio = median(rates["session"]) / median(rates["bare"])
    what = {"random": "random", "tpe": "TPE and successive halving"}[sampler]
    return Row(
        f"{workers} workers, {what}, trials/s", spread(rates["session"]), spread(rates["bare"]), f"{ratio:.2f}",
        f"at least {TARGET}", ratio >= TARGET,
    )  # fmt: skip


def one_round(
    setting: Setting, server: Server, pipes: list[Connection], way: str, sampler: str, trials: int
) -> float:
    """Return the trials per second of all workers together."""
    number = trials * len(pipes)
    order = Round(way, sampler, server.fresh(), number, trials)
    prepare(order)
    for pipe in pipes:
        pipe.send(order)
    began = time.monotonic()
    ready = [pipe.recv() for pipe in pipes]  # all processes have opened the study
    setting.log(f"many: {way}: all have opened the study after {time.monotonic() - began:.1f} s")
    before = server.cpu()
    for pipe in pipes:
        pipe.send("go")
    answers = [pipe.recv() for pipe in pipes]
    failures = [answer for answer in (*ready, *answers) if isinstance(answer, str)]
    servers = server.cpu() - before
    rate = judged(order, failures)
    spent = [f"{1000 * seconds / number:.0f} ms" for seconds in (sum(map(float, answers)), servers)]
    setting.log(f"many: {way}, {sampler}: {rate:.1f} trials/s; CPU a trial: workers {spent[0]}, server {spent[1]}")
    return rate


def prepare(order: Round) -> None:
    """Create the study of a round."""
    import optuna

    from benchmarks.sleeping import INFO
    from tuner.study import budget, claims
    from tuner.study.study import join_study

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if order.way == "bare":
        storage = optuna.storages.RDBStorage(order.url)
        optuna.create_study(storage=storage, study_name="many", direction="maximize")
        storage.engine.dispose()
        return
    joined = join_study(order.url, INFO)
    budget.set_budget(joined.engine, joined.id, num_trials=order.number)
    assert claims.is_finished(joined.engine, joined.id) is False
    joined.engine.dispose()


def judged(order: Round, failures: list[str]) -> float:
    """Return the rate after checking that exactly the trials of the budget completed."""
    import sqlalchemy as sa

    from tuner.study import database

    engine = database.connect(order.url)
    with engine.connect() as db:
        states: dict[str, int] = dict(
            db.execute(sa.text("SELECT state, count(*) FROM trials GROUP BY state")).tuples().all()
        )
        reports = db.scalar(sa.text("SELECT count(*) FROM trial_intermediate_values"))
        began, ended = db.execute(sa.text("SELECT min(datetime_start), max(datetime_complete) FROM trials")).one()
    engine.dispose()
    if failures or {str(k): v for k, v in states.items()} != {"COMPLETE": order.number}:
        raise RuntimeError(f"{order.way}: {states}; {failures[:3]}")
    if reports != 10 * order.number:
        raise RuntimeError(f"{order.way}: {reports} reports of {order.number} trials")
    return order.number / (ended - began).total_seconds()


@contextmanager
def crew(size: int) -> Iterator[list[Connection]]:
    """Start processes that run one round after the other; yield a pipe to each."""
    context = mp.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    from benchmarks.sleeping import serve

    pairs: list[Any] = [context.Pipe() for _ in range(size)]
    processes = [context.Process(target=serve, args=(theirs, at)) for at, (_, theirs) in enumerate(pairs)]
    for process in processes:
        process.start()
    try:
        yield [ours for ours, _ in pairs]
    finally:
        for ours, _ in pairs:
            ours.send(None)
        for process in processes:
            process.join(timeout=10)
            process.kill()
