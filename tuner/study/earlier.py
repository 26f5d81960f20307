"""What a study knows of earlier ones: their trials and best points, copied when it was created.

They are attributes of the study that the dashboard does not show, one for each earlier study. So a study repeats
itself, also when an earlier one goes on or is deleted.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy.engine import Connection

from tuner.study.optuna_tables import LONGEST_ATTR, read_numbered_attrs
from tuner.wording import pluralize

PREFIX = "tuner:earlier:"  # of the names of attributes


@dataclass(frozen=True, eq=False)
class EarlierStudy:
    """The trials of an earlier study, the best first, with the parameters that the new one has too."""

    name: str
    trials: tuple[dict[str, Any], ...] = ()  # parameters
    scores: tuple[float, ...] = ()  # of each trial, the value that its rank has in a normal distribution
    first: tuple[dict[str, Any], ...] = ()  # points that the new study trains first

    def to_json(self) -> dict[str, Any]:
        """Return what is stored: so many of the trials as a column holds, spread over all."""
        stored, step = self, 1
        while len(json.dumps(vars(stored))) > LONGEST_ATTR and stored.trials:
            step *= 2
            stored = replace(self, trials=self.trials[::step], scores=self.scores[::step])
        return dict(vars(stored))

    @staticmethod
    def from_json(stored: dict[str, Any]) -> EarlierStudy:
        """Read what `to_json` returned."""
        name, *lists = (stored[key] for key in ("name", "trials", "scores", "first"))
        return EarlierStudy(name, *map(tuple, lists))

    def __str__(self) -> str:
        return f"{self.name}: {pluralize(len(self.trials), 'trial')}, {pluralize(len(self.first), 'point')} first"


def read_earlier(db: Connection, study_id: int) -> tuple[EarlierStudy, ...]:
    """Return what a study learns from, in the order in which it was given."""
    return tuple(map(EarlierStudy.from_json, read_numbered_attrs(db, study_id, PREFIX)))
