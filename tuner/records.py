"""Our own tables, beside Optuna's: every epoch's metrics, the budget's slots, the workers.

    tuner_study    the budget of a study, and how many workers ever joined it
    tuner_claim    one row a trial: its slot in the budget, and the worker that owns it now
    tuner_worker   one row a living worker: where it runs, what it does, how far it is
    tuner_epoch    one row an epoch of a trial: metrics, seconds, images a second, memory

A trial belongs to the worker its claim names. A claim without a worker is a trial put back, to be
taken up again with its own number, parameters and checkpoint.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from tuner.database import retried
from tuner.errors import TrialLost

tables = sa.MetaData()
study_table = sa.Table(
    "tuner_study",
    tables,
    sa.Column("study_id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("num_trials", sa.Integer),
    sa.Column("num_workers", sa.Integer, nullable=False, default=0),
)
claim_table = sa.Table(
    "tuner_claim",
    tables,
    sa.Column("claim_id", sa.Integer, primary_key=True),
    sa.Column("study_id", sa.Integer, nullable=False, index=True),
    sa.Column("slot", sa.Integer, nullable=False),
    sa.Column("trial_id", sa.Integer, unique=True),
    sa.Column("worker", sa.String(64), index=True),
    sa.Column("deaths", sa.Integer, nullable=False, default=0),
    sa.UniqueConstraint("study_id", "slot"),
)
worker_table = sa.Table(
    "tuner_worker",
    tables,
    sa.Column("worker", sa.String(64), primary_key=True),
    sa.Column("study_id", sa.Integer, nullable=False, index=True),
    sa.Column("host", sa.String(255), nullable=False),
    sa.Column("pid", sa.Integer, nullable=False),
    sa.Column("born", sa.Float, nullable=False),  # when the process started, to tell it from a later one
    sa.Column("device", sa.String(255), nullable=False),
    sa.Column("beats", sa.Integer, nullable=False, default=0),
    sa.Column("state", sa.String(64), nullable=False, default="starting"),
    sa.Column("number", sa.Integer),  # of its trial
    sa.Column("step", sa.Integer, nullable=False, default=0),
    sa.Column("steps", sa.Integer, nullable=False, default=0),
    sa.Column("value", sa.Float),
    sa.Column("params", sa.JSON),
)
epoch_table = sa.Table(
    "tuner_epoch",
    tables,
    sa.Column("trial_id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("epoch", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("value", sa.Float, nullable=False),  # the goal's metric
    sa.Column("seconds", sa.Float, nullable=False),
    sa.Column("images_per_second", sa.Float, nullable=False),
    sa.Column("peak_memory", sa.BigInteger, nullable=False),  # bytes
    sa.Column("lr", sa.Float, nullable=False),
    sa.Column("metrics", sa.JSON, nullable=False),
)
# Optuna's own, as far as we look at them
trials = sa.table("trials", sa.column("trial_id"), sa.column("study_id"), sa.column("number"), sa.column("state"))

MOST_DEATHS = 3  # workers that may die on a trial before it is set aside


def create(engine: Engine) -> None:
    tables.create_all(engine)


@retried
def open_study(engine: Engine, study_id: int, is_new: bool) -> None:
    """Make sure the study has a row. A new study starts clean, even where SQLite reuses an old number."""
    with engine.begin() as db:
        if is_new:
            for table in (study_table, claim_table, worker_table):
                db.execute(sa.delete(table).where(table.c.study_id == study_id))
        known = db.scalar(sa.select(study_table.c.study_id).where(study_table.c.study_id == study_id))
        if known is None:
            db.execute(sa.insert(study_table).values(study_id=study_id, num_workers=0))


def budget(engine: Engine, study_id: int) -> int | None:
    """How many trials the study may have in all; None is no limit."""
    with engine.connect() as db:
        return db.scalar(sa.select(study_table.c.num_trials).where(study_table.c.study_id == study_id))


@retried
def set_budget(engine: Engine, study_id: int, num_trials: int) -> None:
    with engine.begin() as db:
        db.execute(sa.update(study_table).where(study_table.c.study_id == study_id).values(num_trials=num_trials))


def claimed(db: Connection, study_id: int) -> int:
    return db.scalar(sa.select(sa.func.count()).where(claim_table.c.study_id == study_id)) or 0


def is_spent(engine: Engine, study_id: int) -> bool:
    """Whether no further trial may begin."""
    most = budget(engine, study_id)
    with engine.connect() as db:
        return most is not None and claimed(db, study_id) >= most


@retried
def take_put_back(engine: Engine, study_id: int, worker: str) -> int | None:
    """Own a trial that was put back; its id, or None when there is none."""
    with engine.begin() as db:
        waiting = db.scalars(put_back(study_id).limit(5)).all()
        for claim_id in waiting:
            mine = sa.update(claim_table).where(claim_table.c.claim_id == claim_id, claim_table.c.worker.is_(None))
            if db.execute(mine.values(worker=worker)).rowcount:
                return db.scalar(sa.select(claim_table.c.trial_id).where(claim_table.c.claim_id == claim_id))
    return None


def put_back(study_id: int) -> sa.Select[tuple[int]]:
    """Claims of trials that wait to be taken up again."""
    return (
        sa.select(claim_table.c.claim_id)
        .join(trials, trials.c.trial_id == claim_table.c.trial_id)
        .where(claim_table.c.study_id == study_id, claim_table.c.worker.is_(None), trials.c.state == "WAITING")
        .order_by(claim_table.c.claim_id)
    )


@retried
def claim_slot(engine: Engine, study_id: int, worker: str) -> int | None:
    """Take one more trial from the budget, exactly: the claim's id, or None when it is spent.

    Two workers that see the same count take the same slot number; the unique key lets one of them in,
    and the other looks again.
    """
    with engine.begin() as db:
        most = db.scalar(sa.select(study_table.c.num_trials).where(study_table.c.study_id == study_id))
        if most is not None and claimed(db, study_id) >= most:
            return None
        last = db.scalar(sa.select(sa.func.max(claim_table.c.slot)).where(claim_table.c.study_id == study_id))
        row = db.execute(
            sa.insert(claim_table).values(study_id=study_id, slot=(last or 0) + 1, worker=worker, deaths=0)
        )
        return int(row.inserted_primary_key[0])  # type: ignore[index]


def bind(engine: Engine, claim_id: int, trial_id: int) -> bool:
    """Give a slot its trial; False when another worker bound that trial first."""
    try:
        with engine.begin() as db:
            db.execute(sa.delete(epoch_table).where(epoch_table.c.trial_id == trial_id))
            db.execute(sa.update(claim_table).where(claim_table.c.claim_id == claim_id).values(trial_id=trial_id))
        return True
    except sa.exc.IntegrityError:
        return False


def bound(engine: Engine, trial_ids: list[int]) -> set[int]:
    """Which of these trials have a slot already."""
    with engine.connect() as db:
        query = sa.select(claim_table.c.trial_id).where(claim_table.c.trial_id.in_(trial_ids))
        return set(db.scalars(query))


def check_owner(db: Connection, trial_id: int, worker: str) -> None:
    """TrialLost when the trial was given to another worker meanwhile."""
    query = sa.select(claim_table.c.worker).where(claim_table.c.trial_id == trial_id).with_for_update()
    if db.scalar(query) != worker:
        raise TrialLost(f"trial {trial_id} belongs to another worker now")


def still_mine(engine: Engine, trial_id: int, worker: str) -> None:
    with engine.begin() as db:
        check_owner(db, trial_id, worker)


@retried
def write_epoch(engine: Engine, trial_id: int, worker: str, row: dict[str, object]) -> None:
    """Record one epoch; the same epoch trained again after a crash replaces its row."""
    with engine.begin() as db:
        check_owner(db, trial_id, worker)
        same = (epoch_table.c.trial_id == trial_id) & (epoch_table.c.epoch == row["epoch"])
        db.execute(sa.delete(epoch_table).where(same))
        db.execute(sa.insert(epoch_table).values(trial_id=trial_id, **row))


@retried
def enter(engine: Engine, study_id: int, row: dict[str, object]) -> int:
    """Write a worker's row; answers how many workers had joined the study before it."""
    with engine.begin() as db:
        db.execute(
            sa.update(study_table)
            .where(study_table.c.study_id == study_id)
            .values(num_workers=study_table.c.num_workers + 1)
        )
        db.execute(sa.insert(worker_table).values(study_id=study_id, beats=0, **row))
        query = sa.select(study_table.c.num_workers).where(study_table.c.study_id == study_id)
        return int(db.scalar(query) or 1) - 1


