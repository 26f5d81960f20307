"""Pending writes: what a worker has to write about its trial is collected and written in one transaction.

Optuna's own storage uses a transaction for each parameter, attribute and value; here there is one for each epoch.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import sqlalchemy as sa
from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.trial import FrozenTrial
from sqlalchemy.engine import Connection, Engine

from tuner.errors import TrialLost
from tuner.paths import format_json, replace_non_finite
from tuner.study import optuna_compat
from tuner.study.claims import TrialRequest, check_owner, lock_study, read_owner, utc_now
from tuner.study.decisions import Decision, write_decision
from tuner.study.epoch_grants import count_epochs
from tuner.study.optuna_tables import (
    study_system_attrs,
    trial_attrs,
    trial_params,
    trial_steps,
    trial_system_attrs,
    trial_values,
    trials,
)
from tuner.study.tables import decision_table, epoch_table

EndState = Literal["COMPLETE", "PRUNED", "FAIL"]


@dataclass
class PendingWrites:
    """What is not written yet. Attributes and distributions are JSON texts."""

    params: dict[str, tuple[float, str]] = field(default_factory=dict)
    attrs: dict[str, str] = field(default_factory=dict)
    system_attrs: dict[str, str] = field(default_factory=dict)
    values: dict[int, float] = field(default_factory=dict)  # the goal's metric by epoch; 0: within the first one
    epochs: dict[int, dict[str, Any]] = field(default_factory=dict)
    dashboard_notes: dict[str, str] = field(default_factory=dict)  # stored on the study
    judgements: dict[float, Decision] = field(default_factory=dict)  # by rung
    trained: int = 0  # epochs, for the budget of epochs
    end: tuple[EndState, float | None] | None = None
    paused_at: int | None = None  # the epoch where a trial rests that ends as PRUNED for now
    kept_bytes: int = 0  # of its files
    further: tuple[float, ...] = ()  # values of goals beside the first

    def add_judgement(self, judgement: Decision) -> None:
        self.judgements[judgement.reason.get("rung", judgement.epoch)] = judgement

    def __bool__(self) -> bool:
        return any(vars(self).values())

    def __or__(self, later: PendingWrites) -> PendingWrites:
        """Merge with later writes, which win."""
        dicts = [name for name, value in vars(self).items() if isinstance(value, dict)]
        merged = {name: getattr(self, name) | getattr(later, name) for name in dicts}
        return PendingWrites(
            **merged,
            trained=self.trained + later.trained,
            end=later.end or self.end,
            paused_at=self.paused_at if later.paused_at is None else later.paused_at,
            kept_bytes=later.kept_bytes or self.kept_bytes,
            further=later.further or self.further,
        )


@dataclass(frozen=True)
class TrialOwner:
    """A trial of a study and the worker that owns it."""

    study_id: int
    trial_id: int
    worker: str


def write_pending(
    engine: Engine, owner: TrialOwner, writes: PendingWrites, is_limited: bool = False
) -> int | None:
    """Write everything or nothing; raise TrialLost if the worker no longer owns the trial.

    Rows are inserted without reading first. If some exist (an epoch was trained again, or the answer to a commit
    was lost), everything is written again in their place. With `is_limited`, epochs are counted: return how many
    the worker may train now.
    """
    try:
        with engine.begin() as db:
            return write_rows(db, owner, writes, is_limited, over=False)
    except sa.exc.IntegrityError:
        with engine.begin() as db:
            return write_rows(db, owner, writes, is_limited, over=True)


def write_rows(
    db: Connection, owner: TrialOwner, writes: PendingWrites, is_limited: bool, over: bool
) -> int | None:
    is_limited = is_limited and bool(writes.trained or writes.end)
    if is_limited:
        lock_study(db, owner.study_id)  # locks are taken in the order study, claim
    try:
        # a new epoch resets the deaths: a long trial on hosts that are often shut down is not to blame for them
        changes = {"deaths": 0} if writes.epochs else {}
        if writes.paused_at is not None:
            changes |= {"paused_at": writes.paused_at, "kept_bytes": writes.kept_bytes, "deaths": 0}
        check_owner(db, owner.trial_id, owner.worker, **changes)
    except TrialLost:
        found = read_owner(db, owner.trial_id)
        if writes.end and found and (found.worker, found.state) == (owner.worker, writes.end[0]):
            return None  # by these writes: only the answer to the commit was lost
        raise
    insert_rows(db, owner, writes, over)
    if writes.end:
        same = trials.c.trial_id == owner.trial_id
        db.execute(sa.update(trials).where(same).values(state=writes.end[0], datetime_complete=utc_now()))
    if not is_limited:
        return None
    return count_epochs(db, owner.study_id, owner.trial_id, writes.trained, writes.end is not None)


def insert_rows(db: Connection, owner: TrialOwner, writes: PendingWrites, over: bool) -> None:
    """Insert the rows, `over` those that exist."""
    for table, rows in rows_by_table(writes, owner):
        if rows and over:
            keys = [key for key in KEYS if key in table.c and key in rows[0]]
            for row in rows:
                db.execute(sa.delete(table).where(*(table.c[key] == row[key] for key in keys)))
        if rows:
            db.execute(sa.insert(table), rows)
    for judgement in writes.judgements.values() if over else ():
        same = (decision_table.c.trial_id == owner.trial_id) & (decision_table.c.epoch == judgement.epoch)
        db.execute(sa.delete(decision_table).where(same, decision_table.c.action == judgement.action))
    for judgement in writes.judgements.values():
        write_decision(db, owner.study_id, owner.worker, owner.trial_id, judgement)


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
        # without NaN and infinity: MySQL cannot store them, and SQLite stores NaN as NULL
        (epoch_table, [{**trial, **replace_non_finite(row)} for row in writes.epochs.values()]),
        (study_system_attrs, attr_rows(writes.dashboard_notes, study)),
        (trial_values, value_rows(writes.end, trial, writes.further)),
    ]


def attr_rows(found: dict[str, str], of: dict[str, int]) -> list[dict[str, Any]]:
    return [{**of, "key": key, "value_json": value} for key, value in found.items()]


def step_columns(value: float) -> dict[str, Any]:
    """Return an intermediate value as Optuna stores it."""
    kind = "NAN" if math.isnan(value) else value_type(value)
    return {"intermediate_value": value if kind == "FINITE" else None, "intermediate_value_type": kind}


def value_rows(
    end: tuple[EndState, float | None] | None, of: dict[str, int], further: Sequence[float] = ()
) -> list[dict[str, Any]]:
    """Return the values of a trial as Optuna stores them; no row if the trial has not ended or has no value."""
    _, first = end or (None, None)
    if first is None or math.isnan(first):
        return []
    rows = []
    for objective, value in enumerate((first, *further)):
        kind = value_type(value)
        finite = value if kind == "FINITE" else None
        rows.append({**of, "objective": objective, "value": finite, "value_type": kind})
    return rows


def value_type(value: float) -> str:
    if math.isinf(value):
        return "INF_POS" if value > 0 else "INF_NEG"
    return "FINITE"


UNKNOWN_LENGTH = 2**31  # of a trial without a recipe


def read_length(trial: FrozenTrial) -> int:
    """Return the epochs of a trial's recipe, or UNKNOWN_LENGTH."""
    recipe = trial.user_attrs.get("recipe")
    epochs = recipe.get("epochs") if isinstance(recipe, dict) else None
    return epochs if isinstance(epochs, int) else UNKNOWN_LENGTH


