"""The storage of Optuna's studies for workers and the dashboard: cached, retried, and with a trial in memory."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

import optuna
import sqlalchemy as sa
from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage, RDBStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.engine import Engine

from tuner.errors import StorageError, format_names
from tuner.study import database, optuna_tables, queries, tables
from tuner.study.database import retried
from tuner.study.optuna_compat import trial_id as id_of
from tuner.study.paused import MARK, read_paused_attempts
from tuner.study.pending import ActiveTrial
from tuner.study.trial_reader import read_trial, read_trials
from tuner.wording import start_hint

P = ParamSpec("P")
T = TypeVar("T")


@dataclass
class StudyCache:
    """What was read of a study.

    Finished trials never change, and paused ones only when they are resumed; the others are read again each time.
    """

    finished: dict[int, FrozenTrial] = field(default_factory=dict)  # by id
    paused: dict[int, FrozenTrial] = field(default_factory=dict)
    unfinished: dict[int, FrozenTrial] = field(default_factory=dict)
    newest: int = -1  # the highest id of a finished or paused trial; one with a lower id is in one of the three
    name: str | None = None
    directions: list[StudyDirection] | None = None

    def update(self, engine: Engine, study_id: int) -> dict[int, FrozenTrial]:
        """Read what may have changed; return all trials by id."""
        again = {*self.unfinished, *self.changed(engine, study_id)}
        found = {id_of(trial): trial for trial in read_trials(engine, study_id, again, self.newest)}
        self.paused = {id: trial for id, trial in self.paused.items() if id not in again}
        self.paused |= {id: trial for id, trial in found.items() if MARK in trial.system_attrs}
        self.unfinished = {id: trial for id, trial in found.items() if not trial.state.is_finished()}
        ended = found.keys() - self.paused.keys() - self.unfinished.keys()
        self.finished |= {id: found[id] for id in ended}
        self.newest = max(max(self.finished, default=-1), max(self.paused, default=-1))
        return self.finished | self.paused | self.unfinished

    def changed(self, engine: Engine, study_id: int) -> list[int]:
        """Return the ids of trials that were resumed since they were read as paused, or ended for good."""
        if not self.paused:
            return []
        now = read_paused_attempts(engine, study_id)
        return [id for id, trial in self.paused.items() if now.get(id) != trial.system_attrs[MARK]["attempt"]]


def delegate(
    method: Callable[Concatenate[RDBStorage, P], T],
) -> Callable[Concatenate[StudyStorage, P], T]:
    """Return a method that calls one of RDBStorage, and again while the database is away."""
    retrying = retried(method)

    @wraps(method)
    def call(storage: StudyStorage, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return retrying(storage.rdb, *args, **kwargs)

    return call


class StudyStorage(BaseStorage):
    """Studies in a database that other processes change too.

    Methods retry while the database is away. Trials are read with two queries and finished ones only once. Writes
    to the worker's active trial change it in memory and become pending; other writes go to the database.
    """

    def __init__(self, rdb: RDBStorage) -> None:
        self.rdb = rdb
        self.active: ActiveTrial | None = None
        self.unwritten: dict[int, ActiveTrial] = {}  # by id: own trials whose end is not written yet
        self.caches: dict[int, StudyCache] = {}  # by study
        self.distributions: dict[str, BaseDistribution] = {}  # of the parameters of active trials
        self.lock = threading.Lock()  # held while a cache is updated

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self.lock = threading.Lock()

    # Studies

    create_new_study = delegate(RDBStorage.create_new_study)
    get_all_studies = delegate(RDBStorage.get_all_studies)
    get_study_id_from_name = delegate(RDBStorage.get_study_id_from_name)
    get_study_user_attrs = delegate(RDBStorage.get_study_user_attrs)
    set_study_user_attr = delegate(RDBStorage.set_study_user_attr)

    def delete_study(self, study_id: int) -> None:
        self.caches.pop(study_id, None)
        retried(self.rdb.delete_study)(study_id)

    def get_study_name_from_id(self, study_id: int) -> str:
        cache = self.caches.setdefault(study_id, StudyCache())
        cache.name = cache.name or retried(self.rdb.get_study_name_from_id)(study_id)
        return cache.name

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        cache = self.caches.setdefault(study_id, StudyCache())
        cache.directions = cache.directions or retried(self.rdb.get_study_directions)(study_id)
        return cache.directions

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        """Return the attributes; during the first attempt of the active trial those that it wrote.

        The notes of all trials for the dashboard are among them, which are megabytes.
        """
        active = self.active
        if active is not None and active.attempt == 1:
            return dict(active.dashboard_notes)
        stored = retried(self.rdb.get_study_system_attrs)(study_id)
        return stored | active.dashboard_notes if active else stored

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        if active := self.active:
            active.set_dashboard_note(key, value)  # the dashboard's note on a trial is an attribute of the study
        else:
            retried(self.rdb.set_study_system_attr)(study_id, key, value)

    # Trials

    create_new_trial = delegate(RDBStorage.create_new_trial)
    get_trial_id_from_study_id_trial_number = delegate(RDBStorage.get_trial_id_from_study_id_trial_number)

    def find_active(self, trial_id: int) -> ActiveTrial | None:
        active = self.active  # another thread may reset it
        return active if active is not None and active.id == trial_id else None

    def get_trial(self, trial_id: int) -> FrozenTrial:
        if active := self.find_active(trial_id):
            return active.frozen
        for cache in list(self.caches.values()):
            if trial_id in cache.finished:
                return cache.finished[trial_id]
        return read_trial(self.rdb.engine, trial_id)

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        own = [*self.unwritten.values(), self.active]  # first: an end may be written while trials are read
        with self.lock:
            trials = self.caches.setdefault(study_id, StudyCache()).update(self.rdb.engine, study_id)
        trials |= {active.id: active.frozen for active in own if active is not None and active.id in trials}
        found = [trials[trial_id] for trial_id in sorted(trials)]
        if states is not None:
            found = [trial for trial in found if trial.state in states]
        return copy.deepcopy(found) if deepcopy else found

    def set_trial_param(
        self, trial_id: int, param_name: str, param_value_internal: float, distribution: BaseDistribution
    ) -> None:
        if active := self.find_active(trial_id):
            optuna.distributions.check_distribution_compatibility(
                self.first_distribution(param_name, distribution), distribution
            )
            active.set_param(param_name, param_value_internal, distribution)
        else:
            retried(self.rdb.set_trial_param)(trial_id, param_name, param_value_internal, distribution)

    def first_distribution(self, name: str, new: BaseDistribution) -> BaseDistribution:
        """Return a parameter's distribution in earlier trials: choices must not change within a study."""
        if name not in self.distributions:
            trials = (
                trial
                for cache in list(self.caches.values())
                for trial in (*cache.finished.values(), *cache.paused.values(), *cache.unfinished.values())
            )
            earlier = (trial.distributions[name] for trial in trials if name in trial.distributions)
            self.distributions[name] = next(earlier, new)
        return self.distributions[name]

    def forget_params(self, trial_id: int) -> None:
        """Remove the parameters of the active trial, which are to be sampled again."""
        active = self.find_active(trial_id)
        assert active is not None
        active.forget_params()

    def set_trial_intermediate_value(self, trial_id: int, step: int, intermediate_value: float) -> None:
        if active := self.find_active(trial_id):
            active.set_intermediate_value(step, intermediate_value)
        else:
            retried(self.rdb.set_trial_intermediate_value)(trial_id, step, intermediate_value)

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        if active := self.find_active(trial_id):
            active.set_user_attr(key, value)
        else:
            retried(self.rdb.set_trial_user_attr)(trial_id, key, value)

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        if active := self.find_active(trial_id):
            active.set_system_attr(key, value)
        else:
            retried(self.rdb.set_trial_system_attr)(trial_id, key, value)

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        assert self.find_active(trial_id) is None, "the end of the active trial is a pending write"
        return retried(self.rdb.set_trial_state_values)(trial_id, state, values)