@retried
def beat(engine: Engine, worker: str, row: dict[str, object]) -> None:
    """Say that a worker lives, and what it does."""
    with engine.begin() as db:
        db.execute(
            sa.update(worker_table)
            .where(worker_table.c.worker == worker)
            .values(beats=worker_table.c.beats + 1, **row)
        )


@retried
def release(engine: Engine, worker: str, died: bool) -> list[int]:
    """Remove a worker and put its trial back, all in one transaction; the ids of trials put back.

    Optuna's own row is set back to WAITING here and not through its storage, because the claim and the
    state must change together: nobody may see a free claim of a running trial.
    """
    with engine.begin() as db:
        held = [claim_table.c.worker == worker, claim_table.c.study_id == trials.c.study_id]
        open_trials = (
            sa.select(trials.c.trial_id)
            .join(claim_table, claim_table.c.trial_id == trials.c.trial_id)
            .where(*held, trials.c.state.in_(["RUNNING", "WAITING"]))
        )
        ids = list(db.scalars(open_trials))
        db.execute(
            sa.update(trials)
            .where(trials.c.trial_id.in_(ids), trials.c.state == "RUNNING")
            .values(state="WAITING")
        )
        db.execute(
            sa.update(claim_table)
            .where(claim_table.c.trial_id.in_(ids), claim_table.c.worker == worker)
            .values(worker=None, deaths=claim_table.c.deaths + int(died))
        )
        db.execute(sa.delete(claim_table).where(claim_table.c.worker == worker, claim_table.c.trial_id.is_(None)))
        db.execute(sa.delete(worker_table).where(worker_table.c.worker == worker))
        return ids


def deaths(engine: Engine, trial_id: int) -> int:
    """How many workers died while they trained this trial."""
    with engine.connect() as db:
        return db.scalar(sa.select(claim_table.c.deaths).where(claim_table.c.trial_id == trial_id)) or 0
