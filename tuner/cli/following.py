"""Which study `tuner status --watch` shows: the one that is worked on, also when another one starts."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from tuner.study import queries
from tuner.study.info import StudyInfo
from tuner.study.optuna_tables import trials
from tuner.study.tables import worker_table

SILENT_SECONDS = 10.0  # without a heartbeat, after which a worker counts as gone


@dataclass
class StudyFollower:
    """Chooses among the studies of a database by the heartbeats of their workers."""

    engine: Engine
    seen: dict[str, tuple[int, float]] = field(default_factory=dict)  # worker -> heartbeats, and when they changed

    def find_first(self) -> StudyInfo:
        """Return the study with workers, or else with the newest activity; StudyError if there is none."""
        newest = queries.find_study(self.engine, None)
        known = queries.read_studies(self.engine)
        active = self.find_active()
        activity = sa.func.max(sa.func.coalesce(trials.c.datetime_complete, trials.c.datetime_start))
        with self.engine.connect() as db:
            query = sa.select(trials.c.study_id, activity).group_by(trials.c.study_id)
            times = {study: str(at) for study, at in db.execute(query) if at is not None}
        return max(known, key=lambda info: (info.id in active, times.get(info.id, "")), default=newest)

    def find_active(self) -> set[int]:
        """Return the ids of the studies with workers whose heartbeats go on."""
        now, active = time.monotonic(), set()
        columns = worker_table.c.worker, worker_table.c.study_id, worker_table.c.beats
        with self.engine.connect() as db:
            rows = db.execute(sa.select(*columns)).all()
        for worker, study, beats in rows:
            if self.seen.get(worker, (-1, 0.0))[0] != beats:
                self.seen[worker] = beats, now
            if now - self.seen[worker][1] < SILENT_SECONDS:
                active.add(int(study))
        return active

    def find_next(self, info: StudyInfo) -> tuple[StudyInfo, list[str]]:
        """Return the study to watch now, this one while it has workers, and the names of others with workers."""
        active = self.find_active()
        if not active - {info.id}:
            return info, []
        others = [each for each in queries.read_studies(self.engine) if each.id in active and each.id != info.id]
        if info.id in active or not others:
            return info, [each.name for each in others]
        return others[0], [each.name for each in others[1:]]
