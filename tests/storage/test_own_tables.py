"""Our tables: created once, upgraded, and left alone if a later version created them."""

from __future__ import annotations

import shlex
from typing import Any

import pytest
import sqlalchemy as sa
from helpers.command_line import opened
from helpers.sessions import at_once, opened_bench, row

from tuner.errors import StorageError
from tuner.study import epoch_queries, optuna_tables, queries, tables
from tuner.study.pending import PendingWrites
from tuner.study.storage import open_storage

# As the first version of tuner wrote them; a number that counts by itself is named differently everywhere.
SCHEMA_1 = (
    "CREATE TABLE tuner_study (study_id INTEGER NOT NULL PRIMARY KEY, num_trials INTEGER, "
    "num_workers INTEGER NOT NULL)",
    "CREATE TABLE tuner_claim (claim_id {counted} PRIMARY KEY, study_id INTEGER NOT NULL, "
    "slot INTEGER NOT NULL, trial_id INTEGER, worker VARCHAR(64), deaths INTEGER NOT NULL, "
    "UNIQUE (trial_id), UNIQUE (study_id, slot))",
    "CREATE INDEX ix_tuner_claim_study_id ON tuner_claim (study_id)",
    "CREATE INDEX ix_tuner_claim_worker ON tuner_claim (worker)",
    "CREATE TABLE tuner_worker (worker VARCHAR(64) NOT NULL PRIMARY KEY, study_id INTEGER NOT NULL, "
    "host VARCHAR(255) NOT NULL, pid INTEGER NOT NULL, born FLOAT NOT NULL, device VARCHAR(255) NOT NULL, "
    "beats INTEGER NOT NULL, state VARCHAR(64) NOT NULL, number INTEGER, step INTEGER NOT NULL, "
    "steps INTEGER NOT NULL, value FLOAT, params JSON)",
    "CREATE INDEX ix_tuner_worker_study_id ON tuner_worker (study_id)",
    "CREATE TABLE tuner_epoch (trial_id INTEGER NOT NULL, epoch INTEGER NOT NULL, value FLOAT, "
    "seconds FLOAT NOT NULL, images_per_second FLOAT NOT NULL, peak_memory BIGINT NOT NULL, lr FLOAT NOT NULL, "
    "metrics JSON NOT NULL, PRIMARY KEY (trial_id, epoch))",
)
COUNTED = {
    "sqlite": "INTEGER NOT NULL",
    "postgresql": "SERIAL NOT NULL",
    "mysql": "INTEGER NOT NULL AUTO_INCREMENT",
    "mariadb": "INTEGER NOT NULL AUTO_INCREMENT",
}
OURS = ("tuner_meta", "tuner_study", "tuner_claim", "tuner_worker", "tuner_epoch", "tuner_decision")


def shape(url: str) -> dict[str, set[str]]:
    """Every table and its columns."""
    with opened(url) as engine:
        look = sa.inspect(engine)
        return {table: {each["name"] for each in look.get_columns(table)} for table in look.get_table_names()}


def meta(url: str) -> dict[str, str]:
    with opened(url) as engine, engine.connect() as db:
        return {each.name: each.value for each in db.execute(sa.select(tables.meta_table))}


def execute(url: str, *statements: str) -> None:
    with opened(url) as engine, engine.begin() as db:
        for statement in statements:
            db.execute(sa.text(statement))


def open_and_close(url: str) -> None:
    open_storage(url)[1].dispose()


def make_old(url: str) -> None:
    """A study of the first version: trial 0 finished, trial 1 put back; a worker that died long ago."""
    with opened_bench(url) as bench:
        bench.enter("w")
        bench.write(bench.take("w"), "w", PendingWrites(end=("COMPLETE", 0.5)))
        bench.take("w")
        kept = bench.rows(sa.select(tables.claim_table).order_by(tables.claim_table.c.slot))
        bench.execute("UPDATE trials SET state = 'WAITING' WHERE number = 1")
        study, dialect = bench.id, bench.engine.dialect.name
    execute(url, *(f"DROP TABLE {name}" for name in OURS))
    execute(url, *(each.format(counted=COUNTED[dialect]) for each in SCHEMA_1))
    claim = "INSERT INTO tuner_claim (study_id, slot, trial_id, worker, deaths) VALUES"
    first, second = (each.trial_id for each in kept)
    execute(
        url,
        f"INSERT INTO tuner_study VALUES ({study}, 3, 2)",
        f"{claim} ({study}, 1, {first}, 'w', 0)",
        f"{claim} ({study}, 2, {second}, NULL, 1)",
        f"INSERT INTO tuner_worker VALUES ('old', {study}, 'h', 1, 1.0, 'cpu', 7, 'training', 0, 1, 2, 0.5, NULL)",
        f"INSERT INTO tuner_epoch VALUES ({first}, 1, 0.25, 1.0, 9.0, {3 * 2**40}, 0.1, '{{\"val_iou\": 0.25}}')",
    )


