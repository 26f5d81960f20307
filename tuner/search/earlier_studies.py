"""Collect what a new study learns from earlier ones of the same database: their trials, and their best points."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import optuna
from optuna.trial import FrozenTrial
from sqlalchemy.engine import Engine

from tuner.artifacts.store import open_store, probe_store
from tuner.errors import StudyError, bullets, did_you_mean, format_names
from tuner.search.ranks import normal_scores
from tuner.search.sampling import FINISHED, rank_trial
from tuner.study import database, queries, tables
from tuner.study.earlier import EarlierStudy
from tuner.study.info import StudyInfo
from tuner.study.study import JoinedStudy
from tuner.study.trial_reader import read_trials

MOST_TRIALS = 100  # of an earlier study: the best half, and of the others every so many
NUM_FIRST = 3  # of its best points
Parameters = Mapping[str, Mapping[str, Any]]


def open_earlier(url: str, artifacts: str | None, purpose: str) -> Engine:
    """Return an engine to read trials from that are to be used again; StudyError if there are none.

    A given artifact store is tried first, so that nothing is created for one that does not answer.
    """
    if database.is_absent(url):
        raise StudyError(f"no study yet in {database.hide_password(url)}; there are no trials to {purpose}.")
    if artifacts:
        probe_store(open_store(artifacts))
    return tables.open_to_read(url)


def frozen_trials(joined: JoinedStudy, info: StudyInfo) -> dict[int, FrozenTrial]:
    """Return the trials of an earlier study of the same database by their numbers, as Optuna has them."""
    earlier = optuna.load_study(study_name=info.name, storage=joined.storage)
    return {trial.number: trial for trial in earlier.get_trials(deepcopy=False)}


def collect_earlier(
    url: str, info: StudyInfo, fit: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]
) -> tuple[EarlierStudy, ...]:
    """Return what a new study learns from those that its settings name; StudyError lists all that is wrong.

    `fit` returns points with the values that the space may have.
    """
    names = list(dict.fromkeys(info.search.warm_from))
    if not names:
        return ()
    engine = None if database.is_absent(url) else tables.open_to_read(url)
    if engine is None:
        raise StudyError(
            f"there is no study '{names[0]}' to learn from: {database.hide_password(url)} has none yet."
        )
    try:
        with database.convert_errors(url):
            known = {study.name: study for study in queries.read_studies(engine)}
            if wrong := [line for name in names for line in find_problems(name, known, info)]:
                raise StudyError(f"the study cannot learn from earlier ones:{bullets(wrong)}")
            trials = {name: read_trials(engine, known[name].id) for name in names}
    finally:
        engine.dispose()
    found = [
        collect_trials(name, trials[name], known[name].is_maximized, shared_names(known[name], info))
        for name in names
    ]
    if empty := [study.name for study in found if not study.trials]:
        raise StudyError(
            f"warm-from {', '.join(empty)}: no trial has ended there yet, so there is nothing to learn."
        )
    return tuple(replace(study, first=tuple(fit(list(study.first)))) for study in found)


def find_problems(name: str, known: Mapping[str, StudyInfo], info: StudyInfo) -> Iterator[str]:
    """Yield why a new study cannot learn from the study of a name."""
    if name not in known:
        has = format_names(list(known), 12) or "none"
        yield f"there is no study '{name}'.{did_you_mean(name, known)} The database has: {has}"
    elif not shared_names(known[name], info):
        theirs, here = (format_names(list(study.parameters), 12) or "none" for study in (known[name], info))
        yield f"'{name}' has no parameter of the same name and kind. It has: {theirs}; the space: {here}"


def shared_names(earlier: StudyInfo, info: StudyInfo) -> list[str]:
    """Return the parameters of a study that an earlier one has too, of the same kind."""
    theirs = earlier.parameters
    return [name for name, one in info.parameters.items() if is_same_kind(one, theirs.get(name))]


def is_same_kind(one: Mapping[str, Any], other: Mapping[str, Any] | None) -> bool:
    """Return whether a parameter is of the kind of another one, with a choice in common if it has choices."""
    if other is None or one["kind"] != other["kind"]:
        return False
    return one["kind"] != "categorical" or any(choice in other["choices"] for choice in one["choices"])


def collect_trials(
    name: str, trials: Sequence[FrozenTrial], is_maximized: bool, shared: Collection[str]
) -> EarlierStudy:
    """Return the finished trials of a study, the best first, with the parameters that are shared.

    They are ordered as samplers do: complete ones by value, the others by how far they came.
    """
    finished = [trial for trial in trials if trial.state in FINISHED]
    keys = [rank_trial(trial, is_maximized) for trial in finished]
    order = sorted(range(len(keys)), key=lambda index: (keys[index], index))
    scores = normal_scores([tuple(-part for part in key) for key in keys])
    chosen = [order[at] for at in spread_out(len(order), MOST_TRIALS)]
    params = [{k: v for k, v in finished[index].params.items() if k in shared} for index in chosen]
    return EarlierStudy(name, tuple(params), tuple(scores[index] for index in chosen), best_points(params))


def spread_out(number: int, most: int) -> list[int]:
    """Return at most so many of the places from 0: the first half, and of the others the same share everywhere."""
    if number <= most:
        return list(range(number))
    half, rest = most // 2, most - most // 2
    return [*range(half), *(half + (number - half) * at // rest for at in range(rest))]


def best_points(params: Sequence[dict[str, Any]]) -> tuple[dict[str, Any], ...]:
    """Return the first points that differ."""
    distinct: list[dict[str, Any]] = []
    for point in params:
        if point and point not in distinct:
            distinct.append(point)
    return tuple(distinct[:NUM_FIRST])
