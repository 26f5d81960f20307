"""Read studies and their workers without importing Optuna, in a few queries that stay fast with many trials."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from tuner.errors import StudyError, did_you_mean
from tuner.goal import describe_excess, over_limits
from tuner.study.earlier import read_earlier
from tuner.study.info import StudyInfo
from tuner.study.optuna_tables import studies, study_attrs, trial_attrs, trials
from tuner.study.tables import claim_table, study_table, worker_table
from tuner.study.trial_queries import (
    BROKE_LIMIT,
    FINISHED,
    OVER_LIMIT,
    PAUSED,
    TrialInfo,
    read_best_trial,
    read_least,
)
from tuner.wording import pluralize, start_hint


@dataclass(frozen=True)
class WorkerInfo:
    """A running worker, as its row in the database describes it."""

    worker: str
    host: str
    pid: int
    born: float
    device: str
    beats: int
    state: str
    number: int | None
    step: int
    steps: int
    value: float | None
    params: dict[str, Any] | None
    machine: str = ""
    peak_memory: int = 0  # bytes
    batch: int = 0  # of the epoch that is trained, training and validation together
    batches: int = 0  # 0 between epochs


@dataclass(frozen=True)
class StudySummary:
    """What `status` and the live view show of a study.

    Trials that are paused or that broke a limit are not among the pruned ones.
    """

    study: StudyInfo
    num_trials: int | None
    states: dict[str, int]
    num_put_back: int
    best: TrialInfo | None
    workers: tuple[WorkerInfo, ...]

    @property
    def num_finished(self) -> int:
        return sum(self.states.get(state, 0) for state in (*FINISHED, PAUSED, BROKE_LIMIT))

    @property
    def num_paused(self) -> int:
        return self.states.get(PAUSED, 0)

    @property
    def num_over_limit(self) -> int:
        return self.states.get(BROKE_LIMIT, 0)


def read_studies(engine: Engine) -> list[StudyInfo]:
    """Return every study that tuner created, the one with the newest trial first."""
    newest = sa.select(sa.func.max(trials.c.trial_id)).where(trials.c.study_id == studies.c.study_id)
    query = (
        sa.select(studies.c.study_id, studies.c.study_name, study_attrs.c.value_json)
        .join(study_attrs, study_attrs.c.study_id == studies.c.study_id)
        .where(study_attrs.c.key == "tuner")
        .order_by(sa.func.coalesce(newest.scalar_subquery(), 0).desc(), studies.c.study_id.desc())
    )
    if not sa.inspect(engine).has_table("studies"):
        return []
    with engine.connect() as db:
        return [StudyInfo.from_json(id, name, json.loads(text)) for id, name, text in db.execute(query)]


def find_study(engine: Engine, name: str | None) -> StudyInfo:
    """Return the study of that name, or the one with the newest trial; StudyError if it does not exist."""
    known = read_studies(engine)
    if not known:
        raise StudyError(f"no study yet. {start_hint()}")
    if name is None:
        return known[0]
    for info in known:
        if info.name == name:
            return info
    names = [info.name for info in known]
    raise StudyError(f"no study '{name}'.{did_you_mean(name, names)} Known: {', '.join(names)}.")


def read_summary(engine: Engine, info: StudyInfo) -> StudySummary:
    with engine.connect() as db:
        states = count_states(db, info)
        is_put_back = claim_table.c.worker.is_(None) & claim_table.c.trial_id.is_not(None)
        back = sa.select(sa.func.count()).where(claim_table.c.study_id == info.id, is_put_back)
        return StudySummary(
            study=info,
            num_trials=db.scalar(sa.select(study_table.c.num_trials).where(study_table.c.study_id == info.id)),
            states=states,
            num_put_back=db.scalar(back) or 0,
            workers=read_workers(db, info),
            best=read_best_trial(db, info),
        )


def read_learned(engine: Engine, info: StudyInfo) -> list[str]:
    """Return what a study learns from, such as 'horses: 54 trials, 3 points first'."""
    with engine.connect() as db:
        return [str(study) for study in read_earlier(db, info.id)]


def explain_limits(engine: Engine, now: StudySummary) -> str:
    """Return how far the trials are from the limits if all that ended broke one, else ""."""
    if not now.num_over_limit or now.num_over_limit < now.num_finished or now.workers:
        return ""
    least, limits = read_least(engine, now.study), now.study.limits
    over = describe_excess(over_limits(least, limits), limits)
    near = f"the least that was met: {over}" if over else "none meets all limits together"
    return f"each of {pluralize(now.num_over_limit, 'trial')} broke a limit and was not trained; {near}"


def count_states(db: Connection, info: StudyInfo) -> dict[str, int]:
    """Return the number of trials in each state.

    Those that are paused or that broke a limit count as such, not as pruned.
    """
    claimed = trials.join(claim_table, claim_table.c.trial_id == trials.c.trial_id, isouter=True)
    is_paused = (trials.c.state == "PRUNED") & claim_table.c.paused_at.is_not(None)
    paused = sa.func.sum(sa.case((is_paused, 1), else_=0))
    query = sa.select(trials.c.state, sa.func.count(), paused).select_from(claimed)
    states: dict[str, int] = {}
    for state, number, resting in db.execute(query.where(trials.c.study_id == info.id).group_by(trials.c.state)):
        states |= {str(state): int(number) - int(resting)} | ({PAUSED: int(resting)} if resting else {})
    if info.limits and states.get("PRUNED"):
        both = trial_attrs.join(trials, trials.c.trial_id == trial_attrs.c.trial_id)
        broke = sa.select(sa.func.count()).select_from(both).where(trial_attrs.c.key == OVER_LIMIT)
        number = db.scalar(broke.where(trials.c.study_id == info.id, trials.c.state == "PRUNED")) or 0
        states |= {"PRUNED": states["PRUNED"] - number, BROKE_LIMIT: number}
    return {state: number for state, number in states.items() if number}


def read_workers(db: Connection, info: StudyInfo) -> tuple[WorkerInfo, ...]:
    rows = db.execute(
        sa.select(*[worker_table.c[name] for name in WorkerInfo.__dataclass_fields__])
        .where(worker_table.c.study_id == info.id)
        .order_by(worker_table.c.host, worker_table.c.born)
    )
    return tuple(WorkerInfo(*row) for row in rows)


def study_exists(engine: Engine, info: StudyInfo) -> bool:
    """Return whether a study still exists. Its name is compared too: SQLite reuses the ids of deleted studies."""
    with engine.connect() as db:
        return db.scalar(sa.select(studies.c.study_name).where(studies.c.study_id == info.id)) == info.name