def test_what_stands_in_the_database_is_what_is_written_here(storage_url: str) -> None:
    open_and_close(storage_url)
    found = shape(storage_url)
    for table in tables.ours.sorted_tables:
        assert found[table.name] == {column.name for column in table.columns}
    assert set(OURS) == {table.name for table in tables.ours.sorted_tables}
    for table in optuna_tables.optunas.sorted_tables:  # as far as we look at them
        assert {column.name for column in table.columns} <= found[table.name]


def test_made_twice_they_are_the_same(storage_url: str) -> None:
    open_and_close(storage_url)
    before, made_by = shape(storage_url), meta(storage_url)
    open_and_close(storage_url)
    assert shape(storage_url) == before and meta(storage_url) == made_by
    assert made_by["schema"] == str(tables.SCHEMA) and made_by["made_by"].startswith("tuner ")


def test_made_by_many_at_once_they_stand_once(storage_url: str) -> None:
    """Each with its own engine, as on ten hosts; another test uses ten processes."""
    at_once(10, lambda _: open_and_close(storage_url))
    assert set(meta(storage_url)) == {"schema", "made_by"}
    assert set(OURS) <= set(shape(storage_url))


def test_metrics_and_times_keep_all_their_digits(storage_url: str) -> None:
    """Some databases take a plain FLOAT for 32 bits."""
    value = 0.1234567890123456
    with opened_bench(storage_url) as bench:
        bench.enter("w", born=123456789.25)
        taken = bench.take("w")
        bench.write(taken, "w", PendingWrites(epochs={1: row(1, value, lr=1e-12, seconds=value)}))
        bench.set(clock_at=1.7e9 + 0.125, gpu_hours=value)
        (epoch,) = epoch_queries.read_epochs(bench.engine, taken.trial_id)
        assert (epoch["value"], epoch["lr"], epoch["seconds"]) == (value, 1e-12, value)
        assert (bench.study().clock_at, bench.study().gpu_hours) == (1.7e9 + 0.125, value)
        assert bench.rows(sa.select(tables.worker_table.c.born)) == [(123456789.25,)]


# An earlier version's


def test_an_older_schema_gets_its_columns_and_keeps_its_rows(storage_url: str) -> None:
    make_old(storage_url)
    open_and_close(storage_url)
    found = shape(storage_url)
    for table in tables.ours.sorted_tables:
        assert {column.name for column in table.columns} <= found[table.name]
    assert meta(storage_url)["schema"] == str(tables.SCHEMA)
    with opened_bench(storage_url) as bench:
        study = bench.study()
        assert (study.num_trials, study.num_workers, study.stops, study.paused) == (3, 2, 0, 0)
        assert (study.hours, study.gpu_hours, study.gpu_seconds) == (None, None, 0)
        assert [(each.slot, each.deaths, each.attempt, each.wanted) for each in map(bench.claim, (0, 1))] == [
            (1, 0, 0, ""),
            (2, 1, 0, ""),
        ]
        info = queries.find_study(bench.engine, "s")
        (worker,) = queries.read_summary(bench.engine, info).workers
        assert (worker.worker, worker.machine, worker.peak_memory, worker.beats) == ("old", "", 0, 7)
        (epoch,) = epoch_queries.read_epochs(bench.engine, bench.trials()[0]._trial_id)
        assert (epoch["value"], epoch["val_iou"], epoch["peak_memory"]) == (0.25, 0.25, 3 * 2**40)


