"""`tuner extend`: continue finished trials for more epochs from their checkpoints, in a study of their own."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy.engine import Engine

from tuner.artifacts.attempts import AttemptFiles, open_attempts
from tuner.errors import PartError, StudyError, did_you_mean, first_line, first_lines, format_names
from tuner.fleet.placement import prepare_workers
from tuner.paths import attempt_of
from tuner.recipe import Recipe
from tuner.search.earlier_studies import frozen_trials, open_earlier
from tuner.search.run import RunOptions, RunResult, ViewFactory, run_workers
from tuner.study import database, queries, trial_queries
from tuner.study.format import format_epoch
from tuner.study.info import StudyInfo, StudyKind
from tuner.study.study import JoinedStudy, join_study
from tuner.study.trial_list import TRIAL_KEY, GivenTrial, add_given_trials
from tuner.study.trial_queries import EXTENDS, TrialInfo
from tuner.wording import pluralize

WHY_NOT = {
    "PRUNED": "was pruned: its checkpoint was not kept",
    "FAIL": "failed: it has no checkpoint",
    "RUNNING": "is not finished yet",
    "WAITING": "is not finished yet",
}
COPIED_ATTRS = ("made_with", "row", "repeat")


@dataclass(frozen=True)
class ExtendRequest:
    """The arguments of `tuner extend`: the total number of epochs, and `numbers`, or else the `top` trials.

    `by` is a parameter: then they are the top ones of each of its values.
    """

    study: str | None
    epochs: int
    top: int
    numbers: tuple[int, ...]
    options: RunOptions
    by: str = ""


def prepare_extension(request: ExtendRequest) -> tuple[JoinedStudy, list[str]]:
    """Create or join the study of the extended trials, and add those that it does not have yet.

    Return it with notices to show before it starts.
    """
    url = request.options.url
    engine = open_earlier(url, request.options.artifacts, "extend")
    try:
        with database.convert_errors(url):
            info = find_parent(engine, request)
            name = f"{original_name(info.name)}-{request.epochs}-epochs"
            chosen = select_trials(trial_queries.read_trials(engine, info), info, request)
            attempts = open_attempts(request.options.home, request.options.artifacts or info.artifacts)
            started = read_started_keys(engine, name)
            wrong = [line for trial in chosen for line in find_obstacles(trial, info, request, started, attempts)]
            if wrong:
                epochs = pluralize(request.epochs, "epoch")
                raise StudyError(f"study '{info.name}' cannot be extended to {epochs}:{first_lines(wrong)}")
            request.options.home.make()  # a host that shares only the artifact store with the others has none yet
    finally:
        engine.dispose()
    joined = join_study(url, replace(info, name=name, kind=StudyKind.EXTENSION, subject=original_name(info.name)))
    add_given_trials(joined, url, extension_items(joined, info, chosen, request.epochs))
    return joined, schedule_warnings(chosen, request.epochs)


def extend(request: ExtendRequest, view: ViewFactory, notify: Callable[[str], None]) -> RunResult:
    """Check a request, create or join its study, and train its trials; call `notify` with each notice before."""
    with prepare_workers(request.options.placement):
        joined, notices = prepare_extension(request)
        for notice in notices:
            notify(notice)
        return run_workers(joined, None, request.options, view)


def original_name(name: str) -> str:
    """Return the name of the study where the trials were first trained, before any extension."""
    return re.sub(r"-\d+-epochs$", "", name)


def find_parent(engine: Engine, request: ExtendRequest) -> StudyInfo:
    """Return the named study, or the newest one; if that is the extension of this command, its origin."""
    info = queries.find_study(engine, request.study)
    is_own = info.kind is StudyKind.EXTENSION and info.name.endswith(f"-{request.epochs}-epochs")
    if request.study or not is_own:
        return info
    origins = [trial.attrs[EXTENDS]["study"] for trial in trial_queries.read_trials(engine, info)]
    return queries.find_study(engine, origins[-1]) if origins else info


def select_trials(trials: list[TrialInfo], info: StudyInfo, request: ExtendRequest) -> list[TrialInfo]:
    """Return the requested trials, or the best complete ones; raise StudyError if there are none."""
    if not request.numbers:
        sign = -1 if info.goal.direction == "maximize" else 1
        done = [trial for trial in trials if trial.state == "COMPLETE" and trial.value is not None]
        if not done:
            raise StudyError(f"study '{info.name}' has no finished trial yet; there are no trials to extend.")
        if request.by:
            check_parameter(request.by, done, info)
        ranked = sorted(done, key=lambda trial: (sign * (trial.value or 0.0), trial.number))
        groups: dict[Any, list[TrialInfo]] = {}
        for trial in ranked:
            groups.setdefault(trial.params.get(request.by), []).append(trial)
        return [trial for group in groups.values() for trial in group[: request.top]]
    known = {trial.number: trial for trial in trials}
    if absent := [number for number in request.numbers if number not in known]:
        numbers = f"it holds trials 0 to {max(known)}" if known else "it holds no trials"
        raise StudyError(f"no trial {format_names(map(str, absent))} in study '{info.name}'; {numbers}.")
    return [known[number] for number in dict.fromkeys(request.numbers)]


def check_parameter(name: str, trials: list[TrialInfo], info: StudyInfo) -> None:
    """Raise StudyError unless a trial has the parameter."""
    known = dict.fromkeys(name for trial in trials for name in trial.params)
    if name not in known:
        hint = did_you_mean(name, known)
        raise StudyError(
            f"--by {name}: study '{info.name}' has no such parameter.{hint} It has: {', '.join(known)}."
        )


def read_started_keys(engine: Engine, name: str) -> set[str]:
    """Return the keys of the trials that an extension has already: they do not need the earlier checkpoint."""
    infos = [info for info in queries.read_studies(engine) if info.name == name]
    found = [trial for info in infos for trial in trial_queries.read_trials(engine, info)]
    return {trial.attrs.get(TRIAL_KEY, "") for trial in found if trial.state != "FAIL"}


def find_obstacles(
    trial: TrialInfo, info: StudyInfo, request: ExtendRequest, started: set[str], attempts: AttemptFiles
) -> Iterator[str]:
    if trial.paused_at is not None:
        yield f"trial {trial.number} is paused {format_epoch(trial.paused_at)}: it goes on in its own study"
        return
    if why := WHY_NOT.get(trial.state):
        yield f"trial {trial.number} {why}"
        return
    if "recipe" not in trial.attrs:
        yield f"trial {trial.number} has no recipe: it was not trained by tuner"
        return
    try:
        trained = Recipe.from_json(trial.attrs["recipe"]).epochs
    except (ValueError, TypeError) as error:
        yield f"trial {trial.number} has a recipe that cannot be read: {first_line(error)}"
        return
    if trained >= request.epochs:
        before = f"trial {trial.number} was trained for {pluralize(trained, 'epoch')} already"
        yield f"{before}; --epochs is their number in all"
    if item_key(info, trial) in started:
        return
    attempt = attempt_of(trial.attrs)
    if not attempts.has_files(info.name, info.key, trial.number, attempt):
        run = attempts.home.run(info.name, info.key, trial.number, attempt)
        absent = [file.name for file in (run.checkpoint, run.best) if not file.is_file()]
        yield f"trial {trial.number} has no {absent[0]} on this host ({attempts.where})"


def item_key(info: StudyInfo, trial: TrialInfo) -> str:
    return f"{info.name} #{trial.number}"


def extension_items(
    joined: JoinedStudy, info: StudyInfo, chosen: list[TrialInfo], epochs: int
) -> Iterator[GivenTrial]:
    """Yield each trial with its parameters and its recipe for more epochs."""
    frozen = frozen_trials(joined, info)
    for trial in chosen:
        recipe = Recipe.from_json(trial.attrs["recipe"]).with_epochs(epochs)
        attempt = attempt_of(trial.attrs)
        origin = {"study": info.name, "key": info.key, "number": trial.number, "attempt": attempt}
        copied = {name: trial.attrs[name] for name in COPIED_ATTRS if name in trial.attrs}
        yield GivenTrial(
            item_key(info, trial),
            trial.params,
            {**copied, "recipe": recipe.to_json(), EXTENDS: origin},
            frozen[trial.number].distributions,
        )


def schedule_warnings(chosen: list[TrialInfo], epochs: int) -> list[str]:
    """Return a notice for each way in which an extension differs from one run of as many epochs."""
    from tuner.train.schedules import depends_on_end

    notices: dict[str, None] = {}
    for trial in chosen:
        recipe = Recipe.from_json(trial.attrs["recipe"])
        last, longer = recipe.resolved_stages[-1], recipe.with_epochs(epochs).resolved_stages[-1]
        try:
            differs = last.schedule and depends_on_end(last.schedule, last.epochs, longer.epochs)
        except PartError:  # one of the user's own, which is not here; the worker has its code
            differs = False
        if differs:
            why = f"the schedule {last.schedule} depends on how many epochs there are"
            notices[f"{why}: the curve will differ from that of one run of {epochs}"] = None
        if recipe.epochs % recipe.validate_every:
            every = f"validated every {recipe.validate_every} epochs, and after {recipe.epochs} where it ended"
            notices[f"{every}: one run of {epochs} would not have validated there"] = None
    return list(notices)
