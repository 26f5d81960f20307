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
    sa.Column("value", sa.Float),  # the goal's metric; NULL for an epoch without validation
    sa.Column("seconds", sa.Float, nullable=False),
    sa.Column("images_per_second", sa.Float, nullable=False),
    sa.Column("peak_memory", sa.BigInteger, nullable=False),  # bytes
    sa.Column("lr", sa.Float, nullable=False),
    sa.Column("metrics", sa.JSON, nullable=False),
)
# Optuna's own, as far as we look at them; PostgreSQL keeps states in a type of their own
STATES = sa.Enum("RUNNING", "WAITING", "COMPLETE", "PRUNED", "FAIL", name="trialstate")
studies = sa.table("studies", sa.column("study_id"), sa.column("study_name"))
trials = sa.table(
    "trials",
    sa.column("trial_id"),
    sa.column("study_id"),
    sa.column("number"),
    sa.column("state", STATES),
    sa.column("datetime_start"),
    sa.column("datetime_complete"),
)

MOST_DEATHS = 3  # workers that may die on a trial before it is set aside


def create(engine: Engine) -> None:
    tables.create_all(engine)


@retried
def open_study(engine: Engine, study_id: int, is_new: bool) -> None:
    """Make sure the study has a row. A new study starts clean, even where SQLite reuses an old number.

    What studies that were deleted elsewhere left behind goes as well.
    """
    with engine.begin() as db:
        if is_new:
            for table in (study_table, claim_table, worker_table):
                db.execute(sa.delete(table).where(table.c.study_id == study_id))
        for table in (study_table, claim_table, worker_table):
            db.execute(sa.delete(table).where(table.c.study_id.not_in(sa.select(studies.c.study_id))))
        db.execute(sa.delete(epoch_table).where(epoch_table.c.trial_id.not_in(sa.select(trials.c.trial_id))))
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


def exists(engine: Engine, study_id: int, name: str) -> bool:
    """Whether the study is still there: the dashboard can delete it, and SQLite gives its number to another."""
    query = sa.select(studies.c.study_id).where(studies.c.study_id == study_id, studies.c.study_name == name)
    with engine.connect() as db:
        return db.scalar(query) is not None


def lock(db: Connection, study_id: int) -> None:
    """One worker at a time from here to the end of the transaction, on every kind of database."""
    same = study_table.c.study_id == study_id
    db.execute(sa.update(study_table).where(same).values(num_workers=study_table.c.num_workers))


def claimed(db: Connection, study_id: int) -> int:
    return db.scalar(sa.select(sa.func.count()).where(claim_table.c.study_id == study_id)) or 0


def is_done(engine: Engine, study_id: int) -> bool:
    """Whether there is nothing to begin and nothing to take up again."""
    most = budget(engine, study_id)
    with engine.connect() as db:
        spent = most is not None and claimed(db, study_id) >= most
        return spent and db.scalar(put_back(study_id).limit(1)) is None


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

    The study's row is locked first, so that no two workers see the same count.
    """
    with engine.begin() as db:
        lock(db, study_id)
        most = db.scalar(sa.select(study_table.c.num_trials).where(study_table.c.study_id == study_id))
        if most is not None and claimed(db, study_id) >= most:
            return None
        last = db.scalar(sa.select(sa.func.max(claim_table.c.slot)).where(claim_table.c.study_id == study_id))
        row = db.execute(
            sa.insert(claim_table).values(study_id=study_id, slot=(last or 0) + 1, worker=worker, deaths=0)
        )
        return int(row.inserted_primary_key[0])  # type: ignore[index]


@retried
def give_back(engine: Engine, claim_id: int) -> None:
    """Return a slot that found no trial."""
    with engine.begin() as db:
        db.execute(
            sa.delete(claim_table).where(claim_table.c.claim_id == claim_id, claim_table.c.trial_id.is_(None))
        )


@retried
def bind(engine: Engine, claim_id: int, trial_id: int) -> bool:
    """Give a slot its trial; False when another worker bound that trial first.

    What stands under the same id for another study is of a study that was deleted: SQLite gives the ids
    of deleted trials to new ones.
    """
    study_id = sa.select(claim_table.c.study_id).where(claim_table.c.claim_id == claim_id).scalar_subquery()
    try:
        with engine.begin() as db:
            stale = (claim_table.c.trial_id == trial_id) & (claim_table.c.study_id != study_id)
            db.execute(sa.delete(claim_table).where(stale))
            db.execute(sa.delete(epoch_table).where(epoch_table.c.trial_id == trial_id))
            mine = sa.update(claim_table).where(claim_table.c.claim_id == claim_id)
            if not db.execute(mine.values(trial_id=trial_id)).rowcount:
                raise TrialLost("this worker was given up for dead before its trial began")
        return True
    except sa.exc.IntegrityError:
        return False


def bound(engine: Engine, study_id: int, trial_ids: list[int]) -> set[int]:
    """Which of these trials of a study have a slot already."""
    with engine.connect() as db:
        query = sa.select(claim_table.c.trial_id).where(
            claim_table.c.study_id == study_id, claim_table.c.trial_id.in_(trial_ids)
        )
        return set(db.scalars(query))


def check_owner(db: Connection, trial_id: int, worker: str) -> None:
    """TrialLost when the trial was given to another worker meanwhile; else it stays ours until the commit."""
    mine = (claim_table.c.trial_id == trial_id) & (claim_table.c.worker == worker)
    if not db.execute(sa.update(claim_table).where(mine).values(worker=worker)).rowcount:
        raise TrialLost("it belongs to another worker now")


@retried
def still_mine(engine: Engine, trial_id: int, worker: str) -> None:
    with engine.begin() as db:
        check_owner(db, trial_id, worker)


@retried
def is_lost(engine: Engine, trial_id: int, worker: str) -> str:
    """Why a trial is this worker's no more: it was deleted, ended or given away by somebody else; '' if not."""
    query = (
        sa.select(trials.c.state, claim_table.c.worker)
        .join(claim_table, claim_table.c.trial_id == trials.c.trial_id)
        .where(trials.c.trial_id == trial_id)
    )
    with engine.connect() as db:
        row = db.execute(query).first()
    if row is None:
        return "it was deleted from the database"
    if row.worker != worker:
        return "it belongs to another worker now"
    return "" if row.state == "RUNNING" else f"somebody else set it to {row.state}"


