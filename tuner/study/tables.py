"""Our own tables, beside Optuna's.

tuner_meta      which schema this is, and who made it
tuner_study     the budget of a study, what is used of it, and what users ask of all its workers
tuner_claim     one row for each trial: its slot in the budget, the worker that owns it now, its attempts
tuner_worker    one row for each running worker: where it runs, its state and its progress
tuner_epoch     one row for each epoch of a trial: metrics, seconds, images per second, memory
tuner_decision  one row for each decision of the scheduler: what a trial does at a rung, what a free worker trains

An earlier schema is migrated by comparing the database with this file. Alembic would not make that simpler: DDL is
not transactional on MariaDB, nor on SQLite through Python's driver, so a killed process leaves some columns added,
and revisions would need the same comparison to be repeatable. The number of the schema stays in tuner_meta, where
version 0.1 looks for it before it reads or writes.
"""

from __future__ import annotations

from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from tuner.errors import StorageError
from tuner.study import database
from tuner.study.optuna_tables import trials
from tuner.wording import write_command

SCHEMA = 3  # of our tables; 1 had no tuner_meta, 2 no paused trials: it would take them for pruned ones
ZERO: dict[str, Any] = {"nullable": False, "default": 0, "server_default": "0"}

ours = sa.MetaData()
meta_table = sa.Table(
    "tuner_meta",
    ours,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("value", sa.String(255), nullable=False),
)
study_table = sa.Table(
    "tuner_study",
    ours,
    sa.Column("study_id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("num_trials", sa.Integer),  # the budget; NULL means unlimited
    sa.Column("hours", sa.Double),  # by the clock, while any worker runs
    sa.Column("gpu_hours", sa.Double),
    sa.Column("epochs", sa.Integer),  # of all trials together
    sa.Column("clock_seconds", sa.Double, **ZERO),  # spent of `hours`
    sa.Column("clock_at", sa.Double),  # when that was counted last, by the database's clock
    sa.Column("gpu_seconds", sa.Double, **ZERO),  # granted of `gpu_hours`
    sa.Column("epochs_granted", sa.Integer, **ZERO),  # of `epochs`
    sa.Column("num_workers", sa.Integer, **ZERO),  # that ever joined
    sa.Column("stops", sa.Integer, **ZERO),  # how often all workers were asked to stop
    sa.Column("paused", sa.Integer, **ZERO),
)
claim_table = sa.Table(
    "tuner_claim",
    ours,
    sa.Column("claim_id", sa.Integer, primary_key=True),
    sa.Column("study_id", sa.Integer, nullable=False, index=True),
    sa.Column("slot", sa.Integer, nullable=False),
    sa.Column("trial_id", sa.Integer, unique=True),
    sa.Column("worker", sa.String(64), index=True),
    sa.Column("deaths", sa.Integer, **ZERO),
    sa.Column("attempt", sa.Integer, **ZERO),  # how often the trial was claimed
    sa.Column("wanted", sa.String(16), nullable=False, default="", server_default=""),  # a TrialRequest
    sa.Column("paused_at", sa.Integer),  # the epoch after which the trial rests; NULL if it is not paused
    sa.Column("kept_bytes", sa.BigInteger, **ZERO),  # of the checkpoint and weights of a paused trial
    sa.Column("epochs_granted", sa.Integer, **ZERO),  # that its worker may train, without those written
    sa.UniqueConstraint("study_id", "slot"),
)
worker_table = sa.Table(
    "tuner_worker",
    ours,
    sa.Column("worker", sa.String(64), primary_key=True),
    sa.Column("study_id", sa.Integer, nullable=False, index=True),
    sa.Column("host", sa.String(255), nullable=False),  # for people
    sa.Column("machine", sa.String(64), nullable=False, default="", server_default=""),  # for us
    sa.Column("pid", sa.Integer, nullable=False),
    sa.Column("born", sa.Double, nullable=False),  # ticks after the boot, to tell the process from a later one
    sa.Column("device", sa.String(255), nullable=False),
    sa.Column("version", sa.String(64), nullable=False, default="", server_default=""),
    sa.Column("beats", sa.Integer, **ZERO),  # heartbeats
    sa.Column("progress", sa.Integer, **ZERO),  # steps of its work
    sa.Column("state", sa.String(64), nullable=False, default="starting"),
    sa.Column("number", sa.Integer),  # of its trial
    sa.Column("step", sa.Integer, **ZERO),
    sa.Column("steps", sa.Integer, **ZERO),
    sa.Column("batch", sa.Integer, **ZERO),  # of the epoch that is trained,
    sa.Column("batches", sa.Integer, **ZERO),  # and their number; 0 between epochs
    sa.Column("value", sa.Double),
    sa.Column("params", sa.JSON),
    sa.Column("peak_memory", sa.BigInteger, **ZERO),  # bytes
    sa.Column("granted", sa.Double, **ZERO),  # GPU-seconds it may spend,
    sa.Column("used", sa.Double, **ZERO),  # and has spent
)
epoch_table = sa.Table(
    "tuner_epoch",
    ours,
    sa.Column("trial_id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("epoch", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("value", sa.Double),  # the goal's metric; NULL for an epoch without validation
    sa.Column("seconds", sa.Double, nullable=False),
    sa.Column("images_per_second", sa.Double, nullable=False),
    sa.Column("peak_memory", sa.BigInteger, nullable=False),  # bytes
    sa.Column("lr", sa.Double, nullable=False),
    sa.Column("metrics", sa.JSON, nullable=False),
)
decision_table = sa.Table(
    "tuner_decision",
    ours,
    sa.Column("decision_id", sa.Integer, primary_key=True),
    sa.Column("study_id", sa.Integer, nullable=False, index=True),
    sa.Column("at", sa.Double, nullable=False),  # by the database's clock
    sa.Column("worker", sa.String(64), nullable=False),
    sa.Column("trial_id", sa.Integer, index=True),
    sa.Column("action", sa.String(16), nullable=False),
    sa.Column("epoch", sa.Integer, nullable=False),  # at which it was taken; 0 for "start"
    sa.Column("reason", sa.JSON, nullable=False),
)


def create(engine: Engine) -> None:
    """Create our tables, or migrate those of an earlier version. Call under the creation lock."""
    add_missing(engine)
    made_by = {"schema": str(SCHEMA), "made_by": f"tuner {version('tuner')}"}
    with engine.begin() as db:
        if db.scalar(sa.select(meta_table.c.value).where(meta_table.c.name == "schema")) != str(SCHEMA):
            db.execute(sa.delete(meta_table).where(meta_table.c.name.in_(made_by)))
            db.execute(sa.insert(meta_table), [{"name": name, "value": value} for name, value in made_by.items()])


def add_missing(engine: Engine) -> None:
    """Add tables and columns that an earlier version did not have, without which this one cannot read.

    That version goes on working with them, as the number of its schema stays. Call under the creation lock.
    """
    before = set(sa.inspect(engine).get_table_names())
    made_by = schema(engine)
    is_earlier = study_table.name in before and (made_by is None or made_by[0] < SCHEMA)
    ours.create_all(engine)
    with engine.begin() as db:
        for table in ours.sorted_tables:
            if table.name in before:
                add_columns(db, table)
        if is_earlier:
            count_earlier_hours(db)


def add_columns(db: Connection, table: sa.Table) -> None:
    """Add the columns that an earlier schema did not have; all of them have defaults."""
    there = {column["name"]: column for column in sa.inspect(db).get_columns(table.name)}
    for column in table.columns:
        if column.name not in there:
            spec = sa.schema.CreateColumn(column).compile(dialect=db.dialect)
            db.execute(sa.text(f"ALTER TABLE {table.name} ADD COLUMN {spec}"))
    for column in table.columns:
        if column.nullable and not there.get(column.name, {"nullable": True})["nullable"]:
            relax(db, table, column)


def relax(db: Connection, table: sa.Table, column: sa.Column[Any]) -> None:
    """Allow NULL in a column that was NOT NULL in an earlier schema. SQLite must recreate the table for that."""
    if db.dialect.name == "postgresql":
        db.execute(sa.text(f"ALTER TABLE {table.name} ALTER COLUMN {column.name} DROP NOT NULL"))
    elif db.dialect.name == "mysql":
        db.execute(sa.text(f"ALTER TABLE {table.name} MODIFY {column.name} DOUBLE NULL"))
    else:
        names = ", ".join(c.name for c in table.columns)
        db.execute(sa.text(f"ALTER TABLE {table.name} RENAME TO {table.name}_before"))
        table.create(db)
        db.execute(sa.text(f"INSERT INTO {table.name} ({names}) SELECT {names} FROM {table.name}_before"))
        db.execute(sa.text(f"DROP TABLE {table.name}_before"))


def count_earlier_hours(db: Connection) -> None:
    """Count the hours of studies whose clock never ran, by their trials: earlier, it ran only for limited hours.

    They are the time in which any trial was trained. A trial that was put back or paused rested meanwhile, so it
    counts as long as its epochs took.
    """
    is_new = study_table.c.clock_at.is_(None) & (study_table.c.clock_seconds == 0)
    sums = sa.select(epoch_table.c.trial_id, sa.func.sum(epoch_table.c.seconds)).group_by(epoch_table.c.trial_id)
    trained: dict[int, float] = {trial_id: float(seconds) for trial_id, seconds in db.execute(sums)}
    query = (
        sa.select(trials, claim_table.c.attempt, claim_table.c.paused_at)
        .join(study_table, study_table.c.study_id == trials.c.study_id)
        .outerjoin(claim_table, claim_table.c.trial_id == trials.c.trial_id)
        .where(is_new, trials.c.datetime_start.is_not(None))
    )
    spans: dict[int, list[tuple[float, float]]] = {}
    for row in db.execute(query):
        begin, seconds = to_seconds(row.datetime_start), trained.get(row.trial_id, 0.0)
        if row.datetime_complete is not None:
            whole = to_seconds(row.datetime_complete) - begin
            has_rested = row.paused_at is not None or (row.attempt or 0) > 1
            seconds = min(seconds, whole) if has_rested else whole
        spans.setdefault(row.study_id, []).append((begin, begin + seconds))
    for study_id, some in spans.items():
        same = study_table.c.study_id == study_id
        db.execute(sa.update(study_table).where(same).values(clock_seconds=join_seconds(some)))


def to_seconds(at: datetime) -> float:
    """Return a time of Optuna's tables, which is in UTC, as seconds."""
    return at.replace(tzinfo=UTC).timestamp()


def join_seconds(spans: list[tuple[float, float]]) -> float:
    """Return the length of the time that any of the spans covers."""
    total, until = 0.0, float("-inf")
    for begin, end in sorted(spans):
        total += max(0.0, end - max(begin, until))
        until = max(until, end)
    return total


def refuse_newer(engine: Engine) -> None:
    """Raise StorageError if a later version created the tables, whose content this one may not understand."""
    found = schema(engine)
    if found is not None and found[0] > SCHEMA:
        raise StorageError(
            f"the database was set up by {found[1]} (schema {found[0]}); this is tuner {version('tuner')} "
            f"(schema {SCHEMA}). Nothing was changed. Install that version, or use another database."
        )


def refuse_other_versions(engine: Engine) -> None:
    """Raise StorageError if the tables are of a later or an earlier version; call before reading."""
    refuse_newer(engine)
    if schema(engine) is None and sa.inspect(engine).has_table(study_table.name):
        command = write_command("init", storage=database.storage_to_type(engine.url))
        raise StorageError(
            f"the database was set up by an earlier tuner. Bring it up to date; nothing in it is lost: {command}"
        )


def open_to_read(url: str) -> Engine:
    """Return an engine to read an existing database from; StorageError as `refuse_other_versions`.

    Tables of an earlier version get the columns that reading needs.
    """
    engine = database.connect(url)
    with database.convert_errors(url):
        refuse_other_versions(engine)
        found = schema(engine)
        if found is not None and (found[0] < SCHEMA or lacks_columns(engine)):
            with database.creation_lock(engine, url):
                add_missing(engine)
    return engine


def lacks_columns(engine: Engine) -> bool:
    """Return whether the table of workers was created before its newest columns, which have defaults."""
    there = {column["name"] for column in sa.inspect(engine).get_columns(worker_table.name)}
    return not there >= set(worker_table.columns.keys())


def schema(engine: Engine) -> tuple[int, str] | None:
    """Return the number of the schema and the version that created it; None if there is none."""
    if not sa.inspect(engine).has_table(meta_table.name):
        return None
    with engine.connect() as db:
        rows = {str(row.name): str(row.value) for row in db.execute(sa.select(meta_table))}
    return (int(rows["schema"]), rows.get("made_by", "another tuner")) if "schema" in rows else None


def clock(db: Connection) -> sa.ColumnElement[Any]:
    """Return an expression for the time in seconds by the database's clock, which all hosts share."""
    if db.dialect.name == "postgresql":
        return sa.extract("epoch", sa.func.clock_timestamp())
    if db.dialect.name == "sqlite":
        return (sa.func.julianday("now") - 2440587.5) * 86400.0
    return sa.func.unix_timestamp(sa.func.sysdate(sa.literal_column("6")))
