"""The API for studies that the dashboard's page calls every few seconds, answered from a cache.

For each answer, optuna-dashboard reads all notes of a study and searches all of them for each trial, which takes
minutes for thousands of trials. Here a finished trial is serialized once, and only new notes are read.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

import sqlalchemy as sa
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.engine import Engine

from tuner.paths import format_json
from tuner.study.optuna_compat import trial_id
from tuner.study.optuna_tables import studies, study_system_attrs
from tuner.web import wsgi
from tuner.web.dashboard_compat import (
    SearchSpaces,
    frozen_study,
    get_pareto_front_trials,
    serialize_study,
    serialize_study_without_trials,
    serialize_trial,
)
from tuner.web.importances import ImportanceAnswers
from tuner.web.wsgi import App, Environ, StartResponse

ADDRESS = re.compile(r"/api/studies/([0-9]{1,18})/?")
IMPORTANCES = re.compile(r"/api/studies/([0-9]{1,18})/param_importances/?")
TRIAL_KEY = re.compile(r"dashboard:(?:artifacts:)?([0-9]+):")  # of attributes of the study that belong to a trial
PREFERENTIAL = "preference:is_preferential"
MAX_SINGLE_NOTES = 50  # notes read one by one; if more have changed, all are read
IN_NOTE = ("recipe",)  # attributes of a trial that its note shows in a readable way, and the page not again
NO_NOTE: dict[str, Any] = {}
SETTLE_SECONDS = 10.0  # after which a note is completely written


@dataclass
class StudyAnswers:
    """The answers about one study so far, and what they were made from."""

    notes: dict[int, dict[str, Any]] = field(default_factory=dict)  # by trial id, as stored on the study
    finished: dict[int, tuple[FrozenTrial, Any, bytes]] = field(default_factory=dict)  # trial, its note, its JSON
    space: SearchSpaces = field(default_factory=SearchSpaces)
    forms: set[Any] = field(default_factory=set)  # of the trials added to `space`
    known: dict[int, FrozenTrial] = field(default_factory=dict)  # finished trials whose form is in `forms`
    was_read: bool = False  # attributes that change from now on have just been written
    unsettled: dict[int, float] = field(default_factory=dict)  # trials whose note has just changed -> until when
    lock: threading.Lock = field(default_factory=threading.Lock)

    def take_unsettled(self) -> dict[int, dict[str, Any]]:
        """Return an empty note for each trial to read again: its note's number is written before its text."""
        now = time.monotonic()
        self.unsettled = {trial: until for trial, until in self.unsettled.items() if until > now}
        return {trial: {} for trial in self.unsettled}


@dataclass(frozen=True)
class StudyApi:
    """Answers requests for the list of studies, single studies and importances; passes others on to `app`."""

    app: App
    storage: BaseStorage
    engine: Engine
    caches: dict[int, StudyAnswers] = field(default_factory=dict)  # by study id
    importances: ImportanceAnswers = field(default_factory=ImportanceAnswers)

    def __call__(self, environ: Environ, start: StartResponse) -> Iterable[bytes]:
        path, after = wsgi.request_path(environ), parse_after(environ)
        if not wsgi.is_read_request(environ) or after is None:
            if match := ADDRESS.fullmatch(path):
                self.forget(int(match[1]))  # SQLite may give the id of a deleted study to the next one
            return self.app(environ, start)
        if path.rstrip("/") == "/api/studies":
            return wsgi.respond_json(environ, start, self.list_studies())
        if match := IMPORTANCES.fullmatch(path):
            answer = self.importances.answer(self.engine, int(match[1]))
            return self.app(environ, start) if answer is None else wsgi.respond_json(environ, start, answer)
        if not (match := ADDRESS.fullmatch(path)):
            return self.app(environ, start)
        study = int(match[1])
        cache = self.caches.setdefault(study, StudyAnswers())
        try:
            with cache.lock:
                if not self.is_plain(study):
                    return self.app(environ, start)
                return wsgi.respond_json(environ, start, self.serialize(study, cache, after))
        except KeyError:
            self.caches.pop(study, None)
            return wsgi.respond_error(environ, start, wsgi.NOT_FOUND, f"study_id={study} is not found")

    def forget(self, study: int) -> None:
        self.caches.pop(study, None)
        self.importances.known.pop(study, None)

    def prepare(self, study: int) -> None:
        if self.is_plain(study):
            cache = self.caches.setdefault(study, StudyAnswers())
            with cache.lock:
                self.serialize(study, cache, 0)

    def is_plain(self, study: int) -> bool:
        """Return whether a study exists and has no preferences, as all studies of tuner."""
        return bool(self.storage.get_study_directions(study)) and study not in self.preferential_ids()

    def preferential_ids(self) -> set[int]:
        query = sa.select(study_system_attrs.c.study_id).where(study_system_attrs.c.key == PREFERENTIAL)
        with self.engine.connect() as db:
            return set(db.scalars(query))

    def list_studies(self) -> bytes:
        preferential = self.preferential_ids()
        with self.engine.connect() as db:
            ids = list(db.scalars(sa.select(studies.c.study_id).order_by(studies.c.study_id)))
        found = []
        for study in ids:
            attrs = {PREFERENTIAL: True} if study in preferential else {}
            try:
                found.append(serialize_study(frozen_study(self.storage, study, attrs)))
            except KeyError:  # deleted meanwhile
                continue
        return format_json({"study_summaries": found}).encode()

    def serialize(self, study: int, cache: StudyAnswers, after: int) -> bytes:
        """Return the JSON of a study with its trials from number `after` on."""
        trials = self.storage.get_all_trials(study, deepcopy=False)  # first: a note may be newer than its trial
        own = self.read_attrs(study, cache)
        best = best_trials(trials, self.storage.get_study_directions(study))
        frozen, space = frozen_study(self.storage, study, own), collect_space(cache, trials)
        rest = serialize_study_without_trials(frozen, own, space)
        rest["union_user_attrs"] = [one for one in rest["union_user_attrs"] if one["key"] not in IN_NOTE]
        listed = b", ".join(trial_json(study, trial, cache) for trial in trials[after:])
        first = b", ".join(trial_json(study, trial, cache) for trial in best)
        return b'{"trials": [%b], "best_trials": [%b], %b' % (listed, first, format_json(rest).encode()[1:])

    def read_attrs(self, study: int, cache: StudyAnswers) -> dict[str, Any]:
        """Return the study's own attributes; store those that belong to its trials in `cache.notes`."""
        key, value = study_system_attrs.c.key, study_system_attrs.c.value_json
        query = sa.select(key, value).where(study_system_attrs.c.study_id == study)
        texts: sa.ColumnElement[bool] = key.like("dashboard:%:note\\_str:%", escape="\\")
        own: dict[str, Any] = {}
        changed = cache.take_unsettled()
        with self.engine.connect() as db:
            for name, text in db.execute(query.where(~texts)):
                if not (match := TRIAL_KEY.match(name)):
                    own[name] = json.loads(text)
                    continue
                trial, plain = int(match[1]), json.loads(text)
                if cache.notes.get(trial, {}).get(name, ...) != plain:
                    changed.setdefault(trial, {})[name] = plain
                    if cache.was_read:
                        cache.unsettled[trial] = time.monotonic() + SETTLE_SECONDS
            if changed and len(changed) <= MAX_SINGLE_NOTES:
                texts = sa.or_(*(key.like(f"dashboard:{trial}:note\\_str:%", escape="\\") for trial in changed))
            for name, text in db.execute(query.where(texts)) if changed else ():
                trial = int(name.split(":")[1])
                if trial in changed:
                    changed[trial][name] = json.loads(text)
        cache.was_read = True
        for trial, new_attrs in changed.items():
            before = cache.notes.get(trial, {})
            now = {k: v for k, v in before.items() if ":note_str:" not in k} | new_attrs
            if now != before:
                cache.notes[trial] = now
        return own


