"""Pending writes: what a worker has to write about its trial is collected and written in one transaction.

Optuna's own storage uses a transaction for each parameter, attribute and value; here there is one for each epoch.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import sqlalchemy as sa
from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.trial import FrozenTrial
from sqlalchemy.engine import Connection, Engine

from tuner.errors import TrialLost
from tuner.paths import format_json
from tuner.study import optuna_compat
from tuner.study.claims import TrialRequest, check_owner, read_owner, utc_now
from tuner.study.optuna_tables import (
    study_system_attrs,
    trial_attrs,
    trial_params,
    trial_steps,
    trial_system_attrs,
    trial_values,
    trials,
)
from tuner.study.tables import epoch_table

EndState = Literal["COMPLETE", "PRUNED", "FAIL"]


@dataclass
class PendingWrites:
    """What is not written yet. Attributes and distributions are JSON texts."""

    params: dict[str, tuple[float, str]] = field(default_factory=dict)
    attrs: dict[str, str] = field(default_factory=dict)
    system_attrs: dict[str, str] = field(default_factory=dict)
    values: dict[int, float] = field(default_factory=dict)  # the goal's metric, by epoch
    epochs: dict[int, dict[str, Any]] = field(default_factory=dict)
    dashboard_notes: dict[str, str] = field(default_factory=dict)  # stored on the study
    end: tuple[EndState, float | None] | None = None

    def __bool__(self) -> bool:
        return any(vars(self).values())

    def __or__(self, later: PendingWrites) -> PendingWrites:
        """Merge with later writes, which win."""
        merged = {name: getattr(self, name) | getattr(later, name) for name in vars(self) if name != "end"}
        return PendingWrites(**merged, end=later.end or self.end)


@dataclass(frozen=True)
class TrialOwner:
    """A trial of a study and the worker that owns it."""

    study_id: int
    trial_id: int
    worker: str


def write_pending(engine: Engine, owner: TrialOwner, writes: PendingWrites) -> None:
    """Write everything or nothing; raise TrialLost if the worker no longer owns the trial.

    Rows are inserted without reading first. If some exist (an epoch was trained again, or the answer to a commit
    was lost), everything is written again in their place.
    """
    try:
        with engine.begin() as db:
            write_rows(db, owner, writes, over=False)
    except sa.exc.IntegrityError:
        with engine.begin() as db:
            write_rows(db, owner, writes, over=True)


def write_rows(db: Connection, owner: TrialOwner, writes: PendingWrites, over: bool) -> None:
    try:
        # a new epoch resets the deaths: a long trial on hosts that are often shut down is not to blame for them
        check_owner(db, owner.trial_id, owner.worker, **({"deaths": 0} if writes.epochs else {}))
    except TrialLost:
        found = read_owner(db, owner.trial_id)
        if writes.end and found and (found.worker, found.state) == (owner.worker, writes.end[0]):
            return  # by these writes: only the answer to the commit was lost
        raise
    for table, rows in rows_by_table(writes, owner):
        if rows and over:
            keys = [key for key in KEYS if key in table.c and key in rows[0]]
            for row in rows:
                db.execute(sa.delete(table).where(*(table.c[key] == row[key] for key in keys)))
        if rows:
            db.execute(sa.insert(table), rows)
    if writes.end:
        same = trials.c.trial_id == owner.trial_id
        db.execute(sa.update(trials).where(same).values(state=writes.end[0], datetime_complete=utc_now()))


KEYS = ("trial_id", "study_id", "key", "param_name", "step", "epoch", "objective")  # which identify a row


def rows_by_table(writes: PendingWrites, owner: TrialOwner) -> list[tuple[sa.Table, list[dict[str, Any]]]]:
    trial, study = {"trial_id": owner.trial_id}, {"study_id": owner.study_id}
    params = [
        {**trial, "param_name": name, "param_value": value, "distribution_json": kind}
        for name, (value, kind) in writes.params.items()
    ]
    return [
        (trial_params, params),
        (trial_attrs, attr_rows(writes.attrs, trial)),
        (trial_system_attrs, attr_rows(writes.system_attrs, trial)),
        (trial_steps, [{**trial, "step": step, **step_columns(value)} for step, value in writes.values.items()]),
        (epoch_table, [{**trial, **without_non_finite(row)} for row in writes.epochs.values()]),
        (study_system_attrs, attr_rows(writes.dashboard_notes, study)),
        (trial_values, value_rows(writes.end, trial)),
    ]


def without_non_finite(row: dict[str, Any]) -> dict[str, Any]:
    """Replace NaN and infinity by None: MySQL cannot store them, and SQLite stores NaN as NULL."""
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}


def attr_rows(found: dict[str, str], of: dict[str, int]) -> list[dict[str, Any]]:
    return [{**of, "key": key, "value_json": value} for key, value in found.items()]


def step_columns(value: float) -> dict[str, Any]:
    """Return an intermediate value as Optuna stores it."""
    kind = "NAN" if math.isnan(value) else value_type(value)
    return {"intermediate_value": value if kind == "FINITE" else None, "intermediate_value_type": kind}


def value_rows(end: tuple[EndState, float | None] | None, of: dict[str, int]) -> list[dict[str, Any]]:
    """Return the value of a trial as Optuna stores it; no row if the trial has not ended or has no value."""
    _, value = end or (None, None)
    if value is None or math.isnan(value):
        return []
    kind = value_type(value)
    return [{**of, "objective": 0, "value": value if kind == "FINITE" else None, "value_type": kind}]


def value_type(value: float) -> str:
    if math.isinf(value):
        return "INF_POS" if value > 0 else "INF_NEG"
    return "FINITE"


class ActiveTrial:
    """The trial that this worker trains: all of it in memory, and its pending writes."""

    def __init__(self, frozen: FrozenTrial, attempt: int, deaths: int, wanted: TrialRequest) -> None:
        self.frozen, self.attempt, self.deaths = frozen, attempt, deaths
        self.pending = PendingWrites()
        self.dashboard_notes: dict[str, Any] = {}  # that the dashboard shows
        self.lock = threading.Lock()
        self.write_lock = threading.Lock()  # held from `take_pending` until the writes are committed or restored
        self.wanted: TrialRequest = wanted
        self.is_choosing = True  # its parameters may be drawn again, so they are not written yet
        self.on_written: Callable[[], None] = lambda: None  # called when its end is written
        self.lost = ""  # why this worker no longer owns it
        self.unjudged: list[int] = []  # epochs that the pruner has not seen
        self.prune = "pruned_at" in frozen.user_attrs  # the pruner decides once; a restarted worker must know
        self.recorded: set[int] = set()  # epochs in the database when it was claimed

    @property
    def id(self) -> int:
        return optuna_compat.trial_id(self.frozen)

    @property
    def number(self) -> int:
        return self.frozen.number

    def set_param(self, name: str, internal_value: float, distribution: BaseDistribution) -> None:
        with self.lock:
            self.frozen.params[name] = distribution.to_external_repr(internal_value)
            self.frozen.distributions[name] = distribution
            self.pending.params[name] = internal_value, distribution_to_json(distribution)

    def forget_params(self) -> None:
        """Remove all parameters; only while none is written yet."""
        assert self.is_choosing
        with self.lock:
            self.frozen.params.clear()
            self.frozen.distributions.clear()
            self.pending.params.clear()

    def set_intermediate_value(self, step: int, value: float) -> None:
        with self.lock:
            self.frozen.intermediate_values[step] = value
            self.pending.values[step] = value

    def set_user_attr(self, key: str, value: Any) -> None:
        with self.lock:
            self.frozen.user_attrs[key] = value
            self.pending.attrs[key] = format_json(value)

    def set_system_attr(self, key: str, value: Any) -> None:
        with self.lock:
            self.frozen.system_attrs[key] = value
            if not key.startswith("tpe:relative_params"):  # for other workers; the parameters follow in a moment
                self.pending.system_attrs[key] = format_json(value)

    def set_dashboard_note(self, key: str, value: Any) -> None:
        """Set a system attribute of the study: written in the trial's transaction, not in two of its own."""
        with self.lock:
            self.dashboard_notes[key] = value
            self.pending.dashboard_notes[key] = format_json(value)

    def take_pending(self) -> PendingWrites:
        """Return the pending writes and start collecting new ones."""
        with self.lock:
            writes, self.pending = self.pending, PendingWrites()
            return writes

    def restore_pending(self, writes: PendingWrites) -> None:
        """Put back writes that could not be written."""
        with self.lock:
            self.pending = writes | self.pending
