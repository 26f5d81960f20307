"""`tuner run`: check a request, create or join its study, and run its workers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from sqlalchemy.engine import Engine
from sqlalchemy.exc import SQLAlchemyError

from tuner.artifacts.attempts import open_attempts
from tuner.artifacts.optuna_store import open_trial_artifacts
from tuner.artifacts.store import open_store, probe_store
from tuner.console import StudyView, show_status
from tuner.data.datasets import swap_data
from tuner.data.limits import limit_pixels
from tuner.data.provider import open_source
from tuner.errors import StudyError, did_you_mean, format_names
from tuner.fleet.config import WorkerConfig, WorkerSettings, hash_space_file
from tuner.fleet.placement import PlacementRequest, open_placement, prepare_workers
from tuner.fleet.supervisor import Fleet, say
from tuner.paths import Home
from tuner.recipe import Recipe
from tuner.search.data_checks import check_with_data, survey_sources
from tuner.search.earlier_studies import collect_earlier
from tuner.search.foreseen_cost import foresee_memory
from tuner.search.pruning import make_due_check
from tuner.search.recipe_changes import check_same_recipes, keep_sample, sample_recipes
from tuner.search.warm_start import rename_weights
from tuner.space.child import SpaceProcess
from tuner.space.drawing import Choice, DrawnSpace, inspect_space
from tuner.space.files import TIMEOUT
from tuner.space.published import PublishedTable, load_table
from tuner.space.rehearsal import NUM_TRIALS, default_name
from tuner.space.rungs import FirstRung
from tuner.space.search_settings import OPTIONS, SearchSettings
from tuner.space.space import NUM_DRAWS, find_space
from tuner.study import budget, database, queries, tables
from tuner.study.heartbeat import check_versions
from tuner.study.info import StudyInfo, StudyKind
from tuner.study.study import JoinedStudy, check_unchanged, join_study, set_artifact_store
from tuner.study.trial_list import GivenTrial, add_given_trials, add_start_points, table_trials
from tuner.wording import pluralize

DEFAULT_TRIALS = 50
log = logging.getLogger("tuner")
ViewFactory = Callable[[Engine, StudyInfo], StudyView]


@dataclass(frozen=True)
class RunOptions:
    """Options of every command that starts workers."""

    url: str
    home: Home
    placement: PlacementRequest = PlacementRequest()
    settings: WorkerSettings = WorkerSettings()
    hours: float | None = None
    gpu_hours: float | None = None
    epoch_budget: int | None = None
    artifacts: str | None = None

    @classmethod
    def from_options(cls, url: str, home: Home, options: Mapping[str, Any]) -> RunOptions:
        """Return the options from keyword arguments named as on the command line, with underscores."""
        placement = PlacementRequest(**select_fields(PlacementRequest, options))
        settings = WorkerSettings(**select_fields(WorkerSettings, options))
        return cls(url, home, placement, settings, **select_fields(cls, options))


@dataclass(frozen=True)
class RunRequest:
    """The arguments of `tuner run`: a space to search, or a table whose rows to train."""

    space: str | None
    data: str | None
    trials: int | None
    options: RunOptions
    study: str | None
    seed: int
    rehearse: bool
    table: str | None = None
    seeds: int | None = None
    shrink: int = 1
    shorten: int = 1
    layout: str | None = None
    each: str | None = None
    sampler: str | None = None
    pruning: str | None = None
    no_pruning: bool = False
    first_rung: FirstRung | None = None
    factor: int | None = None
    warm_from: list[str] | None = None
    prior: Mapping[str, Any] | None = None
    limits: Mapping[str, float] = field(default_factory=dict)
    timeout: float = TIMEOUT
    mix: bool = False  # go on in a study of other recipes

    @cached_property
    def published(self) -> PublishedTable | None:
        """The requested table, read once; TableError lists everything that is wrong with its file."""
        return None if self.table is None else load_table(self.table)

    @classmethod
    def from_options(cls, url: str, home: Home, options: Mapping[str, Any]) -> RunRequest:
        """Return the request from keyword arguments named as on the command line, with underscores."""
        return cls(options=RunOptions.from_options(url, home, options), **select_fields(cls, options))

    @property
    def search(self) -> dict[str, Any]:
        """The given settings of the search, which override the space's own."""
        given = {name: getattr(self, name) for name in OPTIONS if getattr(self, name) is not None}
        return given | ({"pruning": "none"} if self.no_pruning else {})


