"""Optuna's storage as we use it: patient, cached, and with the worker's own trial held in memory."""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Container, Sequence
from functools import cache
from typing import Any

import optuna
import sqlalchemy as sa
from alembic.script import ScriptDirectory
from optuna.distributions import BaseDistribution, check_distribution_compatibility, distribution_to_json
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.engine import Engine

from tuner.errors import StorageError, format_names
from tuner.study import database, optuna_tables, queries, tables
from tuner.study.optuna_compat import CachedStorage, PatientStorage, alembic_folder, cached_distribution
from tuner.study.pending import ActiveTrial
from tuner.study.trial_reader import read_trials


class HoldingStorage(CachedStorage):
    """Reads from the database, writes about the held trial to its page.

    Whoever sets something on another trial than the one held writes through to the database.
    """

    def __init__(self, backend: RDBStorage) -> None:
        super().__init__(backend)
        self.held: ActiveTrial | None = None
        self.unwritten: dict[int, FrozenTrial] = {}  # by number: own trials whose end is not written yet
        self.kinds: dict[str, BaseDistribution] = {}  # of every parameter met so far

    def of(self, trial_id: int) -> ActiveTrial | None:
        held = self.held  # another thread may let go of it
        return held if held is not None and held.id == trial_id else None

    def get_trial(self, trial_id: int) -> FrozenTrial:
        held = self.of(trial_id)
        return held.frozen if held else super().get_trial(trial_id)

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """All trials, this worker's own as they are in memory."""
        mine, held = dict(self.unwritten), self.held  # before the others: an end may be written just now
        if held is not None:
            mine[held.number] = held.frozen
        if not mine:
            return super().get_all_trials(study_id, deepcopy, states)
        found = super().get_all_trials(study_id, deepcopy)  # a list of their numbers' order, made for us
        for number, frozen in mine.items():
            at = bisect_left(found, number, key=lambda trial: trial.number)
            if at < len(found) and found[at].number == number:
                found[at] = frozen
        return found if states is None else [trial for trial in found if trial.state in states]

    def set_trial_param(
        self, trial_id: int, param_name: str, param_value_internal: float, distribution: BaseDistribution
    ) -> None:
        held = self.of(trial_id)
        if held is None:
            return super().set_trial_param(trial_id, param_name, param_value_internal, distribution)
        check_distribution_compatibility(self.kind_of(param_name, distribution), distribution)
        with held.lock:
            held.frozen.params[param_name] = distribution.to_external_repr(param_value_internal)
            held.frozen.distributions[param_name] = distribution
            held.pending.params[param_name] = param_value_internal, distribution_to_json(distribution)

    def forget_params(self, trial_id: int) -> None:
        """Have the parameters of the held trial drawn anew; call it before anything of them is written."""
        held = self.of(trial_id)
        assert held is not None and held.is_choosing
        with held.lock:
            held.frozen.params.clear()
            held.frozen.distributions.clear()
            held.pending.params.clear()

    def kind_of(self, name: str, new: BaseDistribution) -> BaseDistribution:
        """What a parameter was in the trials read so far: its choices cannot change within a study."""
        if name not in self.kinds:
            self.kinds[name] = cached_distribution(self, name) or new
        return self.kinds[name]

    def set_trial_intermediate_value(self, trial_id: int, step: int, intermediate_value: float) -> None:
        held = self.of(trial_id)
        if held is None:
            return super().set_trial_intermediate_value(trial_id, step, intermediate_value)
        with held.lock:
            held.frozen.intermediate_values[step] = intermediate_value
            held.pending.values[step] = intermediate_value

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        held = self.of(trial_id)
        if held is None:
            return super().set_trial_user_attr(trial_id, key, value)
        with held.lock:
            held.frozen.user_attrs[key] = value
            held.pending.attrs[key] = json.dumps(value)

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        held = self.of(trial_id)
        if held is None:
            return super().set_trial_system_attr(trial_id, key, value)
        with held.lock:
            held.frozen.system_attrs[key] = value
            if key.startswith("tpe:relative_params"):
                return None  # tells other workers what is about to be suggested; the parameters do so in a moment
            held.pending.system_attrs[key] = json.dumps(value)

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        """The dashboard keeps the note of a trial here; each would be two transactions."""
        held = self.held
        if held is None:
            return super().set_study_system_attr(study_id, key, value)
        with held.lock:
            held.dashboard_notes[key] = value
            held.pending.dashboard_notes[key] = json.dumps(value)

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        """While a trial is held for the first time, its own note alone: those of all others are megabytes."""
        held = self.held
        if held is not None and held.attempt == 1:
            return dict(held.dashboard_notes)
        return super().get_study_system_attrs(study_id) | (held.dashboard_notes if held else {})

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        assert self.of(trial_id) is None, "the end of a held trial is written by its desk"
        return super().set_trial_state_values(trial_id, state, values)


