"""Delete a study together with the files of its trials, unless workers still need them."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from tuner.artifacts.attempts import delete_study_files
from tuner.artifacts.optuna_store import TrialArtifacts
from tuner.errors import format_names
from tuner.paths import safe_name
from tuner.recipe import BUILT_IN_WEIGHTS
from tuner.study import queries
from tuner.study.heartbeat import running_workers, stop_command
from tuner.study.info import StudyInfo
from tuner.study.optuna_tables import studies, trial_attrs, trials
from tuner.study.tables import worker_table
from tuner.study.trial_queries import EXTENDS, OPEN, TOOK_OVER
from tuner.web import wsgi
from tuner.web.wsgi import CONFLICT, App, Environ, RequestError, StartResponse
from tuner.wording import pluralize

ADDRESS = re.compile(r"/api/studies/([0-9]{1,18})/*")
MEGABYTE = 10**6


@dataclass(frozen=True)
class StudyDeletion:
    """Deletes the run folders of a study that `app` deletes; refuses a study whose files are in use."""

    app: App
    engine: Engine
    artifacts: TrialArtifacts

    def __call__(self, environ: Environ, start: StartResponse) -> Iterable[bytes]:
        is_deletion = environ["REQUEST_METHOD"] == "DELETE"
        match = ADDRESS.fullmatch(wsgi.request_path(environ)) if is_deletion else None
        known = queries.read_studies(self.engine) if match else []
        info = next((one for one in known if match and one.id == int(match[1])), None)
        if info is None:
            return self.app(environ, start)
        check_unused(self.engine, info)
        users = [*find_users(self.engine, info)]
        started: list[Any] = []
        body = self.app(environ, lambda *response: started.append(response))
        if not started[0][0].startswith("2"):
            start(*started[0])
            return body
        if close := getattr(body, "close", None):
            close()
        remark = "; ".join(self.delete_files(info, users))
        print(f"tuner: {remark}", file=sys.stderr, flush=True)
        return wsgi.respond_json(environ, start, json.dumps({"remark": remark}).encode())

    def delete_files(self, info: StudyInfo, users: list[str]) -> Iterator[str]:
        """Delete the study's run folders; yield what is free now, what was left, and which studies miss it."""
        freed, kept = delete_study_files(self.artifacts.home, self.artifacts.stores, info.name, info.key)
        yield f"study '{info.name}' is deleted, {freed / MEGABYTE:.1f} MB of its trials' files are free"
        yield from kept
        if users:
            yield f"its weights are gone too: new trials of {format_names(users)} cannot start from them"


def check_unused(engine: Engine, info: StudyInfo) -> None:
    """Raise RequestError if workers train the study, or if trials of another one still need its files."""
    if running := running_workers(engine, worker_table.c.study_id == info.id):
        raise RequestError(
            CONFLICT,
            f"nothing was deleted: {pluralize(len(running), 'worker')} of study '{info.name}' still running. "
            f"Stop them first: {stop_command(engine, info.id)}",
        )
    if names := [*find_extensions(engine, info)]:
        raise RequestError(
            CONFLICT,
            f"nothing was deleted: trials of {format_names(names)} are still to go on from '{info.name}'. "
            "Finish or delete that study first",
        )
    for name, study_id in find_users(engine, info).items():
        if running_workers(engine, worker_table.c.study_id == study_id):
            raise RequestError(
                CONFLICT,
                f"nothing was deleted: trials of '{name}', which is running, start from weights of '{info.name}'. "
                f"Stop it first: {stop_command(engine, study_id)}",
            )


def find_extensions(engine: Engine, info: StudyInfo) -> dict[str, int]:
    """Return the other studies with a trial that has not copied its checkpoint from here yet, with their ids."""
    done = sa.select(trial_attrs.c.trial_id).where(trial_attrs.c.key == TOOK_OVER)
    rows = select_attrs(EXTENDS, info).where(trials.c.state.in_(OPEN), trials.c.trial_id.not_in(done))
    with engine.connect() as db:
        found = [(row.study_name, row.study_id, json.loads(row.value_json)) for row in db.execute(rows)]
    return {name: id for name, id, origin in found if (origin["study"], origin["key"]) == (info.name, info.key)}


def find_users(engine: Engine, info: StudyInfo) -> dict[str, int]:
    """Return the other studies with a trial whose recipe starts from weights of this one, with their ids."""
    words = [json.dumps(info.name)[1:-1], *filter(None, [info.key])]
    value = trial_attrs.c.value_json
    named = sa.or_(*(value.contains(word, autoescape=True) for word in words))
    rows = select_attrs("recipe", info).where(named)
    with engine.connect() as db:
        found = [(row.study_name, row.study_id, json.loads(row.value_json)) for row in db.execute(rows)]
    return {name: id for name, id, recipe in found if is_from(recipe.get("weights"), info)}


def select_attrs(key: str, but: StudyInfo) -> sa.Select[Any]:
    """Select name and id of the study and the value, for each trial of the other studies with this attribute."""
    both = trial_attrs.join(trials, trials.c.trial_id == trial_attrs.c.trial_id)
    tables = both.join(studies, studies.c.study_id == trials.c.study_id)
    chosen = sa.select(studies.c.study_name, studies.c.study_id, trial_attrs.c.value_json).select_from(tables)
    return chosen.where(trial_attrs.c.key == key, studies.c.study_id != but.id)


def is_from(weights: Any, info: StudyInfo) -> bool:
    """Return whether the weights of a stored recipe are those of a trial of the study, or one of its files."""
    name = str(weights.get("name") if isinstance(weights, dict) else weights)
    is_file = bool(info.key) and f"/{safe_name(info.name)}-{info.key}/" in name
    return is_file or (name not in BUILT_IN_WEIGHTS and name.partition("#")[0] == info.name)
