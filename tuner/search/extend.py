"""`tuner extend`: go on from finished trials' checkpoints to more epochs, in a study of their own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

import optuna
from sqlalchemy.engine import Engine

from tuner.artifacts.attempts import AttemptFiles, open_attempts
from tuner.artifacts.store import check_store as checked_store
from tuner.errors import StudyError, first_lines, format_names
from tuner.paths import attempt_of
from tuner.recipe import Recipe
from tuner.search.run import RunOptions, RunResult, ViewFactory, work
from tuner.study import database, queries, trial_queries
from tuner.study.info import StudyInfo, StudyKind
from tuner.study.study import JoinedStudy, join_study
from tuner.study.trial_list import TRIAL_KEY, GivenTrial, add_given_trials
from tuner.study.trial_queries import EXTENDS, TrialInfo

WHY_NOT = {
    "PRUNED": "was pruned: its checkpoint was not kept",
    "FAIL": "failed: it has no checkpoint",
    "RUNNING": "is not finished yet",
    "WAITING": "is not finished yet",
}
KEPT = ("made_with", "row", "repeat")  # what a longer run takes over from its trial's notes


@dataclass(frozen=True)
class ExtendRequest:
    """What a user typed after `tuner extend`: these trials, or the best few, to so many epochs in all."""

    study: str | None
    epochs: int
    top: int
    numbers: tuple[int, ...]
    options: RunOptions


@dataclass(frozen=True)
class Extension:
    """The study of the longer runs, and what is worth saying before it begins."""

    joined: JoinedStudy
    notices: list[str]


def prepare_extension(asked: ExtendRequest) -> Extension:
    """Create or join the study of the longer runs, and list in it what is not there yet."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    url = asked.options.url
    if database.is_absent(url):
        raise StudyError(f"no study yet in {database.shown(url)}; there is nothing to go on from.")
    if asked.options.artifacts:
        checked_store(asked.options.artifacts)
    engine = database.reach(url)
    try:
        with database.told(url):
            info = find_parent(engine, asked)
            name = f"{original_name(info.name)}-{asked.epochs}-epochs"
            chosen = select_trials(trial_queries.read_trials(engine, info), info, asked)
            attempts = open_attempts(asked.options.home, asked.options.artifacts or info.artifacts)
            refuse_obstacles(engine, info, name, chosen, asked, attempts)
            asked.options.home.make()  # a host that only the store connects with the others has none yet
    finally:
        engine.dispose()
    joined = join_study(url, as_extension(info, name))
    add_given_trials(joined, url, extension_items(joined, info, chosen, asked.epochs))
    return Extension(joined, schedule_warnings(chosen, asked.epochs))


def extend(extension: Extension, options: RunOptions, view: ViewFactory) -> RunResult:
    return work(extension.joined, None, options, view)


def original_name(name: str) -> str:
    """The study that longer runs began from: the same for runs of 50 epochs and for runs of 100 from those."""
    return re.sub(r"-\d+-epochs$", "", name)


def find_parent(engine: Engine, asked: ExtendRequest) -> StudyInfo:
    """The study named, or the one worked on last; typed again, that is the command's own, so the one before it."""
    info = queries.find_study(engine, asked.study)
    is_own = info.kind is StudyKind.EXTENSION and info.name.endswith(f"-{asked.epochs}-epochs")
    if asked.study or not is_own:
        return info
    origins = [trial.attrs[EXTENDS]["study"] for trial in trial_queries.read_trials(engine, info)]
    return queries.find_study(engine, origins[-1]) if origins else info


def select_trials(trials: list[TrialInfo], info: StudyInfo, asked: ExtendRequest) -> list[TrialInfo]:
    """The trials named, or the best of those that are complete."""
    if not asked.numbers:
        sign = -1 if info.goal.direction == "maximize" else 1
        done = [trial for trial in trials if trial.state == "COMPLETE" and trial.value is not None]
        if not done:
            raise StudyError(f"study '{info.name}' has no finished trial yet; there is nothing to go on from.")
        return sorted(done, key=lambda trial: (sign * (trial.value or 0.0), trial.number))[: asked.top]
    known = {trial.number: trial for trial in trials}
    if absent := [number for number in asked.numbers if number not in known]:
        holds = f"it holds trials 0 to {max(known)}" if known else "it holds no trials"
        raise StudyError(f"no trial {format_names(map(str, absent))} in study '{info.name}'; {holds}.")
    return [known[number] for number in dict.fromkeys(asked.numbers)]


