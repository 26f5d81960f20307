"""`tuner confirm`: train the best trials of a study, and its default, again with fresh seeds.

The runs are a study of their own. Every candidate is trained with one seed after another; after each seed, those
that can no longer win are dropped.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from optuna.distributions import BaseDistribution, json_to_distribution
from optuna.trial import FrozenTrial
from sqlalchemy.engine import Engine

from tuner.artifacts.attempts import open_attempts
from tuner.errors import DataError, SpaceError, StudyError, TunerError, first_line, format_names
from tuner.export.evaluate import score_on_test
from tuner.fleet.placement import prepare_workers
from tuner.paths import attempt_of
from tuner.recipe import Recipe
from tuner.search.earlier_studies import frozen_trials, open_earlier
from tuner.search.objective import fit_to_study, resolve_weights
from tuner.search.racing import select_racers
from tuner.search.recipe_changes import find_changes
from tuner.search.run import RunOptions, RunResult, ViewFactory, run_workers
from tuner.search.sampling import hash_seed
from tuner.space.child import SpaceProcess
from tuner.space.drawing import Choice, inspect_space
from tuner.space.space import find_space
from tuner.study import confirmations, database, queries, trial_queries
from tuner.study.commands import find_source, read_command
from tuner.study.confirmations import CANDIDATE, DEFAULT, LookAtTest, confirmation_name
from tuner.study.info import StudyInfo, StudyKind
from tuner.study.recipe_samples import StoredSample, read_samples
from tuner.study.study import JoinedStudy, join_study
from tuner.study.trial_list import GivenTrial, add_given_trials
from tuner.study.trial_queries import OPEN, TrialInfo

WAIT_SECONDS = 2.0  # between looks at what other hosts train


@dataclass(frozen=True)
class ConfirmRequest:
    """The arguments of `tuner confirm`: the `top` trials or `numbers`, each with so many `seeds`.

    `space` is the file of the space, where the study does not say it; `with_default` adds its default.
    """

    study: str | None
    top: int
    numbers: tuple[int, ...]
    seeds: int
    options: RunOptions
    space: str | None = None
    with_default: bool = True


@dataclass(frozen=True)
class Candidate:
    """What is trained again: a trial of the search or the default of its space; `searched` is its value there."""

    name: str  # "trial 3" or "default"
    params: dict[str, Any]
    recipe: Recipe
    distributions: Mapping[str, BaseDistribution]
    searched: float | None = None

    def with_seed(self, study: StudyInfo, repeat: int) -> GivenTrial:
        """Return the run with a seed of its own, the same for all candidates: their differences vary less."""
        recipe = replace(self.recipe, seed=hash_seed(study.seed, study.name, "repeat", repeat))
        candidate = {"name": self.name, "searched": self.searched}
        attrs = {"recipe": recipe.to_json(), "repeat": repeat, CANDIDATE: candidate}
        return GivenTrial(f"{self.name} #{repeat}", self.params, attrs, dict(self.distributions))


def confirm(request: ConfirmRequest, view: ViewFactory, notify: Callable[[str], None]) -> RunResult:
    """Train the candidates until one is left with all seeds; call `notify` with each notice.

    When it has all, its best run is scored on the test split, once.
    """
    with prepare_workers(request.options.placement):
        joined, candidates = prepare_confirmation(request, notify)
        return race(joined, candidates, request, view, notify)


def prepare_confirmation(
    request: ConfirmRequest, notify: Callable[[str], None]
) -> tuple[JoinedStudy, list[Candidate]]:
    """Return the study of the confirmation, created or joined, and the candidates."""
    url = request.options.url
    engine = open_earlier(url, request.options.artifacts, "confirm")
    try:
        with database.convert_errors(url):
            info = find_searched(engine, request.study)
            chosen = select_trials(trial_queries.read_trials(engine, info), info, request)
            space = request.space or find_source(info, read_command(engine, info.id)).get("space", info.space)
            with engine.connect() as db:
                samples = read_samples(db, info.id)
            request.options.home.make()
    finally:
        engine.dispose()
    default = None
    if request.with_default:
        try:
            default = make_default(space, info, samples)
        except (SpaceError, DataError) as error:
            if request.space:
                raise
            notify(
                f"the default of the space is not trained: {first_line(error)}; --space PATH names another file"
            )
    joined = join_study(url, confirmation_info(info))
    frozen = frozen_trials(joined, info)
    candidates = [make_candidate(trial, frozen[trial.number]) for trial in chosen]
    if default and not any(is_same_recipe(default.recipe, one.recipe) for one in candidates):
        candidates.append(default)
    elif default:
        notify("the default is one of the best trials")
    return joined, candidates


def find_searched(engine: Engine, name: str | None) -> StudyInfo:
    """Return the named study, or the newest one; for a confirmation, the study that it confirms."""
    info = queries.find_study(engine, name)
    return queries.find_study(engine, info.subject) if info.kind is StudyKind.CONFIRMATION else info


def confirmation_info(info: StudyInfo) -> StudyInfo:
    return replace(
        info,
        name=confirmation_name(info.name),
        kind=StudyKind.CONFIRMATION,
        subject=info.name,
        each="",
        earlier=(),
    )


def select_trials(trials: Sequence[TrialInfo], info: StudyInfo, request: ConfirmRequest) -> list[TrialInfo]:
    """Return the trials to train again: the best ones of different parameters, or those of the numbers."""
    done = [trial for trial in trials if trial.state == "COMPLETE" and trial.value is not None]
    done = [trial for trial in done if "recipe" in trial.attrs]
    if not done:
        raise StudyError(f"study '{info.name}' has no finished trial yet; there are no trials to confirm.")
    if request.numbers:
        known = {trial.number: trial for trial in done}
        if absent := [str(number) for number in dict.fromkeys(request.numbers) if number not in known]:
            raise StudyError(
                f"study '{info.name}' has no finished trial {format_names(absent)}; it has finished "
                f"{format_names([str(number) for number in known], 12)}."
            )
        return [known[number] for number in dict.fromkeys(request.numbers)]
    sign = -1 if info.is_maximized else 1
    done.sort(key=lambda trial: (sign * (trial.value or 0.0), trial.number))
    distinct: dict[str, TrialInfo] = {}
    for trial in done:
        distinct.setdefault(repr(sorted(trial.params.items())), trial)
    return list(distinct.values())[: request.top]


def make_candidate(trial: TrialInfo, frozen: FrozenTrial) -> Candidate:
    recipe = Recipe.from_json(trial.attrs["recipe"])
    return Candidate(f"trial {trial.number}", trial.params, recipe, frozen.distributions, trial.value)


def is_same_recipe(one: Recipe, other: Recipe) -> bool:
    """Return whether two recipes differ in nothing but what the program sets."""
    return replace(one, seed=0, classes=()) == replace(other, seed=0, classes=())


def make_default(space: str, info: StudyInfo, samples: Sequence[StoredSample]) -> Candidate:
    """Return the default of the study's space; SpaceError if it cannot be made, or is not that of the search."""
    path = find_space(space)
    with SpaceProcess(path) as process:
        data = None if info.rehearsal else info.data
        choice = Choice(
            data=data,
            layout=info.layout or None,
            rehearse=info.rehearsal,
            shrink=info.shrink,
            shorten=info.shorten,
        )
        drawn = inspect_space(process, choice)
        if changes := find_changes(samples, process):
            raise SpaceError(f"{path} makes other recipes now ({changes[0]})")
        function = "tuner.space.default_point:draw_default"
        found = process.call(function, "make its default", parameters=drawn.parameters)
    recipe = Recipe.from_json(found["recipe"])
    recipe = fit_to_study(replace(recipe, weights=resolve_weights(recipe.weights, info.name)), info)
    ranges = {name: json_to_distribution(text) for name, text in found["distributions"].items()}
    return Candidate(DEFAULT, found["params"], recipe, ranges)