@retried
def write_epoch(engine: Engine, trial_id: int, worker: str, row: dict[str, object]) -> None:
    """Record one epoch; the same epoch trained again after a crash replaces its row.

    A further epoch forgives earlier deaths: a long trial on a host that is often shut down is not to blame.
    """
    with engine.begin() as db:
        check_owner(db, trial_id, worker)
        same = (epoch_table.c.trial_id == trial_id) & (epoch_table.c.epoch == row["epoch"])
        if not db.execute(sa.delete(epoch_table).where(same)).rowcount:
            db.execute(sa.update(claim_table).where(claim_table.c.trial_id == trial_id).values(deaths=0))
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


def is_known(engine: Engine, worker: str) -> bool:
    """Whether a worker's row is still there; without it, nobody would notice the worker's death."""
    with engine.connect() as db:
        return db.scalar(sa.select(worker_table.c.worker).where(worker_table.c.worker == worker)) is not None


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
    state must change together: nobody may see a free claim of a running trial. The worker's row goes
    first: of two hosts that release the same worker, the second waits there and then finds nothing held.
    """
    with engine.begin() as db:
        db.execute(sa.delete(worker_table).where(worker_table.c.worker == worker))
        held = [claim_table.c.worker == worker, claim_table.c.study_id == trials.c.study_id]
        open_trials = (
            sa.select(trials.c.trial_id)
            .join(claim_table, claim_table.c.trial_id == trials.c.trial_id)
            .where(*held, trials.c.state.in_(["RUNNING", "WAITING"]))
            .with_for_update(of=claim_table)
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
        return ids


@retried
def forget_deleted(engine: Engine, worker: str) -> None:
    """Free the slots of a worker's trials that were deleted: their ids may come back with other trials."""
    gone = claim_table.c.trial_id.not_in(sa.select(trials.c.trial_id))
    with engine.connect() as db:
        ids = list(db.scalars(sa.select(claim_table.c.claim_id).where(claim_table.c.worker == worker, gone)))
        if ids:
            db.execute(sa.delete(claim_table).where(claim_table.c.claim_id.in_(ids)))
            db.commit()


@retried
def mend(engine: Engine, study_id: int) -> None:
    """Put back what runs without an owner: a worker given up for dead set its trial running just after."""
    free = sa.select(claim_table.c.trial_id).where(
        claim_table.c.study_id == study_id, claim_table.c.worker.is_(None)
    )
    running = (trials.c.state == "RUNNING") & trials.c.trial_id.in_(free)
    with engine.connect() as db:
        if db.scalar(sa.select(trials.c.trial_id).where(running).limit(1)) is None:
            return
        db.execute(sa.update(trials).where(running).values(state="WAITING"))
        db.commit()


def owners_without_row(engine: Engine, study_id: int) -> list[str]:
    """Workers that own open trials or slots and are not listed: given up for dead, and yet they went on."""
    query = (
        sa.select(claim_table.c.worker)
        .distinct()
        .join(trials, trials.c.trial_id == claim_table.c.trial_id, isouter=True)
        .where(
            claim_table.c.study_id == study_id,
            claim_table.c.worker.is_not(None),
            claim_table.c.worker.not_in(sa.select(worker_table.c.worker)),
            claim_table.c.trial_id.is_(None) | trials.c.state.in_(["RUNNING", "WAITING"]),
        )
    )
    with engine.connect() as db:
        return list(db.scalars(query))


def deaths(engine: Engine, trial_id: int) -> int:
    """How many workers died while they trained this trial."""
    with engine.connect() as db:
        return db.scalar(sa.select(claim_table.c.deaths).where(claim_table.c.trial_id == trial_id)) or 0
