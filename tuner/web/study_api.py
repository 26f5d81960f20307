"""A study as the dashboard's page asks for it, every few seconds: what was said before is not made again.

optuna-dashboard reads all notes of a study for each answer and looks through all of them for each trial: minutes
for thousands of trials. Here a finished trial is put into JSON once, and only notes that are new are read.
"""

from __future__ import annotations

import gzip
import json
import re
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import sqlalchemy as sa
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from tuner.study.optuna_compat import trial_id
from tuner.study.optuna_tables import studies, study_system_attrs
from tuner.web.dashboard_compat import (
    SearchSpaces,
    frozen_study,
    serialize_study,
    serialize_study_without_trials,
    serialize_trial,
)
from tuner.web.wsgi import UNKNOWN, App, Environ, Start, answer, header_of, is_read, path_of, refuse

if TYPE_CHECKING:
    from optuna.storages import BaseStorage
    from sqlalchemy.engine import Engine

ADDRESS = re.compile(r"/api/studies/([0-9]{1,18})/?")
OF_TRIAL = re.compile(r"dashboard:(?:artifacts:)?([0-9]+):")  # what stands on the study and is a trial's
VERSION = "dashboard:{}:note_ver"
PREFERENTIAL = "preference:is_preferential"
MOST_NAMED = 50  # notes asked for one by one; beyond, all are read
NO_NOTE: dict[str, Any] = {}
SETTLES = 10.0  # seconds in which all of a note is surely written
LARGE = 100_000  # bytes from which on an answer is compressed


@dataclass
class Told:
    """What was told of a study."""

    notes: dict[int, dict[str, Any]] = field(default_factory=dict)  # by the trial's id, as the study holds them
    finished: dict[int, tuple[FrozenTrial, Any, bytes]] = field(default_factory=dict)  # with the note it had
    space: SearchSpaces | None = None
    shapes: set[Any] = field(default_factory=set)  # what that has seen already
    looked_at: dict[int, FrozenTrial] = field(default_factory=dict)  # finished, and known to be of these shapes
    was_read: bool = False  # what changes from now on has just been written
    unsettled: dict[int, float] = field(default_factory=dict)  # trials whose note has just changed, until when
    packed: tuple[bytes, bytes] = b"", b""  # the last large answer, and the same compressed
    lock: threading.Lock = field(default_factory=threading.Lock)

    def written_lately(self) -> dict[int, dict[str, Any]]:
        """The trials whose notes are read once more: a note's number is written before its text."""
        now = time.monotonic()
        self.unsettled = {trial: until for trial, until in self.unsettled.items() if until > now}
        return {trial: {} for trial in self.unsettled}


