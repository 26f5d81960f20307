"""The trials of a study as `tuner trials` and `tuner show` list them, read without importing Optuna."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from tuner.errors import StudyError, format_names
from tuner.paths import attempt_of
from tuner.study import epoch_queries, trial_queries
from tuner.study.failures import failure_from_attrs
from tuner.study.format import format_at
from tuner.study.info import StudyInfo
from tuner.study.optuna_tables import trials
from tuner.study.trial_queries import BROKE_LIMIT, OVER_LIMIT, PAUSED, TrialInfo
from tuner.wording import pluralize, write_command

Epoch = dict[str, Any]


@dataclass(frozen=True)
class TrialRow:
    """A trial as far as it came. `value` is that of its best epoch so far, None without an epoch."""

    trial: TrialInfo
    value: float | None
    best_epoch: int
    epochs: tuple[Epoch, ...]
    started: datetime | None  # UTC
    ended: datetime | None

    @property
    def number(self) -> int:
        return self.trial.number

    @property
    def state(self) -> str:
        """The state, "PAUSED" for a trial that may go on, "OVER_LIMIT" for one that broke a limit."""
        if OVER_LIMIT in self.trial.attrs:
            return BROKE_LIMIT
        return self.trial.state if self.trial.paused_at is None else PAUSED

    @property
    def planned(self) -> int | None:
        """The number of epochs in the recipe, None for a trial without one."""
        epochs = (self.trial.attrs.get("recipe") or {}).get("epochs")
        return epochs if isinstance(epochs, int) else None

    @property
    def seconds(self) -> float:
        return sum(row.get("seconds") or 0.0 for row in self.epochs)

    @property
    def metrics(self) -> dict[str, float]:
        """The metrics of the best epoch by name, such as "val_iou" and "train_loss"."""
        at_best = next((row for row in self.epochs if row["epoch"] == self.best_epoch), {})
        return {name: value for name, value in at_best.items() if name.startswith(("train_", "val_"))}

    @property
    def failure(self) -> str:
        """Why it failed, or ""."""
        return failure_from_attrs(self.number, self.trial.attrs).reason if self.trial.state == "FAIL" else ""

    @property
    def came_to(self) -> str:
        """How far it came, such as '3 of 60 epochs', or '0.33 of 60 epochs' within the first."""
        partial = (self.trial.attrs.get("result") or {}).get("partial")
        if not self.planned:
            return pluralize(len(self.epochs), "epoch")
        return f"{format_at(len(self.epochs), partial)} of {pluralize(self.planned, 'epoch')}"

    @property
    def attempt(self) -> int:
        return attempt_of(self.trial.attrs)

    def to_json(self) -> dict[str, Any]:
        return {
            "trial": self.number,
            "state": self.state,
            "value": self.value,
            "best_epoch": self.best_epoch,
            "epochs": len(self.epochs),
            "planned": self.planned,
            "seconds": round(self.seconds, 3),
            "started": self.started.isoformat() if self.started else None,
            "ended": self.ended.isoformat() if self.ended else None,
            "params": self.trial.params,
            "failure": self.failure,
        }


def read_rows(engine: Engine, info: StudyInfo) -> list[TrialRow]:
    """Return every trial of a study in the order of their numbers."""
    plain = trial_queries.read_trials(engine, info)
    with engine.connect() as db:
        epochs = epoch_queries.read_study_epochs(db, info.id)
        times = {row.trial_id: row for row in db.execute(sa.select(trials).where(trials.c.study_id == info.id))}
    return [make_row(each, epochs.get(each.id, []), times.get(each.id), info) for each in plain]


def make_row(trial: TrialInfo, epochs: Sequence[Epoch], times: Any, info: StudyInfo) -> TrialRow:
    """Return a trial with the best of its recorded epochs, or of what it stored at its end."""
    result, sign = trial.attrs.get("result") or {}, 1 if info.is_maximized else -1
    known = [row for row in epochs if row["value"] is not None]
    best = max(known, key=lambda row: (sign * row["value"], -row["epoch"]), default=None)
    value, epoch = (best["value"], best["epoch"]) if best else (None, 0)
    if result.get("best_epoch"):  # of the last stage
        value, epoch = result.get("best_value"), result["best_epoch"]
    elif result.get("partial") and best is None:
        value = result["partial"][1]
    if trial.state == "COMPLETE":
        value = trial.value
    started, ended = (times.datetime_start, times.datetime_complete) if times else (None, None)
    return TrialRow(trial, value, int(epoch), tuple(epochs), started, ended)


def find_row(engine: Engine, info: StudyInfo, number: int) -> TrialRow:
    """Return a trial by its number; StudyError with the numbers that there are."""
    with engine.connect() as db:
        trial = find_trial(db, info, number)
        times = db.execute(sa.select(trials).where(trials.c.trial_id == trial.id)).one()
    return make_row(trial, epoch_queries.read_epochs(engine, trial.id), times, info)


def find_trial(db: Connection, info: StudyInfo, number: int) -> TrialInfo:
    """Return what is stored of a trial by its number; StudyError with the numbers that there are."""
    trial = trial_queries.read_trial(db, info.id, number)
    if trial is None:
        known = db.scalars(sa.select(trials.c.number).where(trials.c.study_id == info.id))
        has = describe_numbers(sorted(known))
        see = write_command("trials", study=info.name)
        raise StudyError(f"study '{info.name}' has no trial {number}. {has}; see them with: {see}")
    return trial


def describe_numbers(known: Sequence[int]) -> str:
    """Return which trials a study has, by their numbers in order."""
    if not known:
        return "It has no trials yet"
    if len(known) == known[-1] - known[0] + 1 > 1:
        return f"It has the trials {known[0]} to {known[-1]}"
    return f"It has: {format_names(map(str, known), 20)}"


def describe_state(row: TrialRow) -> str:
    """Return in one clause what became of a trial, such as 'paused after 3 of 60 epochs; it may go on'."""
    after = f"after {row.came_to}"
    if row.state == BROKE_LIMIT:
        return f"not trained: its model is over a limit, {row.trial.attrs[OVER_LIMIT]}"
    if row.state == "WAITING":
        return f"put back {after}, and waits to be resumed" if row.epochs else "not started yet"
    return {
        "COMPLETE": f"finished {after}",
        PAUSED: f"paused {after}; it may go on",
        "PRUNED": f"pruned {after}, for good",
        "FAIL": f"failed {after}: {row.failure}",
        "RUNNING": f"running, {row.came_to} so far",
    }[row.state]
