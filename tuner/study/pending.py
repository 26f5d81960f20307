"""What a worker writes about its trial: gathered on a page, and written in one transaction.

Optuna's own storage makes a transaction of each parameter, attribute and value. Here an epoch is one.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import sqlalchemy as sa
from optuna.trial import FrozenTrial
from sqlalchemy.engine import Connection, Engine

from tuner.errors import TrialLost
from tuner.study.claims import check_owner, utc_now
from tuner.study.tables import (
    claim_table,
    epoch_table,
    study_system_attrs,
    trial_attrs,
    trial_params,
    trial_steps,
    trial_system_attrs,
    trial_values,
    trials,
)

State = Literal["COMPLETE", "PRUNED", "FAIL"]


@dataclass
class PendingWrites:
    """Everything not written yet. Texts of attributes and distributions are JSON."""

    params: dict[str, tuple[float, str]] = field(default_factory=dict)
    attrs: dict[str, str] = field(default_factory=dict)
    system_attrs: dict[str, str] = field(default_factory=dict)
    values: dict[int, float] = field(default_factory=dict)  # the goal's metric, by epoch
    epochs: dict[int, dict[str, Any]] = field(default_factory=dict)
    dashboard_notes: dict[str, str] = field(
        default_factory=dict
    )  # the dashboard keeps a trial's note on the study
    end: tuple[State, float | None] | None = None

    def __bool__(self) -> bool:
        return any(vars(self).values())

    def __or__(self, later: PendingWrites) -> PendingWrites:
        """This page with a later one written over it."""
        merged = {name: getattr(self, name) | getattr(later, name) for name in vars(self) if name != "end"}
        return PendingWrites(**merged, end=later.end or self.end)


@dataclass(frozen=True)
class TrialOwner:
    """Whose page it is: a worker that owns a trial of a study."""

    study_id: int
    trial_id: int
    worker: str


def write_pending(engine: Engine, author: TrialOwner, page: PendingWrites) -> None:
    """Write a page, all or nothing. TrialLost when the trial is somebody else's now.

    Rows are added without a look at what stands there. Where some do stand there (an epoch trained again; a
    commit whose answer was lost) everything is written once more over them.
    """
    try:
        with engine.begin() as db:
            write_rows(db, author, page, over=False)
    except sa.exc.IntegrityError:
        with engine.begin() as db:
            write_rows(db, author, page, over=True)


def write_rows(db: Connection, author: TrialOwner, page: PendingWrites, over: bool) -> None:
    try:
        # a further epoch forgives earlier deaths: a long trial on hosts that are often shut down is not to blame
        check_owner(db, author.trial_id, author.worker, **({"deaths": 0} if page.epochs else {}))
    except TrialLost:
        if page.end and has_ended(db, author, page.end[0]):
            return  # by this very page: only the answer was lost
        raise
    for table, rows in rows_by_table(page, author):
        if rows and over:
            keys = [key for key in KEYS if key in table.c and key in rows[0]]
            for row in rows:
                db.execute(sa.delete(table).where(*(table.c[key] == row[key] for key in keys)))
        if rows:
            db.execute(sa.insert(table), rows)
    if page.end:
        same = trials.c.trial_id == author.trial_id
        db.execute(sa.update(trials).where(same).values(state=page.end[0], datetime_complete=utc_now()))


KEYS = ("trial_id", "study_id", "key", "param_name", "step", "epoch", "objective")  # what tells rows apart


def has_ended(db: Connection, author: TrialOwner, state: str) -> bool:
    """Whether the trial ended in this state as this worker's."""
    query = sa.select(trials.c.trial_id).join(claim_table, claim_table.c.trial_id == trials.c.trial_id)
    query = query.where(trials.c.trial_id == author.trial_id, trials.c.state == state)
    return db.scalar(query.where(claim_table.c.worker == author.worker)) is not None


def rows_by_table(page: PendingWrites, author: TrialOwner) -> list[tuple[sa.Table, list[dict[str, Any]]]]:
    """The rows of a page, table by table."""
    trial, study = {"trial_id": author.trial_id}, {"study_id": author.study_id}
    params = [
        {**trial, "param_name": name, "param_value": value, "distribution_json": kind}
        for name, (value, kind) in page.params.items()
    ]
    return [
        (trial_params, params),
        (trial_attrs, attr_rows(page.attrs, trial)),
        (trial_system_attrs, attr_rows(page.system_attrs, trial)),
        (trial_steps, [{**trial, "step": step, **step_columns(value)} for step, value in page.values.items()]),
        (epoch_table, [{**trial, **without_non_finite(row)} for row in page.epochs.values()]),
        (study_system_attrs, attr_rows(page.dashboard_notes, study)),
        (trial_values, [{**trial, "objective": 0, **value_columns(page.end)}] if has_value(page.end) else []),
    ]


def without_non_finite(row: dict[str, Any]) -> dict[str, Any]:
    """What every database can hold: MySQL knows no infinity and no NaN, and SQLite makes NULL of it."""
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}


def attr_rows(found: dict[str, str], of: dict[str, int]) -> list[dict[str, Any]]:
    return [{**of, "key": key, "value_json": value} for key, value in found.items()]


def step_columns(value: float) -> dict[str, Any]:
    """An intermediate value as Optuna keeps it."""
    kind = "NAN" if math.isnan(value) else value_type(value)
    return {"intermediate_value": value if kind == "FINITE" else None, "intermediate_value_type": kind}


def has_value(end: tuple[State, float | None] | None) -> bool:
    return end is not None and end[1] is not None and not math.isnan(end[1])


def value_columns(end: tuple[State, float | None] | None) -> dict[str, Any]:
    """The value of a trial as Optuna keeps it."""
    assert end is not None and end[1] is not None
    kind = value_type(end[1])
    return {"value": end[1] if kind == "FINITE" else None, "value_type": kind}


def value_type(value: float) -> str:
    if math.isinf(value):
        return "INF_POS" if value > 0 else "INF_NEG"
    return "FINITE"


class ActiveTrial:
    """A trial in the hands of this worker: all of it in memory, and the page of what is not written yet."""

    def __init__(self, frozen: FrozenTrial, attempt: int, deaths: int, wanted: str) -> None:
        self.frozen, self.attempt, self.deaths = frozen, attempt, deaths
        self.pending = PendingWrites()
        self.dashboard_notes: dict[str, Any] = {}  # what the dashboard shows of it
        self.lock = threading.Lock()
        self.write_lock = threading.Lock()  # held from taking a page until it is written, or put back
        self.wanted = wanted  # "stop": a person wants it ended
        self.is_choosing = True  # its parameters may still be drawn anew: they are not written yet
        self.on_written: Callable[[], None] = lambda: None  # what to do when its end is written
        self.lost = ""  # why it is this worker's no more
        self.unjudged: list[int] = []  # epochs that the pruner has not seen
        self.prune = "pruned_at" in frozen.user_attrs  # it answers once: a restart must still know
        self.recorded: set[int] = set()  # epochs that stood in the database when it was taken

    @property
    def id(self) -> int:
        return self.frozen._trial_id

    @property
    def number(self) -> int:
        return self.frozen.number

    def take_pending(self) -> PendingWrites:
        """What is to be written now."""
        with self.lock:
            page, self.pending = self.pending, PendingWrites()
            return page

    def restore_pending(self, page: PendingWrites) -> None:
        """It could not be written."""
        with self.lock:
            self.pending = page | self.pending
