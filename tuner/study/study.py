"""A space on a dataset -> a study: the storage, its sampler and pruner, and SpaceChanged."""

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

from tuner.errors import SpaceChanged, StudyError
from tuner.goal import Goal
from tuner.space.space import DrawnRecipes, describe_parameter
from tuner.study import claims, database
from tuner.study.storage import open_storage

log = logging.getLogger("tuner")


@dataclass(frozen=True)
class Plan:
    """What a study is of: written into it when it is created, compared when it is joined."""

    space: str
    goal: Goal
    data: str
    rehearsal: bool
    seed: int
    parameters: dict[str, dict[str, Any]]
    key: str = ""  # drawn when the study is created: tells it from others of its name, in run folders
    listed: str = ""  # "table NAME" or "longer NAME": its trials are given, not drawn, and never pruned
    shrink: int = 1  # image size and widths are divided by this,
    shorten: int = 1  # epochs by this
    artifacts: str = ""  # where all hosts keep checkpoints and pictures; "" is the home

    @staticmethod
    def of(
        space: str, goal: Goal, data: str, rehearsal: bool, seed: int, draws: DrawnRecipes,
        listed: str = "", shrink: int = 1, shorten: int = 1,
    ) -> Plan:  # fmt: skip
        parameters = draws.parameters
        return Plan(space, goal, data, rehearsal, seed, parameters, listed=listed, shrink=shrink, shorten=shorten)


@dataclass(frozen=True)
class Joined:
    """An open study and the engine below it."""

    study: optuna.Study
    engine: Engine
    plan: Plan

    @property
    def id(self) -> int:
        return self.study._study_id


def join(url: str, name: str, plan: Plan) -> Joined:
    """Create the study or join it, after comparing what it is of. One at a time, so that it is created whole."""
    storage, engine = open_storage(url)
    with closed_on_error(engine), database.told(url), database.creation_lock(engine, url):
        try:
            study = optuna.create_study(storage=storage, study_name=name, direction=plan.goal.direction)  # type: ignore[arg-type]
            is_new = True
        except optuna.exceptions.DuplicatedStudyError:
            study = optuna.load_study(study_name=name, storage=storage)
            is_new = not study.user_attrs and not study.get_trials(deepcopy=False)  # its creator was killed
        claims.open_study(engine, study._study_id, is_new)
        if is_new:
            plan = replace(plan, key=uuid.uuid4().hex[:6])
            write_plan(study, plan)
            return Joined(study, engine, plan)
        began = read_plan(study)
        compare(name, began, plan)
        return Joined(study, engine, replace(plan, seed=began.seed, key=began.key, artifacts=began.artifacts))


def rejoin(url: str, name: str) -> Joined:
    """A worker's way in: the study exists, its plan was compared by whoever started the worker."""
    storage, engine = open_storage(url)
    with closed_on_error(engine), database.told(url):
        try:
            study = optuna.load_study(study_name=name, storage=storage)
        except KeyError:
            raise StudyError(f"study '{name}' was deleted meanwhile; nothing is left to do.") from None
        return Joined(study, engine, read_plan(study))


@contextmanager
def closed_on_error(engine: Engine) -> Iterator[None]:
    try:
        yield
    except BaseException:
        engine.dispose()
        raise


def write_plan(study: optuna.Study, plan: Plan) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names([plan.goal.metric])
    study.set_user_attr("tuner", {**vars(plan), "goal": [plan.goal.metric, plan.goal.direction]})


def keep_artifacts(joined: Joined, given: str) -> str:
    """Where a study's checkpoints and pictures are: noted when it is first said, and then the same for all."""
    noted = joined.plan.artifacts
    if given and noted and given != noted:
        raise StudyError(
            f"study '{joined.study.study_name}' keeps its artifacts in {noted}; --artifacts said {given}. "
            "Leave the option out, or begin another study with --study NAME."
        )
    if given and not noted:
        write_plan(joined.study, replace(joined.plan, artifacts=given))
    return given or noted


def read_plan(study: optuna.Study) -> Plan:
    plain = study.user_attrs.get("tuner")
    if plain is None:
        raise StudyError(f"study '{study.study_name}' was not made by tuner. Choose another name with --study.")
    return Plan(**{**plain, "goal": Goal(*plain["goal"])})


def compare(name: str, old: Plan, new: Plan) -> None:
    """SpaceChanged with all that differs. Wider or narrower bounds are fine: the trials keep their meaning."""
    changed = [
        f"{what}: from {before} to {after}"
        for what, before, after in (
            ("space", old.space, new.space),
            ("data", old.data, new.data),
            ("goal", str(old.goal), str(new.goal)),
            ("rehearsal", old.rehearsal, new.rehearsal),
            ("list of trials", old.listed or "none", new.listed or "none"),
            ("shrink", old.shrink, new.shrink),
            ("shorten", old.shorten, new.shorten),
        )
        if before != after
    ]
    names = old.parameters.keys() & new.parameters if new.listed else old.parameters.keys() | new.parameters
    for parameter in sorted(names):  # a list may grow: its trials say themselves what they have
        before, after = old.parameters.get(parameter), new.parameters.get(parameter)
        if before is None or after is None or essence(before) != essence(after):
            changed.append(
                f"parameter '{parameter}': from {describe_parameter(before) if before else 'absent'} "
                f"to {describe_parameter(after) if after else 'absent'}"
            )
        elif before != after:
            log.warning(
                "%s: the bounds are now %s (began with %s)",
                parameter,
                describe_parameter(after),
                describe_parameter(before),
            )
    if changed:
        raise SpaceChanged(
            f"study '{name}' began with another space:"
            + "".join(f"\n  - {line}" for line in changed)
            + "\nPut it back to go on with the study, or begin a new one with --study NAME."
        )


def essence(parameter: dict[str, Any]) -> str:
    """What must not change within a study: all but the bounds of a number."""
    return json.dumps({k: v for k, v in parameter.items() if k not in ("low", "high")}, sort_keys=True)