def open_storage(url: str) -> tuple[HoldingStorage, Engine]:
    """Optuna's storage on `url` and its engine; tables are created once, under a lock.

    The trial cache is put on by hand: `get_storage` would open a second pool without our settings.
    """
    engine = database.reach(url)
    try:
        rdb = open_rdb(url, is_new=False) if is_ready(engine) else set_up(engine, url)
    finally:
        engine.dispose()
    database.set_up(rdb.engine)
    rdb.engine.dispose()  # so that every connection from here on has the settings
    return HoldingStorage(rdb), rdb.engine


def set_up(engine: Engine, url: str) -> RDBStorage:
    """Make what is missing, one at a time over all hosts; StorageError where it is not ours to touch."""
    with database.told(url), database.creation_lock(engine, url):
        database.refuse_strangers(engine, url)
        refuse_versions(engine, url)
        tables.refuse_newer(engine)
        rdb = open_rdb(url, is_new=True)
        tables.create(engine)
    return rdb


def is_ready(engine: Engine) -> bool:
    """Whether all is there and of our versions: most workers find it so, and need not wait for a lock."""
    ours = sa.select(tables.meta_table.c.value).where(tables.meta_table.c.name == "schema")
    try:
        with engine.connect() as db:
            is_ours = db.scalar(ours) == str(tables.SCHEMA)
            return is_ours and optuna_tables.read_versions(db)[0] == revisions()[0]
    except sa.exc.DBAPIError:
        return False


@cache
def revisions() -> list[str]:
    """The schemas that this Optuna knows, the newest first."""
    return [revision.revision for revision in ScriptDirectory(str(alembic_folder())).walk_revisions()]


def open_rdb(url: str, is_new: bool) -> RDBStorage:
    """Optuna's storage; braces in a URL would be filled in as a template."""
    parsed = database.parse(url)
    plain = parsed.render_as_string(hide_password=False).replace("{", "{{").replace("}", "}}")
    try:
        return PatientStorage(
            plain,
            read_trials,
            engine_kwargs=database.engine_options(parsed),
            skip_table_creation=not is_new,
            skip_compatibility_check=not is_new,
        )
    except optuna.exceptions.StorageInternalError as error:
        raise error.__cause__ or error from None


def refuse_versions(engine: Engine, url: str) -> None:
    """The schema must be this Optuna's, and is looked at before Optuna adds the tables it misses."""
    tables = sa.inspect(engine).get_table_names()
    if "alembic_version" not in tables or "version_info" not in tables:
        return
    with engine.connect() as db:
        found, made_by = optuna_tables.read_versions(db)
    known = revisions()
    if found is None or found == known[0]:
        return
    here = f"{database.shown(url)} was set up by Optuna {made_by} (schema {found}); this is {optuna.__version__}"
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
    """Make all tables, once, under a lock, and tell in lines what is there now.

    Whoever comes second, on this host or another, waits and finds them made. A database that holds another
    program's tables, or those of another version, is refused before a change.
    """
    _, engine = open_storage(url)
    try:
        with database.told(url):
            return [f"{database.shown(url)} is ready: {server(engine)}", versions(engine), studies(engine)]
    finally:
        engine.dispose()


def server(engine: Engine) -> str:
    """What kind of database it is, and which version."""
    with engine.connect() as db:
        number = ".".join(str(part) for part in db.dialect.server_version_info or ())
    return f"{'mariadb' if getattr(engine.dialect, 'is_mariadb', False) else engine.dialect.name} {number}"


def versions(engine: Engine) -> str:
    """Of the tables, and of who works on them here."""
    with engine.connect() as db:
        schema, _ = optuna_tables.read_versions(db)
    number, made_by = tables.schema(engine) or (tables.SCHEMA, "another tuner")
    optunas = f"schema {schema} (Optuna {optuna.__version__})"
    return f"tables: Optuna's of {optunas}, tuner's of schema {number} (made by {made_by})"


def studies(engine: Engine) -> str:
    """The studies in it, by name."""
    names = [study.name for study in queries.read_studies(engine)]
    return (
        f"studies: {format_names(names, 8)}" if names else "studies: none yet. Begin one: tuner run --space unet_k"
    )