def open_storage(url: str) -> tuple[StudyStorage, Engine]:
    """Return the storage and its engine; tables are created or migrated if necessary, under a lock.

    From here on Optuna logs warnings only: ours tell of each study and trial.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    engine = database.connect(url)
    try:
        rdb = (open_rdb(url) if is_ready(engine) else None) or create_tables(engine, url)
    finally:
        engine.dispose()
    database.use_write_ahead_log(rdb.engine)
    rdb.engine.dispose()  # so that every connection from here on has the settings
    return StudyStorage(rdb), rdb.engine


def is_ready(engine: Engine) -> bool:
    """Return whether our tables are current and Optuna's exist: then most workers need not wait for the lock."""
    ours = sa.select(tables.meta_table.c.value).where(tables.meta_table.c.name == "schema")
    try:
        with engine.connect() as db:
            return db.scalar(ours) == str(tables.SCHEMA) and None not in optuna_tables.read_versions(db)
    except sa.exc.DBAPIError:
        return False


def open_rdb(url: str) -> RDBStorage | None:
    """Open Optuna's existing tables; None if they are of another version of Optuna."""
    rdb = make_rdb(url, is_new=False)
    if rdb.get_current_version() == rdb.get_head_version():
        return rdb
    rdb.engine.dispose()
    return None


