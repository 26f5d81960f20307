"""Why trials failed: the kind, the last line of the reason, and how they are stored on a trial."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from tuner.errors import FailureKind
from tuner.study.optuna_tables import trial_attrs, trials

# Attributes of a failed trial. The first is the whole text, which may be a long traceback; the others are short.
REASON, KIND, LINE, EXCEPTION = "failure", "failure_kind", "failure_line", "failure_exception"
NO_REASON = "unknown reason"


@dataclass(frozen=True)
class Failure:
    """Why a trial failed: the kind and the last line of the reason."""

    number: int
    kind: FailureKind
    reason: str
    exception: str = ""  # name of the class of an unexpected exception

    @property
    def label(self) -> str:
        """The kind in a few words, or the name of an unexpected exception."""
        return self.exception or self.kind.value


def failure_attrs(kind: FailureKind, reason: str, exception: str = "") -> dict[str, str]:
    attrs = {REASON: reason, KIND: kind.value, LINE: last_line(reason)}
    return {**attrs, EXCEPTION: exception} if exception else attrs


def failure_from_attrs(number: int, attrs: Mapping[str, Any]) -> Failure:
    if KIND not in attrs:
        return failure_of_version_0_1(number, str(attrs.get(REASON, "")))
    kind, line = FailureKind(attrs[KIND]), str(attrs.get(LINE, NO_REASON))
    return Failure(number, kind, line, str(attrs.get(EXCEPTION, "")))


def read_failures(db: Connection, mine: sa.ColumnElement[bool]) -> dict[int, Failure]:
    """Return why the selected trials failed, by trial id. Whole reasons are read only where no kind is stored."""
    other = trial_attrs.alias()
    has_kind = sa.exists().where(other.c.trial_id == trials.c.trial_id, other.c.key == KIND)
    key = trial_attrs.c.key
    wanted = key.in_((KIND, LINE, EXCEPTION)) | ((key == REASON) & ~has_kind)
    query = (
        sa.select(trials.c.trial_id, trials.c.number, key, trial_attrs.c.value_json)
        .select_from(
            trials.join(trial_attrs, (trial_attrs.c.trial_id == trials.c.trial_id) & wanted, isouter=True)
        )
        .where(mine, trials.c.state == "FAIL")
    )
    failed: dict[tuple[int, int], dict[str, Any]] = {}
    for trial_id, number, name, text in db.execute(query):
        failed.setdefault((trial_id, number), {}).update({name: json.loads(text)} if name else {})
    return {trial_id: failure_from_attrs(number, attrs) for (trial_id, number), attrs in failed.items()}


def last_line(reason: str) -> str:
    """Return the last line that is not empty, without control characters."""
    lines = [line for line in reason.splitlines() if line.strip()]
    printable = "".join(c if c.isprintable() else " " for c in (lines[-1] if lines else ""))
    return printable.strip() or NO_REASON


# Compatibility: version 0.1 stored the reason alone, in its own fixed words


TRACEBACK = "Traceback (most recent call last)"
SIGNS_OF_VERSION_0_1 = (
    ("out of memory", FailureKind.OUT_OF_MEMORY),
    ("OutOfMemoryError", FailureKind.OUT_OF_MEMORY),
    ("_loss is ", FailureKind.LOSS_NOT_FINITE),
    ("its value is not a number", FailureKind.VALUE_NOT_A_NUMBER),
    ("set aside: ", FailureKind.WORKERS_DIED),
    ("suggest() ", FailureKind.SUGGEST),
    ("goes on from a checkpoint", FailureKind.CHECKPOINT),
    ("batch norm", FailureKind.BATCH_NORM),
    ("weights", FailureKind.WEIGHTS),
)


def failure_of_version_0_1(number: int, reason: str) -> Failure:
    """Return the failure of a trial without a kind, which follows from the words of its reason."""
    line, is_exception = last_line(reason), reason.startswith(TRACEBACK)
    for sign, kind in SIGNS_OF_VERSION_0_1:
        if sign in (line if is_exception else reason):
            return Failure(number, kind, line)
    name = line.partition(":")[0].rpartition(".")[2]
    if is_exception:
        return Failure(number, FailureKind.EXCEPTION, line, name if name.isidentifier() else "")
    return Failure(number, FailureKind.UNKNOWN, line)