def parse_after(environ: Environ) -> int | None:
    """Return the query parameter `after`; None if it is not a whole number."""
    given = parse_qs(environ.get("QUERY_STRING", ""), keep_blank_values=True).get("after", ["0"])[-1]
    return int(given) if given.isascii() and given.isdecimal() and len(given) < 18 else None


def best_trials(trials: list[FrozenTrial], directions: list[StudyDirection]) -> list[FrozenTrial]:
    """Return the best trial, with several goals those of the front."""
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE and trial.values]
    if len(directions) > 1:
        return list(get_pareto_front_trials(trials=complete, directions=directions))
    choose = max if directions[0] == StudyDirection.MAXIMIZE else min
    best = choose(complete, key=lambda trial: trial.values[0], default=None)
    return [best] if best else []


def trial_json(study: int, trial: FrozenTrial, cache: StudyAnswers) -> bytes:
    """Return the JSON of a trial with its note, serialized again only if one of the two has changed."""
    attrs = cache.notes.get(trial_id(trial), NO_NOTE)
    known = cache.finished.get(trial_id(trial))
    if known and known[0] is trial and known[1] is attrs:
        return known[2]
    constraints = {"constraints": list(trial.constraints.values())}  # which optuna-dashboard reads elsewhere
    plain = serialize_trial(study, trial, attrs)
    if attrs:
        plain["user_attrs"] = [one for one in plain["user_attrs"] if one["key"] not in IN_NOTE]
    text = format_json(plain | constraints).encode()
    if trial.state.is_finished():
        cache.finished[trial_id(trial)] = trial, attrs, text
    return text


def collect_space(cache: StudyAnswers, trials: list[FrozenTrial]) -> SearchSpaces:
    """Return what all and what any trials have. Of trials with the same form, only the first is added."""
    new: dict[Any, FrozenTrial] = {}
    for trial in trials:
        if cache.known.get(trial_id(trial)) is trial:
            continue
        if trial.state.is_finished():
            cache.known[trial_id(trial)] = trial
        if trial.distributions and (form := trial_form(trial)) not in cache.forms:
            new[form] = trial
    cache.space.add(list(new.values()))
    cache.forms.update(new)
    return cache.space


def trial_form(trial: FrozenTrial) -> Any:
    """Return everything of a trial that affects what trials have in common."""
    attrs = (
        (name, isinstance(value, int | float) and not isinstance(value, bool))
        for name, value in trial.user_attrs.items()
    )
    return (
        trial.state == TrialState.FAIL,
        bool(trial.intermediate_values),
        tuple(attrs),
        tuple(trial.distributions.items()),
    )
