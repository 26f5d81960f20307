"""The confirmation of a study: which study it is, whose trials are repeated, and each look at the test split."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

from sqlalchemy.engine import Connection, Engine

from tuner.study import queries
from tuner.study.info import StudyInfo, StudyKind
from tuner.study.optuna_tables import numbered_key, read_numbered_attrs

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

CANDIDATE = "candidate"  # attribute of a trial: what it repeats, and the value that this had in the search
DEFAULT = "default"  # the name of the candidate that is the default of its space
PREFIX = "tuner:test:"  # of the names of attributes


@dataclass(frozen=True)
class LookAtTest:
    """The scores of a trial on the test split, and when they were looked at, as UTC in ISO format."""

    trial: int
    scores: dict[str, float]
    at: str


class FinishedRun(Protocol):
    """A trial with a value."""

    @property
    def number(self) -> int: ...

    @property
    def value(self) -> float | None: ...


Run = TypeVar("Run", bound=FinishedRun)


def choose_run(runs: Iterable[Run], maximizes: bool) -> Run:
    """Return the best run of a candidate, which is scored on the test split and exported; of equals the first."""
    sign = 1.0 if maximizes else -1.0
    return max(runs, key=lambda run: (sign * (run.value or 0.0), -run.number))


def confirmation_name(study: str) -> str:
    return f"{study}-confirmed"


def find_confirmation(engine: Engine, info: StudyInfo) -> StudyInfo | None:
    """Return the study that confirms this one, or the study itself if it is a confirmation; None without one."""
    if info.kind is StudyKind.CONFIRMATION:
        return info
    known = queries.read_studies(engine)
    return next((one for one in known if one.kind is StudyKind.CONFIRMATION and one.subject == info.name), None)


def read_test_looks(db: Connection, study_id: int) -> list[LookAtTest]:
    """Return every look at the test split, the first one first."""
    return [LookAtTest(**each) for each in read_numbered_attrs(db, study_id, PREFIX)]


def add_test_look(storage: BaseStorage, study_id: int, place: int, look: LookAtTest) -> None:
    storage.set_study_system_attr(study_id, numbered_key(PREFIX, place), asdict(look))