@dataclass(frozen=True)
class Studies:
    """A WSGI app that answers for the list of studies and for each, and leaves all else to the one behind."""

    app: App
    storage: BaseStorage
    engine: Engine
    told: dict[int, Told] = field(default_factory=dict)

    def __call__(self, environ: Environ, start: Start) -> Iterable[bytes]:
        path, after = path_of(environ), after_of(environ)
        if not is_read(environ) or after is None:
            return self.app(environ, start)
        if path.rstrip("/") == "/api/studies":
            return self.send(environ, start, self.listed(), Told())
        if not (found := ADDRESS.fullmatch(path)):
            return self.app(environ, start)
        study = int(found[1])
        told = self.told.setdefault(study, Told())
        try:
            with told.lock:
                if not self.is_plain(study):
                    return self.app(environ, start)
                return self.send(environ, start, self.tell(study, told, after), told)
        except KeyError:
            self.told.pop(study, None)
            return refuse(environ, start, UNKNOWN, f"study_id={study} is not found")

    def prepare(self, study: int) -> None:
        """Have it told once, so that whoever asks first need not wait."""
        if self.is_plain(study):
            told = self.told.setdefault(study, Told())
            with told.lock:
                self.tell(study, told, 0)

    def send(self, environ: Environ, start: Start, body: bytes, told: Told) -> Iterable[bytes]:
        headers = [("Cache-Control", "no-store"), ("Vary", "Accept-Encoding")]
        if len(body) >= LARGE and "gzip" in header_of(environ, "Accept-Encoding"):
            if told.packed[0] != body:
                told.packed = body, gzip.compress(body, compresslevel=1)
            body, headers = told.packed[1], [*headers, ("Content-Encoding", "gzip")]
        return answer(environ, start, body, "application/json", headers=headers)

    def is_plain(self, study: int) -> bool:
        """Whether it has one goal, given as a number: all that tuner makes."""
        return len(self.storage.get_study_directions(study)) == 1 and study not in self.preferential()

    def preferential(self) -> set[int]:
        query = sa.select(study_system_attrs.c.study_id).where(study_system_attrs.c.key == PREFERENTIAL)
        with self.engine.connect() as db:
            return set(db.scalars(query))

    def listed(self) -> bytes:
        odd = self.preferential()
        with self.engine.connect() as db:
            ids = list(db.scalars(sa.select(studies.c.study_id).order_by(studies.c.study_id)))
        found = []
        for study in ids:
            try:
                found.append(serialize_study(self.frozen(study, {PREFERENTIAL: True} if study in odd else {})))
            except KeyError:  # deleted meanwhile
                continue
        return json.dumps({"study_summaries": found}).encode()

    def frozen(self, study: int, system_attrs: dict[str, Any]) -> Any:
        return frozen_study(
            study,
            self.storage.get_study_name_from_id(study),
            self.storage.get_study_directions(study),
            self.storage.get_study_user_attrs(study),
            system_attrs,
        )

    def tell(self, study: int, told: Told, after: int) -> bytes:
        """The study with its trials from number `after` on."""
        trials = self.storage.get_all_trials(study, deepcopy=False)  # first: a note may be newer than its trial
        own = self.read_attrs(study, told)
        best = best_of(trials, self.storage.get_study_directions(study)[0])
        rest = serialize_study_without_trials(self.frozen(study, own), own, space_of(told, trials))
        said = [as_json(study, trial, told) for trial in trials[after:]]
        first = [as_json(study, best, told)] if best else []
        return b"".join(
            [
                b'{"trials": [',
                b", ".join(said),
                b'], "best_trials": [',
                *first,
                b"], ",
                json.dumps(rest).encode()[1:],
            ]
        )

    def read_attrs(self, study: int, told: Told) -> dict[str, Any]:
        """The study's own attributes; those that are about its trials go to `told.notes`."""
        key, value = study_system_attrs.c.key, study_system_attrs.c.value_json
        query = sa.select(key, value).where(study_system_attrs.c.study_id == study)
        texts: sa.ColumnElement[bool] = key.like("dashboard:%:note\\_str:%", escape="\\")
        own: dict[str, Any] = {}
        changed = told.written_lately()
        with self.engine.connect() as db:
            for name, text in db.execute(query.where(~texts)):
                if not (found := OF_TRIAL.match(name)):
                    own[name] = json.loads(text)
                    continue
                trial, plain = int(found[1]), json.loads(text)
                if told.notes.get(trial, {}).get(name, ...) != plain:
                    changed.setdefault(trial, {})[name] = plain
                    if told.was_read:
                        told.unsettled[trial] = time.monotonic() + SETTLES
            if changed and len(changed) <= MOST_NAMED:
                texts = sa.or_(*(key.like(f"dashboard:{trial}:note\\_str:%", escape="\\") for trial in changed))
            for name, text in db.execute(query.where(texts)) if changed else ():
                trial = int(name.split(":")[1])
                if trial in changed:
                    changed[trial][name] = json.loads(text)
        told.was_read = True
        for trial, found_attrs in changed.items():
            before = told.notes.get(trial, {})
            now = {k: v for k, v in before.items() if ":note_str:" not in k} | found_attrs
            if now != before:
                told.notes[trial] = now
        return own


def after_of(environ: Environ) -> int | None:
    """From which trial on; None where it is no number, which is optuna-dashboard's to refuse."""
    given = parse_qs(environ.get("QUERY_STRING", "")).get("after", ["0"])[-1]
    return int(given) if given.isascii() and given.isdecimal() and len(given) < 18 else None


def best_of(trials: list[FrozenTrial], direction: StudyDirection) -> FrozenTrial | None:
    ended = [trial for trial in trials if trial.state == TrialState.COMPLETE and trial.values]
    choose = max if direction == StudyDirection.MAXIMIZE else min
    return choose(ended, key=lambda trial: trial.values[0], default=None)


def as_json(study: int, trial: FrozenTrial, told: Told) -> bytes:
    """A trial with its note; one that is finished changes no more, but its note may."""
    attrs = told.notes.get(trial_id(trial), NO_NOTE)
    known = told.finished.get(trial_id(trial))
    if known and known[0] is trial and known[1] is attrs:
        return known[2]
    said = json.dumps(serialize_trial(study, trial, attrs)).encode()
    if trial.state.is_finished():
        told.finished[trial_id(trial)] = trial, attrs, said
    return said


def space_of(told: Told, trials: list[FrozenTrial]) -> SearchSpaces:
    """Return the parameters and attributes that all and that any trials have.

    Of trials that have the same form, only the first is added.
    """
    space = told.space = told.space or SearchSpaces()
    new: dict[Any, FrozenTrial] = {}
    for trial in trials:
        if told.looked_at.get(trial_id(trial)) is trial:
            continue
        if trial.state.is_finished():
            told.looked_at[trial_id(trial)] = trial
        if trial.distributions and (form := shape(trial)) not in told.shapes:
            new[form] = trial
    space.add(list(new.values()))
    told.shapes.update(new)
    return space


def shape(trial: FrozenTrial) -> Any:
    """All of a trial that counts in what trials have in common."""
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
