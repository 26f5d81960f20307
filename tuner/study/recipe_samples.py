"""The recipes of fixed points as they were when a study began, and when a user chose to go on with others.

Each sample is a system attribute of the study, as compressed JSON.
"""

from __future__ import annotations

import base64
import json
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy.engine import Connection

from tuner.space.fixed_points import RecipeSample
from tuner.study.optuna_tables import LONGEST_ATTR, numbered_key, read_numbered_attrs

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

PREFIX = "tuner:recipes:"  # of the names of attributes


@dataclass(frozen=True)
class StoredSample:
    """The recipes that a study has from the trial `since` on, and how they differ from those before."""

    sample: RecipeSample
    since: int = 0
    changes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return what is stored: as many of the points as a column holds."""
        for number in (len(self.sample.points) >> step for step in range(8)):
            parts = (self.sample.points[:number], self.sample.recipes[:number])
            packed = base64.b85encode(zlib.compress(json.dumps(parts).encode(), 9)).decode()
            stored = {"since": self.since, "changes": list(self.changes), "recipes": packed}
            if len(json.dumps(stored)) <= LONGEST_ATTR:
                break
        return stored

    @staticmethod
    def from_json(stored: dict[str, Any]) -> StoredSample:
        """Read what `to_json` returned."""
        points, recipes = json.loads(zlib.decompress(base64.b85decode(stored["recipes"])))
        return StoredSample(RecipeSample(tuple(points), tuple(recipes)), stored["since"], tuple(stored["changes"]))

    def __str__(self) -> str:
        return f"from trial {self.since} on with other recipes ({'; '.join(self.changes)})"


def read_samples(db: Connection, study_id: int) -> list[StoredSample]:
    """Return the samples of a study, the first one first; none for a study of an earlier version."""
    return list(map(StoredSample.from_json, read_numbered_attrs(db, study_id, PREFIX)))


def read_mixed(db: Connection, study_id: int) -> list[str]:
    """Return where a study goes on with other recipes, such as 'from trial 12 on with other recipes (...)'."""
    return [str(StoredSample(RecipeSample((), ()), each["since"], tuple(each["changes"])))
            for each in read_numbered_attrs(db, study_id, PREFIX) if each["changes"]]  # fmt: skip


def add_sample(storage: BaseStorage, study_id: int, place: int, stored: StoredSample) -> None:
    """Store a sample at a place in their order. Call under the creation lock."""
    storage.set_study_system_attr(study_id, numbered_key(PREFIX, place), stored.to_json())