def test_work_goes_on_in_an_older_database(storage_url: str) -> None:
    make_old(storage_url)
    with opened_bench(storage_url) as bench:
        bench.enter("new")
        back, fresh = bench.take("new"), bench.take("new")
        assert (back.number, back.attempt, back.deaths, fresh.number) == (1, 1, 1, 2)
        assert bench.try_to_take("new") == "spent"
        bench.write(back, "new", PendingWrites(epochs={1: row(1)}, values={1: 0.75}, end=("COMPLETE", 0.75)))
        assert bench.joined.study.best_value == 0.75
        bench.session("new").sync.send_heartbeat()


def test_an_epoch_without_a_value_is_recorded_in_an_older_database(storage_url: str) -> None:
    """The column of the first version was NOT NULL."""
    make_old(storage_url)
    older = SCHEMA_1[-1].replace("value FLOAT,", "value FLOAT NOT NULL,")
    execute(storage_url, "DROP TABLE tuner_epoch", older)
    first = "SELECT trial_id, 1, 0.25, 1.0, 9.0, 7, 0.1, '{}' FROM trials WHERE number = 0"
    execute(storage_url, f"INSERT INTO tuner_epoch {first}")
    with opened_bench(storage_url) as bench:
        bench.enter("new")
        back = bench.take("new")
        bench.write(back, "new", PendingWrites(epochs={1: row(1, None)}))
        stood, added = bench.rows("SELECT value FROM tuner_epoch ORDER BY trial_id")
        assert (stood.value, added.value) == (0.25, None)


def test_reading_an_older_database_says_how_to_bring_it_up_to_date(storage_url: str) -> None:
    make_old(storage_url)
    before = shape(storage_url)
    with (
        opened(storage_url) as engine,
        pytest.raises(StorageError, match=r"earlier tuner.*tuner init --storage ") as told,
    ):
        tables.refuse_other_versions(engine)
    *_, storage = shlex.split(str(told.value).rpartition(": ")[2])
    password = sa.make_url(storage_url).password
    assert storage == "$TUNER_STORAGE" if password else sa.make_url(storage) == engine.url
    assert shape(storage_url) == before
    open_and_close(storage_url)
    with opened(storage_url) as engine:
        tables.refuse_other_versions(engine)


def test_half_of_the_columns_added_by_a_killed_process_are_completed(storage_url: str) -> None:
    make_old(storage_url)
    execute(storage_url, "ALTER TABLE tuner_study ADD COLUMN hours FLOAT", "DROP TABLE tuner_epoch")
    open_and_close(storage_url)
    for table in tables.ours.sorted_tables:
        assert {column.name for column in table.columns} <= shape(storage_url)[table.name]


# A later version's


def refusal(url: str) -> str:
    with pytest.raises(StorageError) as told:
        open_storage(url)
    return str(told.value)


def test_a_newer_schema_is_refused_in_one_line_and_nothing_is_changed(storage_url: str) -> None:
    open_and_close(storage_url)
    execute(
        storage_url,
        "UPDATE tuner_meta SET value = '9' WHERE name = 'schema'",
        "UPDATE tuner_meta SET value = 'tuner 7.5' WHERE name = 'made_by'",
        "DROP TABLE tuner_epoch",
        "DROP TABLE tuner_claim",
    )
    before, made_by = shape(storage_url), meta(storage_url)
    said = refusal(storage_url)
    assert "tuner 7.5 (schema 9)" in said and f"(schema {tables.SCHEMA})" in said and "Nothing was changed" in said
    assert "\n" not in said
    assert shape(storage_url) == before and meta(storage_url) == made_by
    with opened(storage_url) as engine, pytest.raises(StorageError, match=r"tuner 7\.5"):
        tables.refuse_other_versions(engine)


def test_the_clock_of_the_database_goes_forward(storage_url: str) -> None:
    """In seconds, also within a transaction: a long one must not count as none."""

    def now(db: sa.Connection) -> float:
        return float(db.scalar(sa.select(tables.clock(db))) or 0)

    with opened(storage_url) as engine, engine.begin() as db:
        first: Any = now(db)
        second = now(db)
        while second == first:
            second = now(db)
        assert 1.7e9 < first < second < 1e10