def refuse_obstacles(
    engine: Engine,
    info: StudyInfo,
    name: str,
    chosen: list[TrialInfo],
    asked: ExtendRequest,
    attempts: AttemptFiles,
) -> None:
    """StudyError with every trial that cannot go on, and why."""
    begun = keys_of(engine, name)
    wrong = [line for trial in chosen for line in find_obstacles(trial, info, asked, begun, attempts)]
    if wrong:
        raise StudyError(f"study '{info.name}' cannot go on to {asked.epochs} epochs:{first_lines(wrong)}")


def keys_of(engine: Engine, name: str) -> set[str]:
    """What a study of longer runs has already: it needs the earlier checkpoint no more."""
    for info in queries.read_studies(engine):
        if info.name == name:
            return {
                t.attrs.get(TRIAL_KEY, "") for t in trial_queries.read_trials(engine, info) if t.state != "FAIL"
            }
    return set()


def find_obstacles(
    trial: TrialInfo, info: StudyInfo, asked: ExtendRequest, begun: set[str], attempts: AttemptFiles
) -> Iterator[str]:
    if why := WHY_NOT.get(trial.state):
        yield f"trial {trial.number} {why}"
        return
    trained = Recipe.from_json(trial.attrs["recipe"]).epochs
    if trained >= asked.epochs:
        yield f"trial {trial.number} was trained for {trained} epochs already; --epochs is their number in all"
    if item_key(info, trial) in begun:
        return
    attempt = attempt_of(trial.attrs)
    if not attempts.has(info.name, info.key, trial.number, attempt):
        run = attempts.home.run(info.name, info.key, trial.number, attempt)
        absent = [file.name for file in (run.checkpoint, run.best) if not file.is_file()]
        yield f"trial {trial.number} has no {absent[0]} on this host ({attempts.where})"


def item_key(info: StudyInfo, trial: TrialInfo) -> str:
    return f"{info.name} #{trial.number}"


def as_extension(info: StudyInfo, name: str) -> StudyInfo:
    """Return the description of a study that extends trials of this one."""
    return replace(info, name=name, kind=StudyKind.EXTENSION, subject=original_name(info.name))


def extension_items(
    joined: JoinedStudy, info: StudyInfo, chosen: list[TrialInfo], epochs: int
) -> Iterator[GivenTrial]:
    """Each trial with its own parameters and recipe, but for the number of epochs."""
    earlier = optuna.load_study(study_name=info.name, storage=joined.storage)
    frozen = {trial.number: trial for trial in earlier.get_trials(deepcopy=False)}
    for trial in chosen:
        recipe = Recipe.from_json(trial.attrs["recipe"]).with_epochs(epochs)
        attempt = attempt_of(trial.attrs)
        origin = {"study": info.name, "key": info.key, "number": trial.number, "attempt": attempt}
        kept = {name: trial.attrs[name] for name in KEPT if name in trial.attrs}
        yield GivenTrial(
            item_key(info, trial),
            trial.params,
            {**kept, "recipe": recipe.to_json(), EXTENDS: origin},
            frozen[trial.number].distributions,
        )


def schedule_warnings(chosen: list[TrialInfo], epochs: int) -> list[str]:
    """Schedules that would have run otherwise, had their end been known from the start."""
    from tuner.train.optimizers import depends_on_end

    said: dict[str, None] = {}
    for trial in chosen:
        recipe = Recipe.from_json(trial.attrs["recipe"])
        last, longer = recipe.resolved_stages[-1], recipe.with_epochs(epochs).resolved_stages[-1]
        if last.schedule and depends_on_end(last.schedule, last.epochs, longer.epochs):
            why = f"the schedule {last.schedule} depends on how many epochs there are"
            said[f"{why}: from here on, the curve is not that of one run of {epochs}"] = None
        if recipe.epochs % recipe.validate_every:
            every = f"validated every {recipe.validate_every} epochs, and after {recipe.epochs} where it ended"
            said[f"{every}: one run of {epochs} would not have looked there"] = None
    return list(said)