def make_rdb(url: str, is_new: bool) -> RDBStorage:
    parsed = database.parse_url(url)
    template = database.render_url(url).replace("{", "{{").replace("}", "}}")  # RDBStorage formats it
    try:
        return RDBStorage(
            template,
            engine_kwargs=database.engine_options(parsed),
            skip_table_creation=not is_new,
            skip_compatibility_check=not is_new,
        )
    except optuna.exceptions.StorageInternalError as error:
        raise error.__cause__ or error from None


def create_tables(engine: Engine, url: str) -> RDBStorage:
    """Create or migrate the tables, one process at a time; StorageError if the database belongs to others."""
    with database.convert_errors(url), database.creation_lock(engine, url):
        database.refuse_foreign_tables(engine, url)
        refuse_versions(engine, url)
        tables.refuse_newer(engine)
        rdb = make_rdb(url, is_new=True)
        tables.create(engine)
    return rdb


def refuse_versions(engine: Engine, url: str) -> None:
    """Raise StorageError if the tables are of another Optuna, before this one adds tables that it misses."""
    names = sa.inspect(engine).get_table_names()
    if "alembic_version" not in names or "version_info" not in names:
        return
    with engine.connect() as db:
        found, made_by = optuna_tables.read_versions(db)
    if found is None or made_by is None:
        return  # their creation was cut short
    rdb = make_rdb(url, is_new=False)
    known = rdb.get_all_versions()
    rdb.engine.dispose()
    if found == known[0]:
        return
    where = database.hide_password(url)
    here = f"{where} was set up by Optuna {made_by} (schema {found}); this is {optuna.__version__}"
    if found in known:
        raise StorageError(
            f"{here} (schema {known[0]}). Nothing was changed. Give tuner a new database, or keep a copy of this "
            "one and bring it up to date: optuna storage upgrade --storage URL"
        )
    raise StorageError(
        f"{here}, which does not know that schema: a newer Optuna made it, or another program shares the "
        "database. Nothing was changed. Install that Optuna, or give tuner a database of its own."
    )


def init(url: str) -> list[str]:
    """Create or migrate all tables; return lines that describe the database.

    Other processes that do the same meanwhile wait. StorageError if the database belongs to another program or
    has tables of another version; then nothing is changed.
    """
    _, engine = open_storage(url)
    try:
        with database.convert_errors(url), engine.connect() as db:
            server = ".".join(str(part) for part in db.dialect.server_version_info or ())
            revision, _ = optuna_tables.read_versions(db)
            schema, made_by = tables.schema(engine) or (tables.SCHEMA, "another tuner")
            names = [study.name for study in queries.read_studies(engine)]
    finally:
        engine.dispose()
    kind = "mariadb" if getattr(engine.dialect, "is_mariadb", False) else engine.dialect.name
    optunas = f"schema {revision} (Optuna {optuna.__version__})"
    return [
        f"{database.hide_password(url)} is ready: {kind} {server}",
        f"tables: Optuna's of {optunas}, tuner's of schema {schema} (made by {made_by})",
        f"studies: {format_names(names, 8)}" if names else f"studies: none yet. {start_hint()}",
    ]