def select_fields(kind: type, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that are fields of a dataclass."""
    return {each.name: options[each.name] for each in fields(kind) if each.name in options}


@dataclass(frozen=True)
class StudySetup:
    """A study to create or to join, recipes drawn from its space, and its given trials, if any."""

    info: StudyInfo
    space: DrawnSpace
    recipes: list[Recipe]
    given_trials: list[GivenTrial] = field(default_factory=list)
    counts: str = ""  # of the images of each split, once the data is checked
    mix: bool = False


@dataclass(frozen=True)
class RunResult:
    """How a run ended."""

    code: int
    error: str
    study: str
    now: queries.StudySummary | None
    is_interrupted: bool = False  # by Ctrl-C or SIGTERM, after saving


def run(request: RunRequest, view: ViewFactory) -> RunResult:
    """Check a request, create or join its study, and train until the budget is spent or a signal arrives."""
    refuse_conflicts(request)
    process = open_space_process(request)
    with limit_pixels(request.options.settings.max_pixels), prepare_workers(request.options.placement):
        with process:
            setup = check_data(check_request(request, process), request.options, process)
            joined = join_requested_study(setup, request, process)
        return run_workers(joined, process.path, request.options, view)


def open_space_process(request: RunRequest) -> SpaceProcess:
    """Return the process for the code of the requested space, or of the requested table's."""
    table = request.published
    return SpaceProcess(find_space(table.space if table else str(request.space)), request.timeout)


def check_data(setup: StudySetup, options: RunOptions, process: SpaceProcess) -> StudySetup:
    """Check a setup with its data and its study, if that exists; `tuner check` and `tuner run` do the same here.

    Return it with the classes of the data, and divided as the stored study is.
    """
    setup = add_earlier(settle_study(setup, options.url), options.url, process)
    check_same_recipes(setup.info, options.url, process, setup.mix)
    by_data = {str(recipe.data.without("image_size")): recipe for recipe in setup.recipes}
    sources = [open_source(recipe) for recipe in by_data.values()]  # with the targets that the task needs
    home = options.home
    if any(not source.revision for source in sources):  # what was found in files is remembered
        home.make()
    if options.artifacts:
        probe_store(open_store(options.artifacts))
    classes = survey_sources(sources, home)
    recipes = [replace(recipe, classes=classes) for recipe in setup.recipes]
    check_with_data(recipes, setup.space, process, options.url, open_attempts(home, options.artifacts))
    return replace(setup, recipes=recipes, counts=sources[0].counts())


def join_requested_study(setup: StudySetup, request: RunRequest, process: SpaceProcess) -> JoinedStudy:
    """Create or join the study of a checked setup, with its given trials or its budget."""
    options, points = request.options, setup.space.points
    options.home.make()
    joined = join_study(options.url, setup.info, None if setup.info.id else sample_recipes(process, points))
    if request.mix or not setup.info.id:  # else it has been compared
        keep_sample(joined, options.url, process, points, request.mix)
    if setup.info.has_given_trials:
        add_given_trials(joined, options.url, setup.given_trials)
    else:
        add_start_points(joined, options.url, setup.space.start)
        with database.convert_errors(options.url):
            set_budget(joined.engine, joined.info, request)
    return joined


def run_workers(joined: JoinedStudy, space: Path | None, options: RunOptions, view: ViewFactory) -> RunResult:
    """Train the trials of a study until none is left; `space` may be None if all trials have recipes."""
    with database.convert_errors(options.url):
        check_versions(joined.engine, joined.id)
        artifacts = set_artifact_store(joined, open_store(options.artifacts).location if options.artifacts else "")
        limits = {"hours": options.hours, "gpu_hours": options.gpu_hours, "epochs": options.epoch_budget}
        budget.set_budget(joined.engine, joined.id, **limits)
        info = queries.find_study(joined.engine, joined.info.name)
    if artifacts and not options.artifacts:  # a given store was checked before anything was created
        probe_store(open_store(artifacts))
    show = view(joined.engine, info)
    path = space.absolute() if space else None
    config = WorkerConfig(
        options.url,
        info.name,
        str(path or ""),
        str(options.home.folder.absolute()),
        options.settings,
        hash_space_file(path) if path else "",
        artifacts,
    )
    foresee = partial(foresee_memory, joined.engine, info)
    with open_placement(options.placement, options.home, options.url, path, say, foresee) as placement:
        due = make_due_check(joined)
        fleet = Fleet(config, joined.engine, info, placement.slots, show, placement.grow, is_due=due)
        with show:
            code = fleet.run()
    try:
        now = queries.read_summary(joined.engine, info)
    except SQLAlchemyError:
        now = None  # the database is away, which the worker has reported
    if now and now.num_finished:
        save_study_figures(joined, info, options.home, artifacts)
    return RunResult(code, fleet.error, info.name, now, fleet.interrupts > 0)


def save_study_figures(joined: JoinedStudy, info: StudyInfo, home: Home, artifacts: str) -> None:
    """Save the dashboard's plots of the whole study; log errors, because they must not fail the run."""
    from tuner.report.dashboard import save_figures

    try:
        save_figures(joined.storage, joined.engine, info, open_trial_artifacts(open_attempts(home, artifacts)))
    except Exception as error:
        log.warning("the study's plots could not be saved: %s", str(error).partition("\n")[0])


def refuse_conflicts(request: RunRequest) -> None:
    """Raise StudyError for options that contradict each other."""
    is_table = request.table is not None
    if is_table == (request.space is not None):
        given = "both were given" if is_table else "neither was given"
        raise StudyError(f"--space NAME searches a space, --table NAME trains a published table's rows; {given}.")
    if is_table and request.trials is not None:
        raise StudyError(
            "a table has as many trials as it has rows: leave out --trials, or say --seeds N for N each."
        )
    if not is_table and request.seeds is not None:
        raise StudyError("--seeds belongs to --table: how often each row is trained. A search has --trials.")
    if is_table and request.each:
        raise StudyError("--each belongs to --space: a table says which rows it has.")
    if is_table and request.search:
        names = "--sampler, --pruning, --first-rung, --factor and --warm-from"
        raise StudyError(f"{names} belong to --space: the rows of a table are given, and are never pruned.")
    if is_table and request.limits:
        raise StudyError("--limit belongs to --space: the rows of a table are given, and each is trained.")
    if request.no_pruning and request.pruning not in (None, "none"):
        raise StudyError(f"--no-pruning means --pruning none; --pruning {request.pruning} was given too.")
    if request.rehearse and (request.shrink, request.shorten) != (1, 1):
        raise StudyError("--rehearse is a size of its own: leave out --shrink and --shorten.")


def check_request(request: RunRequest, process: SpaceProcess) -> StudySetup:
    """Return the requested study with recipes as they will be trained; raise an error that lists all mistakes."""
    table = request.published
    given = vars(request) | {"table": str(table.path) if table else None, "search": request.search}
    choice = Choice(**select_fields(Choice, given))
    with show_status(f"checking {request.table or f'{NUM_DRAWS} draws of {request.space}'}"):
        space = inspect_space(process, choice)
        if table is None:
            arguments = {"search": space.settings.to_json(), "parameters": space.parameters}
            process.call("tuner.search.samplers:check_sampler", "make its sampler", **arguments)
    name = request.study or study_name(request, space, table)
    info = StudyInfo(
        name,
        space.name,
        space.goal,
        space.data,
        request.rehearse,
        request.seed,
        space.parameters,
        kind=StudyKind.TABLE if table else StudyKind.SEARCH,
        subject=table.name if table else "",
        shrink=request.shrink,
        shorten=request.shorten,
        split="exact",
        layout="" if request.rehearse else request.layout or "",
        each=check_each(request.each, space) if request.each else "",
        search=SearchSettings() if table else space.settings,
        limits=space.limits,
        further=space.further,
    )
    recipes = [rename_weights(recipe, request.shrink, request.shorten) for recipe in space.recipes]
    given_trials = table_trials(table, request.seeds or 1) if table else []
    return StudySetup(info, space, recipes, given_trials, mix=request.mix)


def settle_study(setup: StudySetup, url: str) -> StudySetup:
    """Return the setup, and its recipes, with the split of the stored study, if there is one, and its search.

    SpaceChanged if that began with another space.
    """
    info, stored = setup.info, read_stored_study(url, setup.info.name)
    if stored:
        search = stored.search if info.has_given_trials else setup.space.search.join(stored.search)
        info = replace(info, id=stored.id, split=stored.split, search=search)
        check_unchanged(stored, info, is_quiet=True)  # other bounds are told when it is joined
    recipes = [swap_data(recipe, recipe.data.name, info.split) for recipe in setup.recipes]
    return replace(setup, info=info, recipes=recipes)


def add_earlier(setup: StudySetup, url: str, process: SpaceProcess) -> StudySetup:
    """Return the setup of a new study with what it learns from earlier ones; StudyError if it cannot."""
    info = setup.info
    if not info.search.warm_from or info.id:
        return setup
    purpose = "fit the best points of earlier studies"
    fit = partial(process.call, "tuner.space.drawing:fit_drawn", purpose)
    earlier = collect_earlier(url, info, lambda points: fit(points=points))
    return replace(setup, info=replace(info, earlier=earlier))


def check_each(name: str, space: DrawnSpace) -> str:
    """Return the name of a parameter with choices; StudyError for any other, and with a grid."""
    parameters = space.parameters
    if space.settings.sampler == "grid":
        raise StudyError(f"--each {name}: a grid has every combination in any case: leave --each out.")
    known = [each for each, parameter in parameters.items() if parameter["kind"] == "categorical"]
    if name in known:
        return name
    if name in parameters:
        problem = f"it is a {parameters[name]['kind']}; a parameter with choices is needed."
    else:
        problem = f"the space has no such parameter.{did_you_mean(name, known)}"
    raise StudyError(f"--each {name}: {problem} With choices: {format_names(known) or 'none'}.")


def read_stored_study(url: str, name: str) -> StudyInfo | None:
    """Return the study of this name, or None if there is none yet; nothing is created.

    Another process may be creating the tables at this moment: this one waits until they are complete.
    """
    if database.is_absent(url):
        return None
    engine = database.connect(url)
    try:
        with database.convert_errors(url), database.creation_lock(engine, url):
            tables.refuse_newer(engine)
            return next((info for info in queries.read_studies(engine) if info.name == name), None)
    finally:
        engine.dispose()


def study_name(request: RunRequest, space: DrawnSpace, table: PublishedTable | None) -> str:
    """Return the name of the space or table, with suffixes if the dataset or size is not its own."""
    name = table.name if table else space.name
    if table and table.name == space.name:
        name = f"{name}-table"  # so that a search of that space can have its name
    swapped = "" if space.data == space.own_data else space.data
    return default_name(name, swapped, request.rehearse, request.shrink, request.shorten)


def set_budget(engine: Engine, info: StudyInfo, request: RunRequest) -> None:
    """Set the given limits; without any, keep the study's own or set the default number of trials.

    With hours or epochs alone, the number of trials is not limited. With `each`, it is that of each choice.
    """
    options = request.options
    number, is_limited = request.trials, options.hours or options.gpu_hours or options.epoch_budget
    if number is None and not is_limited and not budget.read_budget(engine, info.id).budget.is_limited:
        number = NUM_TRIALS if request.rehearse else DEFAULT_TRIALS
    number = fit_grid(engine, info, request.trials) if info.search.grid else number
    if number is not None and info.choices:
        total = number * len(info.choices)
        say(f"trials for each of {', '.join(map(str, info.choices))}: {number}, so {total} in all")
        number = total
    budget.set_budget(engine, info.id, num_trials=number)


def fit_grid(engine: Engine, info: StudyInfo, number: int | None) -> int | None:
    """Return the number of trials of a grid: at most its points, all of them unless the study has a limit."""
    points = info.search.num_points
    if number is None:
        return None if budget.read_budget(engine, info.id).budget.num_trials else points
    if number > points:
        say(f"the grid has {pluralize(points, 'point')}: so many trials, not {number}")
    return min(number, points)