SECONDS = "tuner_seconds:"  # before an epoch: a system attribute, the seconds of training until its end


def read_seconds(trial: FrozenTrial) -> dict[int, float]:
    """Return the seconds of training until the end of each epoch, where they are counted."""
    found = trial.system_attrs
    return {int(name.removeprefix(SECONDS)): found[name] for name in found if name.startswith(SECONDS)}


class ActiveTrial:
    """The trial that this worker trains: all of it in memory, and its pending writes."""

    def __init__(
        self, frozen: FrozenTrial, attempt: int, deaths: int, wanted: TrialRequest, granted: int | None = None
    ) -> None:
        self.frozen, self.attempt, self.deaths = frozen, attempt, deaths
        self.pending = PendingWrites()
        self.dashboard_notes: dict[str, Any] = {}  # that the dashboard shows
        self.lock = threading.Lock()
        self.write_lock = threading.Lock()  # held from `take_pending` until the writes are committed or restored
        self.wanted: TrialRequest = wanted
        self.is_choosing = True  # its parameters may be drawn again, so they are not written yet
        self.on_written: Callable[[], None] = lambda: None  # called when its end is written
        self.lost = ""  # why this worker no longer owns it
        self.unjudged: list[int] = []  # epochs that the scheduler has not seen
        # the scheduler stops a trial once; a restarted worker must know
        self.verdict: Literal["", "pause", "stop"] = "stop" if "pruned_at" in frozen.user_attrs else ""
        self.judgement: Decision | None = None  # why it is to pause
        self.judged = -1  # the last rung at which the scheduler decided on it
        self.granted = granted  # epochs that it may train, without those written; None without a limit
        self.unwritten_epochs = 0  # epochs trained since then
        self.recorded: set[int] = set()  # epochs in the database when it was claimed

    @property
    def id(self) -> int:
        return optuna_compat.trial_id(self.frozen)

    @property
    def number(self) -> int:
        return self.frozen.number

    @property
    def epochs_left(self) -> int | None:
        """The epochs that may be trained now; None without a limit."""
        with self.lock:
            return None if self.granted is None else max(0, self.granted - self.unwritten_epochs)

    @property
    def length(self) -> int:
        """The epochs of its recipe; a very long one before it has a recipe."""
        return read_length(self.frozen)

    def set_granted(self, written: int, granted: int | None) -> None:
        """Note that so many trained epochs are written, and how many more may be trained since."""
        with self.lock:
            self.unwritten_epochs, self.granted = self.unwritten_epochs - written, granted

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
            if ":relative_params:" not in key:  # of TPE and GP, for other workers; the parameters follow soon
                self.pending.system_attrs[key] = format_json(value)

    def count_seconds(self, epoch: int, seconds: float) -> None:
        """Add the seconds of an epoch to those until its end; an epoch that is trained again counts as it did."""
        if f"{SECONDS}{epoch}" not in self.frozen.system_attrs:
            before = self.frozen.system_attrs.get(f"{SECONDS}{epoch - 1}", 0.0)
            self.set_system_attr(f"{SECONDS}{epoch}", round(before + seconds, 3))

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
