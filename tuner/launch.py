"""`tuner run`: from a space's name to a working fleet; what can be wrong is met before a worker starts."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

from sqlalchemy.engine import Engine
from sqlalchemy.exc import SQLAlchemyError

from tuner import database, fleet, live, overview, records
from tuner.console import busy, progress_bar
from tuner.data.datasets import data_name, swap_data
from tuner.data.shelf import open_for
from tuner.data.source import Source
from tuner.data.survey import survey
from tuner.orders import Orders, digest
from tuner.recipe import Recipe
from tuner.rehearsal import NUM_TRIALS, rehearse
from tuner.runs import Home
from tuner.space import NUM_DRAWS, Draws, Space, draw, load_space
from tuner.starts import find_start
from tuner.study import Plan, join

DEFAULT_TRIALS = 50


@dataclass(frozen=True)
class Request:
    """What a user typed after `tuner run`."""

    space: str
    data: str | None
    trials: int | None
    hours: float | None
    workers: int | None
    storage: str | None
    home: Home
    study: str | None
    seed: int
    rehearse: bool
    cache_gb: float


@dataclass(frozen=True)
class Finished:
    """How a run ended."""

    code: int
    error: str
    study: str
    now: overview.Overview | None


def run(request: Request) -> Finished:
    """Check, create or join, work until the budget is spent or a signal comes."""
    with busy(f"checking {NUM_DRAWS} draws of {request.space}"):
        space, draws, data, recipes = checked(request)
    sources = open_all(recipes)
    home = request.home.make()
    url = request.storage or home.database
    recipes = with_classes(recipes, look_at(sources, home))
    check_again(recipes, space, url, home)
    name = request.study or study_name(space, data, draws.recipes[0], request.rehearse)
    plan = Plan.of(space.name, space.goal, data, request.rehearse, request.seed, draws)
    joined = join(url, name, plan)
    with database.told(url):
        set_budget(joined.engine, joined.id, request)
        info = overview.find_study(joined.engine, name)
    show = live.view(joined.engine, info)
    workers = fleet.Fleet(
        orders=Orders(
            url,
            name,
            str(space.path.absolute()),
            str(home.folder.absolute()),
            request.cache_gb,
            digest(space.path),
        ),
        home=home,
        engine=joined.engine,
        info=info,
        seats=fleet.seats(request.workers),
        deadline=time.monotonic() + request.hours * 3600 if request.hours else None,
        look=show,
    )
    with show:
        code = workers.run()
    try:
        now = overview.overview(joined.engine, info)
    except SQLAlchemyError:
        now = None  # the database is away: the worker's own line says so
    return Finished(code, workers.error, name, now)


def checked(request: Request) -> tuple[Space, Draws, str, list[Recipe]]:
    """The space, its draws, the dataset, and the recipes as they will be trained; SpaceError if they cannot."""
    space = load_space(request.space)
    draws = draw(space)
    from tuner.check import check_recipes  # loads torch: a space that cannot be drawn from is told before

    data = data_name(draws.recipes[0], request.data)
    recipes = [swap_data(r, data) for r in draws.recipes]
    check_recipes(recipes, space.goal, str(space.path))
    if request.rehearse:  # what was checked above is what the real study would train
        recipes = [rehearse(r) for r in recipes]
        data = recipes[0].data.name
        check_recipes(recipes, space.goal, str(space.path))
    return space, draws, data, recipes


def study_name(space: Space, data: str, recipe: Recipe, rehearsal: bool) -> str:
    """The space's name; with the dataset when it is not the space's own."""
    if rehearsal:
        return f"{space.name}-rehearsal"
    own = data_name(recipe, None)
    return space.name if data == own else f"{space.name}@{Path(data).name}"


def open_all(recipes: list[Recipe]) -> list[Source]:
    """Every dataset the recipes name, each with the targets that its task needs."""
    return [open_for(recipe) for recipe in {str(r.data.without("image_size")): r for r in recipes}.values()]


def look_at(sources: list[Source], home: Home) -> tuple[str, ...]:
    """Look at each file once, before a study is created; the names of the classes."""
    classes: tuple[str, ...] = ()
    for source in sources:
        with progress_bar(f"reading {source.name}") as progress:
            classes = survey(source, home.cache, progress).classes
    return classes


def with_classes(recipes: list[Recipe], classes: tuple[str, ...]) -> list[Recipe]:
    return [replace(recipe, classes=classes) for recipe in recipes]


def check_again(recipes: list[Recipe], space: Space, url: str, home: Home) -> None:
    """What could not be known before the data was opened: the number of classes, and what depends on it."""
    from tuner.check import check_recipes, check_weights

    if recipes[0].classes:
        check_recipes(recipes, space.goal, str(space.path))
    engine = None if database.is_absent(url) else database.reach(url)
    try:
        check_weights(recipes, lambda name: find_start(name, engine, home, None), str(space.path))
    finally:
        if engine:
            engine.dispose()


def set_budget(engine: Engine, study_id: int, request: Request) -> None:
    """As given; else as it stands; else the default. With hours alone, trials have no limit."""
    if request.trials is not None:
        records.set_budget(engine, study_id, request.trials)
    elif records.budget(engine, study_id) is None and request.hours is None:
        records.set_budget(engine, study_id, NUM_TRIALS if request.rehearse else DEFAULT_TRIALS)