def race(
    joined: JoinedStudy,
    candidates: Sequence[Candidate],
    request: ConfirmRequest,
    view: ViewFactory,
    notify: Callable[[str], None],
) -> RunResult:
    """Train all candidates with the first seed, those that may still win with the next one, and so on.

    Which they are follows from the values in the database: every host that runs the command finds the same.
    """
    racing = list(candidates)
    result: RunResult | None = None
    for repeat in range(1, request.seeds + 1):
        add_given_trials(joined, request.options.url, [one.with_seed(joined.info, repeat) for one in racing])
        result = train_open(joined, repeat, request.options, view) or result
        if result and (result.code or result.is_interrupted or has_open_runs(joined, repeat)):
            return result
        values = read_values(joined)
        complete = [one for one in racing if len(values.get(one.name, ())) >= repeat]
        for lost in (one for one in racing if one not in complete):
            notify(f"{lost.name} failed with seed {repeat}, and is dropped")
        if not complete:
            raise StudyError(f"no candidate of study '{joined.info.name}' was trained with seed {repeat}.")
        first = {one.name: values[one.name][:repeat] for one in complete}
        searched = {one.name: one.searched for one in complete if one.searched is not None}
        left = select_racers(first, searched, request.seeds, joined.info.is_maximized)
        dropped = [one.name for one in complete if one.name not in left]
        if dropped and repeat < request.seeds:
            notify(f"after seed {repeat}, no longer trained: {format_names(dropped)} cannot win any more")
        racing = [one for one in complete if one.name in left]
    look_at_test_split(joined, racing[0].name, request.options, notify)
    return result or finished_before(joined)


