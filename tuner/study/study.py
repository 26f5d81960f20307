"""Create a study or join an existing one; SpaceChanged if its space differs."""

from __future__ import annotations

import json
import logging
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import optuna
from sqlalchemy.engine import Engine

from tuner.errors import BULLET, SpaceChanged, StudyError
from tuner.space.fixed_points import RecipeSample
from tuner.space.rungs import format_rung
from tuner.space.space import describe_parameter
from tuner.study import claims, database
from tuner.study.earlier import PREFIX, read_earlier
from tuner.study.info import StudyInfo
from tuner.study.optuna_tables import numbered_key
from tuner.study.recipe_samples import StoredSample, add_sample
from tuner.study.storage import StudyStorage, open_storage

log = logging.getLogger("tuner")


@dataclass(frozen=True)
class JoinedStudy:
    """A study that this process has joined, with its database engine."""

    study: optuna.Study
    storage: StudyStorage
    engine: Engine
    info: StudyInfo

    @property
    def id(self) -> int:
        return self.info.id


def join_study(url: str, info: StudyInfo, sample: RecipeSample | None = None) -> JoinedStudy:
    """Create the study, or join it after comparing what it is of; StudyError or SpaceChanged if it differs.

    `sample` are recipes of its space, which are stored with a new study.

    A lock in the database admits one process at a time, so that a study is created whole.
    """
    storage, engine = open_storage(url)
    with dispose_on_error(engine), database.convert_errors(url), database.creation_lock(engine, url):
        try:
            directions: list[Any] = [goal.direction for goal in info.goals]
            study = optuna.create_study(storage=storage, study_name=info.name, directions=directions)
            is_new = True
        except optuna.exceptions.DuplicatedStudyError:
            study = optuna.load_study(study_name=info.name, storage=storage)
            is_new = not study.user_attrs and not study.get_trials(deepcopy=False)  # its creation was cut short
        study_id = storage.get_study_id_from_name(info.name)
        claims.ensure_study_row(engine, study_id, is_new)
        if is_new:
            info = replace(info, key=uuid.uuid4().hex[:6], id=study_id)
            for place, earlier in enumerate(info.earlier):
                storage.set_study_system_attr(study_id, numbered_key(PREFIX, place), earlier.to_json())
            if sample:
                add_sample(storage, study_id, 0, StoredSample(sample))
            write_info(study, info)
            return JoinedStudy(study, storage, engine, info)
        stored = read_info(study, study_id, engine)
        check_unchanged(stored, info)
        kept = {name: getattr(stored, name) for name in ("seed", "split", "key", "artifacts", "id", "earlier")}
        info = replace(info, **kept)
        if info.search.sampler != stored.search.sampler:
            log.warning(
                "new trials are chosen by %s from here on, before by %s",
                *(each.search.sampler for each in (info, stored)),
            )
        if info.search != stored.search:
            write_info(study, info)
        return JoinedStudy(study, storage, engine, info)


def rejoin_study(url: str, name: str) -> JoinedStudy:
    """Open an existing study in a worker; the process that started the worker has compared what it is of."""
    storage, engine = open_storage(url)
    with dispose_on_error(engine), database.convert_errors(url):
        try:
            study = optuna.load_study(study_name=name, storage=storage)
        except KeyError:
            raise StudyError(f"study '{name}' was deleted meanwhile; there is nothing left to do.") from None
        return JoinedStudy(study, storage, engine, read_info(study, storage.get_study_id_from_name(name), engine))


@contextmanager
def dispose_on_error(engine: Engine) -> Iterator[None]:
    try:
        yield
    except BaseException:
        engine.dispose()
        raise


def write_info(study: optuna.Study, info: StudyInfo) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names([goal.metric for goal in info.goals])
    study.set_user_attr("tuner", info.to_json())


def set_artifact_store(joined: JoinedStudy, given: str) -> str:
    """Return where the study keeps checkpoints and pictures. The first location given is stored and stays."""
    stored = joined.info.artifacts
    if given and stored and given != stored:
        raise StudyError(
            f"study '{joined.study.study_name}' keeps its artifacts in {stored}; --artifacts gave {given}. "
            "Leave the option out, or start another study with --study NAME."
        )
    if given and not stored:
        write_info(joined.study, replace(joined.info, artifacts=given))
    return given or stored


