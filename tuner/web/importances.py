"""The answer for the dashboard's panel of importances: what the report says, for the studies of tuner."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from sqlalchemy.engine import Engine

from tuner.paths import format_json
from tuner.report.importance import param_importances
from tuner.report.study_data import StudyData, read_study
from tuner.study import queries, trial_queries

DISTRIBUTIONS = {"int": "IntDistribution", "float": "FloatDistribution"}


@dataclass
class ImportanceAnswers:
    """The last answer about each study, and the number of ended trials it was computed from."""

    known: dict[int, tuple[int, bytes]] = field(default_factory=dict)  # by study id
    lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, engine: Engine, study_id: int) -> bytes | None:
        """Return the JSON that optuna-dashboard's page expects; None for a study that is not tuner's.

        It has the parameters that can be told to matter and no others: the panel cannot show uncertainty.
        """
        info = next((one for one in queries.read_studies(engine) if one.id == study_id), None)
        if info is None:
            return None
        with self.lock:
            with engine.connect() as db:
                ended = len(trial_queries.read_finished_ids(db, study_id))
            number, text = self.known.get(study_id, (-1, b""))
            if number != ended:
                text = serialize_importances(read_study(engine, info))
                self.known[study_id] = ended, text
            return text


def serialize_importances(study: StudyData) -> bytes:
    goals = [
        [
            {"name": one.name, "importance": one.share, "distribution": distribution_name(study, one.name)}
            for one in param_importances(study, goal.metric).told
        ]
        for goal in study.info.goals
    ]
    return format_json({"param_importances": goals}).encode()


def distribution_name(study: StudyData, name: str) -> str:
    kind = study.kinds.get(name, {}).get("kind", "float" if study.is_number(name) else "")
    return DISTRIBUTIONS.get(kind, "CategoricalDistribution")