def train_open(joined: JoinedStudy, repeat: int, options: RunOptions, view: ViewFactory) -> RunResult | None:
    """Train until no run up to a seed is open, also by workers of other commands, or nobody works.

    Return the last result of this command's workers.
    """
    result = None
    while has_open_runs(joined, repeat):
        result = run_workers(joined, None, options, view)
        if result.code or result.is_interrupted or not has_workers(joined):  # stopped, or the hours are spent
            break
        if has_open_runs(joined, repeat):
            time.sleep(WAIT_SECONDS)
    return result


def has_open_runs(joined: JoinedStudy, repeat: int) -> bool:
    """Return whether a run with one of the seeds up to this one has not ended; others may have begun the next."""
    trials = trial_queries.read_trials(joined.engine, joined.info)
    return any(trial.state in OPEN and trial.attrs.get("repeat", 0) <= repeat for trial in trials)


def has_workers(joined: JoinedStudy) -> bool:
    """Return whether another command trains, or did when its workers were seen last."""
    return bool(queries.read_summary(joined.engine, joined.info).workers)


def finished_before(joined: JoinedStudy) -> RunResult:
    """Return the result of a command that had nothing to train."""
    return RunResult(0, "", joined.info.name, queries.read_summary(joined.engine, joined.info))


def read_values(joined: JoinedStudy) -> dict[str, list[float]]:
    """Return the values of each candidate by seed, up to the first one that it lacks."""
    found: dict[str, dict[int, float]] = {}
    for trial in trial_queries.read_trials(joined.engine, joined.info):
        if trial.state == "COMPLETE" and trial.value is not None and CANDIDATE in trial.attrs:
            found.setdefault(trial.attrs[CANDIDATE]["name"], {})[trial.attrs["repeat"]] = trial.value
    values = {}
    for name, by_seed in found.items():
        number = next(at for at in range(1, len(by_seed) + 2) if at not in by_seed) - 1
        values[name] = [by_seed[at] for at in range(1, number + 1)]
    return values


def look_at_test_split(
    joined: JoinedStudy, winner: str, options: RunOptions, notify: Callable[[str], None]
) -> None:
    """Score the best run of the winner on the test split and record it; nothing if that run has been scored."""
    info = queries.find_study(joined.engine, joined.info.name)
    runs = [
        trial
        for trial in trial_queries.read_trials(joined.engine, info)
        if trial.state == "COMPLETE" and trial.value is not None
        and trial.attrs.get(CANDIDATE, {}).get("name") == winner
    ]  # fmt: skip
    best = confirmations.choose_run(runs, info.is_maximized)
    with joined.engine.connect() as db:
        looks = confirmations.read_test_looks(db, info.id)
    if any(look.trial == best.number for look in looks):
        return
    attempts = open_attempts(options.home, options.artifacts or info.artifacts)
    try:
        files = attempts.fetch(info.name, info.key, best.number, attempt_of(best.attrs))
        scores = score_on_test(Recipe.from_json(best.attrs["recipe"]), files.best, options.home)
    except TunerError as error:
        notify(f"not scored on the test split: {first_line(error)}")
        return
    if scores is None:
        return
    look = LookAtTest(best.number, scores, datetime.now(UTC).isoformat(timespec="seconds"))
    confirmations.add_test_look(joined.storage, info.id, len(looks), look)
