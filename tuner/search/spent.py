"""A run that has nothing to do, found before its space is loaded and drawn from, which takes many seconds."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from tuner.errors import DataError
from tuner.paths import expand_path, is_path, read_text
from tuner.space.rehearsal import default_name
from tuner.space.space import find_space
from tuner.study import budget, claims, database, queries, tables
from tuner.study.info import StudyInfo, StudyKind
from tuner.study.optuna_tables import trials
from tuner.study.queries import StudySummary

UNCHECKED = ("table", "each", "layout", "first_rung", "factor", "warm_from", "limits", "artifacts", "mix")


def find_spent(url: str, options: Mapping[str, Any]) -> StudySummary | None:
    """Return the study of a run if its budget is spent and the options change nothing of it, otherwise None.

    The options are named as on the command line. In every doubtful case the answer is None, and the run checks
    everything and finds out by itself: options that are not compared here, and a space that was edited after the
    last trial.
    """
    if not options["space"] or any(options[name] for name in UNCHECKED) or database.is_absent(url):
        return None
    space = find_space(options["space"])
    engine = tables.open_to_read(url)
    try:
        with database.convert_errors(url):
            info = find_joined(engine, space, options)
            if info is None or not keeps_budget(engine, info, options) or was_edited(engine, info, space):
                return None
            now = queries.read_summary(engine, info)
            if now.workers or "RUNNING" in now.states or not claims.is_finished(engine, info.id):
                return None
            return None if info.pauses and is_paused_due(engine, info, url) else now
    finally:
        engine.dispose()


def find_joined(engine: Engine, space: Path, options: Mapping[str, Any]) -> StudyInfo | None:
    """Return the study that a run of the space would join, if that can be told without loading the space."""
    data, name = options["data"], space.stem
    if data is not None and is_path(data):
        data = str(expand_path(data, DataError).absolute())
    size = options["rehearse"], options["shrink"], options["shorten"]
    names = [options["study"]]
    if not options["study"]:
        names = [default_name(name, swapped, *size) for swapped in (data or "", "")]
    same = {
        "space": name,
        "kind": StudyKind.SEARCH,
        **dict(zip(("rehearsal", "shrink", "shorten"), size, strict=True)),
        **({} if data is None else {"data": data}),
    }
    pruning = "none" if options["no_pruning"] else options["pruning"]
    for info in queries.read_studies(engine):
        is_same = all(getattr(info, field) == value for field, value in same.items())
        is_searched = pruning in (None, info.search.pruning) and options["sampler"] in (None, info.search.sampler)
        if info.name in names and is_same and is_searched and not info.each:
            is_known = data is not None or info.rehearsal or info.data in read_text(space, DataError)
            return info if is_known else None
    return None


def keeps_budget(engine: Engine, info: StudyInfo, options: Mapping[str, Any]) -> bool:
    """Return whether the options leave the limits of a study as they are."""
    limits = budget.read_budget(engine, info.id).budget
    given = {
        "trials": limits.num_trials,
        "hours": limits.hours,
        "gpu_hours": limits.gpu_hours,
        "epoch_budget": limits.epochs,
    }
    return all(options[name] in (None, limit) for name, limit in given.items())


def was_edited(engine: Engine, info: StudyInfo, space: Path) -> bool:
    """Return whether the file of the space, or a module that it may import, may be newer than the last trial."""
    if "sys.path" in read_text(space, DataError):  # it may import from any folder
        return True
    with engine.connect() as db:
        last = db.scalar(sa.select(sa.func.max(trials.c.datetime_complete)).where(trials.c.study_id == info.id))
    modules = [file for folder in {space.parent, Path.cwd()} for file in folder.glob("*.py")]
    newest = max(file.stat().st_mtime for file in (space, *modules))
    return last is None or newest > last.replace(tzinfo=UTC).timestamp()


def is_paused_due(engine: Engine, info: StudyInfo, url: str) -> bool:
    """Return whether a paused trial is to go on although no new one may start."""
    if not claims.may_resume(engine, info.id):
        return False
    from tuner.search.pruning import make_due_check
    from tuner.study.study import rejoin_study

    joined = rejoin_study(url, info.name)
    try:
        return make_due_check(joined)()
    finally:
        joined.engine.dispose()
