"""Why trials failed: what kind of reason, and the line that says it."""

from __future__ import annotations

import json
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from tuner.study.tables import trial_attrs, trials

HEAD, TAIL = 200, 800  # characters read of a failure: a traceback begins with its sign and ends with its reason
TRACEBACK = "Traceback (most recent call last)"
KINDS = (  # what a reason holds, and what it is called; the first that fits
    ("out of memory", "out of memory"),
    ("OutOfMemoryError", "out of memory"),
    ("_loss is ", "loss not finite"),
    ("its value is not a number", "value not a number"),
    ("set aside: ", "workers died on it"),
    ("suggest() ", "suggest() of the space"),
    ("goes on from a checkpoint", "checkpoint cannot be used"),
    ("batch norm", "too few values for a batch norm"),
    ("weights", "weights to begin from"),
)


@dataclass(frozen=True)
class Failure:
    """A trial that failed: what kind of reason, and the last line of it."""

    number: int
    kind: str
    reason: str


def read_failures(db: Connection, mine: sa.ColumnElement[bool]) -> dict[int, Failure]:
    """Why these trials failed, by trial id; of long reasons their ends only."""
    text = trial_attrs.c.value_json
    length = sa.func.length(text)
    tail = sa.case((length > TAIL, sa.func.substr(text, length - TAIL + 1)), else_=text)
    query = (
        sa.select(trials.c.trial_id, trials.c.number, sa.func.substr(text, 1, HEAD), tail)
        .join(trials, trials.c.trial_id == trial_attrs.c.trial_id)
        .where(mine, trials.c.state == "FAIL", trial_attrs.c.key == "failure")
    )
    return {
        trial_id: as_failure(number, decoded(head), decoded(end))
        for trial_id, number, head, end in db.execute(query)
    }


def decoded(piece: str) -> str:
    """The text in a piece of its JSON, which may begin or end in the middle of an escape."""
    piece = piece.removeprefix('"')
    for skip in range(6):
        for cut in range(7):
            try:
                return str(json.loads(f'"{piece[skip : len(piece) - cut]}"', strict=False))
            except ValueError:
                continue
    return piece


def as_failure(number: int, head: str, tail: str) -> Failure:
    reason = last_line(tail)
    return Failure(number, kind_of(head + "\n" + reason), reason)


def unknown(number: int) -> Failure:
    return Failure(number, "unknown", "unknown reason")


def kind_of(reason: str) -> str:
    """What kind of reason it is, in a few words; an error of the program is called by its name."""
    is_bug = reason.startswith(TRACEBACK)
    last = last_line(reason)
    for sign, kind in KINDS:
        if sign in (last if is_bug else reason):
            return kind
    if is_bug:
        name = last.partition(":")[0].rpartition(".")[2]
        return name if name.isidentifier() else "error"
    return "other"


def last_line(reason: str) -> str:
    """The last line that says something, without what a terminal would obey."""
    lines = [line for line in reason.splitlines() if line.strip()]
    printable = "".join(c if c.isprintable() else " " for c in (lines[-1] if lines else ""))
    return printable.strip() or "unknown reason"