def read_info(study: optuna.Study, study_id: int, engine: Engine) -> StudyInfo:
    """Return what a study is of, with what it learns from; StudyError if tuner did not create it."""
    plain = study.user_attrs.get("tuner")
    if plain is None:
        raise StudyError(f"study '{study.study_name}' was not created by tuner. Choose another name with --study.")
    with engine.connect() as db:
        earlier = read_earlier(db, study_id)
    return replace(StudyInfo.from_json(study_id, study.study_name, plain), earlier=earlier)


def check_unchanged(old: StudyInfo, new: StudyInfo, is_quiet: bool = False) -> None:
    """Raise SpaceChanged with everything that differs. Other bounds of a number are allowed."""
    changed = [
        f"{what}: from {before} to {after}"
        for what, before, after in (
            ("space", old.space, new.space),
            ("data", old.data, new.data),
            ("goal", old.goal_text, new.goal_text),
            ("rehearsal", old.rehearsal, new.rehearsal),
            ("trials", old.source, new.source),
            ("shrink", old.shrink, new.shrink),
            ("shorten", old.shorten, new.shorten),
            ("layout", old.layout or "not given", new.layout or "not given"),
            ("each", old.each or "none", new.each or "none"),
            *search_changes(old, new),
            *limit_changes(old, new),
        )
        if before != after
    ]
    names = (
        old.parameters.keys() & new.parameters if new.has_given_trials else old.parameters.keys() | new.parameters
    )
    for parameter in sorted(names):  # given trials may have parameters of their own
        before, after = old.parameters.get(parameter), new.parameters.get(parameter)
        if before is None or after is None or fixed_properties(before) != fixed_properties(after):
            changed.append(
                f"parameter '{parameter}': from {describe_parameter(before) if before else 'absent'} "
                f"to {describe_parameter(after) if after else 'absent'}"
            )
        elif before != after and not is_quiet:
            log.warning(
                "%s: the bounds are now %s (the study began with %s)",
                parameter,
                describe_parameter(after),
                describe_parameter(before),
            )
    if changed:
        raise SpaceChanged(
            f"study '{new.name}' began with another space:"
            + "".join(f"\n{BULLET}{line}" for line in changed)
            + "\nRestore it to continue the study, or start a new one with --study NAME."
        )


def search_changes(old: StudyInfo, new: StudyInfo) -> Iterator[tuple[str, object, object]]:
    """Yield settings of the search that must not change, with both values.

    Another sampler learns from the trials that there are; but a grid is the whole study. Another pruning or other
    rungs would compare new trials with earlier ones that were judged otherwise.
    """
    before, after = old.search, new.search
    if "grid" in (before.sampler, after.sampler):
        yield "sampler", before.sampler, after.sampler
        for name in dict.fromkeys([*before.grid, *after.grid]):
            yield f"grid of {name}", before.grid.get(name, "none"), after.grid.get(name, "none")
    yield "pruning", before.pruning, after.pruning
    yield "warm from", ", ".join(before.warm_from) or "none", ", ".join(after.warm_from) or "none"
    if "none" not in (before.pruning, after.pruning):
        yield "first rung", format_rung(before.first_rung), format_rung(after.first_rung)
        yield "factor", before.factor, after.factor


def limit_changes(old: StudyInfo, new: StudyInfo) -> Iterator[tuple[str, object, object]]:
    """Yield the limits, which must not change, with both values.

    Trials that broke the earlier ones were not trained, and trials that met those may break the new ones.
    """
    for name in dict.fromkeys([*old.limits, *new.limits]):
        yield f"limit of {name}", old.limits.get(name, "none"), new.limits.get(name, "none")


def fixed_properties(parameter: dict[str, Any]) -> str:
    """Return what must not change within a study: everything but the bounds of a number."""
    return json.dumps({k: v for k, v in parameter.items() if k not in ("low", "high")}, sort_keys=True)
