"""Training does not wait for a slow database: trials of 20 short epochs, and their database load."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.measure import Row, Section, Setting, child, in_turns, median, spread
from benchmarks.server import Server, postgres, slow

DELAY = 0.005  # seconds added to each round trip
EPOCHS, EPOCH_SECONDS = 20, 0.05
TIME_TARGET, STATEMENTS, TRANSACTIONS = 1.1, 140, 45


def measure(setting: Setting) -> Section:
    trials = setting.pick(10, 3)
    with tempfile.TemporaryDirectory(dir=setting.folder) as folder, postgres(Path(folder) / "pg") as server:

        def on_the_slow_way(way: str) -> float:
            with slow(filled(server, folder), DELAY) as url:
                return answer(setting, way, url, trials)["seconds"]

        times = in_turns(
            setting.pick(3, 1),
            none=lambda: answer(setting, "none", "", trials)["seconds"],
            session=lambda: on_the_slow_way("session"),
            bare=lambda: on_the_slow_way("bare"),
        )
        counts = {way: answer(setting, way, filled(server, folder), trials) for way in ("session", "bare")}
    rows = [*time_rows(times), *count_rows(counts)]
    reading = [
        f"{trials} trials of {EPOCHS} epochs of {EPOCH_SECONDS * 1000:.0f} ms (sleeping), one after the other, in "
        "a study of 100 finished trials on PostgreSQL, drawn by TPE and judged by the pruner. The way to the "
        f"database is a proxy on loopback that adds {DELAY * 1000:.0f} ms to each round trip. From the first "
        "trial's start to the last one's end, a trial's share.",
        "Statements and transactions are counted without the proxy, as SQLAlchemy sends them, including "
        "heartbeats and checks of other workers. tuner also writes a row of metrics for every epoch; bare "
        "Optuna does not.",
    ]
    return Section("latency", "A slow way to the database", ("", "tuner", "the other"), rows, reading)


def time_rows(times: dict[str, list[float]]) -> list[Row]:
    none = median(times["none"])
    ours, bare = (median(times[way]) / none for way in ("session", "bare"))
    other = f"no database at all: {spread(times['none'], 3)}"
    return [
        Row("a trial with 5 ms more a round trip, s", spread(times["session"], 3), other, f"{ours:.2f}",
            f"at most {TIME_TARGET}", ours <= TIME_TARGET),
        Row("the same, bare Optuna", spread(times["bare"], 3), other, f"{bare:.2f}"),
    ]  # fmt: skip


def count_rows(counts: dict[str, dict[str, Any]]) -> list[Row]:
    rows = []
    for what, most in (("statements", STATEMENTS), ("transactions", TRANSACTIONS)):
        ours, bare = (counts[way][what] for way in ("session", "bare"))
        ratio, other = f"{ours / bare:.2f}", f"bare Optuna: {bare:.0f}"
        rows.append(Row(f"{what} of a trial", f"{ours:.0f}", other, ratio, f"at most {most}", ours <= most))
    return rows


def filled(server: Server, folder: str) -> str:
    """Create a database with a study of a hundred finished trials."""
    url = server.fresh()
    child("large", {"do": "fill", "url": url, "trials": 100, "folder": folder})
    return url


def answer(setting: Setting, way: str, url: str, trials: int) -> dict[str, Any]:
    found = child("latency", {"way": way, "url": url, "trials": trials})
    setting.log(f"latency: {way}: {found}")
    return found


# Processes of their own


def main(config: dict[str, Any]) -> dict[str, float]:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return {"none": no_database, "session": with_session, "bare": bare}[config["way"]](config)


def no_database(config: dict[str, Any]) -> dict[str, float]:
    began = time.perf_counter()
    for _ in range(config["trials"] * EPOCHS):
        time.sleep(EPOCH_SECONDS)
    return {"seconds": (time.perf_counter() - began) / config["trials"]}


class Count:
    """Counters of an engine's statements and transactions."""

    def __init__(self, engine: Any) -> None:
        import sqlalchemy as sa

        self.statements = self.transactions = 0
        sa.event.listen(engine, "before_cursor_execute", self.statement)
        sa.event.listen(engine, "commit", self.transaction)
        sa.event.listen(engine, "rollback", self.transaction)

    def statement(self, *_: Any) -> None:
        self.statements += 1

    def transaction(self, *_: Any) -> None:
        self.transactions += 1

    def of(self, trials: int) -> dict[str, float]:
        return {"statements": self.statements / trials, "transactions": self.transactions / trials}


def with_session(config: dict[str, Any]) -> dict[str, float]:
    from benchmarks.large import distributions
    from benchmarks.sleeping import trial_at, who
    from tuner.search.samplers import make_sampler
    from tuner.search.session import Session
    from tuner.study.study import rejoin_study

    joined = rejoin_study(config["url"], "five")
    kinds = distributions(joined.info.parameters)
    with Session(joined, who(0)) as session:
        joined.study.sampler = make_sampler(joined.info, session.ordinal)
        trial_at(session, take(session), kinds, 1, 0.0)  # reads the study, as once in a worker's life
        settle(session)
        count, began = Count(joined.engine), time.perf_counter()
        for _ in range(config["trials"]):
            trial_at(session, take(session), kinds, EPOCHS, EPOCH_SECONDS)
        seconds = (time.perf_counter() - began) / config["trials"]
        settle(session)
        counted = count.of(config["trials"])
    joined.engine.dispose()
    return {"seconds": seconds, **counted}


def take(session: Any) -> Any:
    held = session.take_trial()
    assert held is not None
    return held


def settle(session: Any) -> None:
    """Wait until everything is written."""
    while session.sync.unwritten_trials():
        time.sleep(0.001)


def bare(config: dict[str, Any]) -> dict[str, float]:
    import optuna

    from benchmarks.large import distributions

    rdb = optuna.storages.RDBStorage(config["url"])
    storage = optuna.storages.get_storage(rdb)
    draws = optuna.samplers.TPESampler(seed=0)
    halving = optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=3)
    study = optuna.load_study(study_name="five", storage=storage, sampler=draws, pruner=halving)
    kinds = distributions(study.user_attrs["tuner"]["parameters"])

    def objective(trial: optuna.Trial) -> float:
        params = [trial._suggest(name, kind) for name, kind in kinds.items()]
        for epoch in range(1, EPOCHS + 1):
            time.sleep(EPOCH_SECONDS)
            trial.report(1.0, epoch)
            trial.should_prune()
        return float(len(params))

    study.optimize(objective, n_trials=1)
    count, began = Count(rdb.engine), time.perf_counter()
    study.optimize(objective, n_trials=config["trials"])
    return {"seconds": (time.perf_counter() - began) / config["trials"], **count.of(config["trials"])}


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
