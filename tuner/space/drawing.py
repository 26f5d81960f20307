"""What the commands learn of a space, drawn and checked in a process of its own: its code cannot harm them.

`inspect_space` and `check_again` are called by the command; `draw` runs in the process, as do the functions of
`tuner.space.check` that they name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tuner.data.datasets import check_layout, data_name, swap_data
from tuner.errors import SpaceError
from tuner.goal import Goal
from tuner.recipe import Recipe
from tuner.registry.own_modules import search_beside
from tuner.space.child import SpaceProcess
from tuner.space.grid import resolve_grid
from tuner.space.published import load_table
from tuner.space.rehearsal import reduce_recipe, rehearse
from tuner.space.search_settings import SearchChoice, SearchSettings
from tuner.space.space import NUM_DRAWS, DrawnRecipes, Space, draw_recipes, load_space
from tuner.space.start_points import add_prior, draw_start, fit_points


@dataclass(frozen=True)
class DrawnSpace:
    """A space as the commands know it: all but its code. `own_data` is its dataset before another was chosen.

    The recipes of its `start` come last.
    """

    name: str
    path: Path
    goal: Goal
    data: str
    own_data: str
    parameters: dict[str, dict[str, Any]]
    search: SearchChoice = SearchChoice()
    start: tuple[dict[str, Any], ...] = ()
    recipes: tuple[Recipe, ...] = ()
    limits: Mapping[str, float] = field(default_factory=dict)
    further: tuple[Goal, ...] = ()  # goals beside the first
    points: tuple[dict[str, Any], ...] = ()  # the parameters of the recipes without those of `start`
    measured: tuple[dict[str, float], ...] = ()  # of each recipe, what follows from its model of what has a limit

    @property
    def settings(self) -> SearchSettings:
        """How a new study of this space is searched."""
        return self.search.settle(bool(self.further))


@dataclass(frozen=True)
class Choice:
    """What is chosen for a space: a table whose rows are trained, the dataset, the sizes, and how it is searched.

    `search` and `limits` hold what differs from the space's own.
    """

    table: str | None = None
    data: str | None = None
    layout: str | None = None
    rehearse: bool = False
    shrink: int = 1
    shorten: int = 1
    search: Mapping[str, Any] = field(default_factory=dict)
    limits: Mapping[str, float] = field(default_factory=dict)


def inspect_space(process: SpaceProcess, choice: Choice) -> DrawnSpace:
    """Load a space in its process, draw recipes or those of a table's rows, and check each, as was chosen.

    SpaceError, TableError or DataError lists all that is wrong.
    """
    purpose = f"load it and draw {NUM_DRAWS} recipes"
    found = process.call("tuner.space.drawing:draw", purpose, space=str(process.path), choice=asdict(choice))
    checked = process.call("tuner.space.check:check_drawn", "check its recipes")
    search_beside(process.path)  # for a dataset reader of the user's own
    recipes = tuple(Recipe.from_json(plain) for plain in checked["recipes"])
    goal, search = Goal(**found.pop("goal")), SearchChoice(found.pop("search"))
    found["start"], found["points"] = tuple(found["start"]), tuple(found["points"])
    found["further"] = tuple(Goal(**each) for each in found["further"])
    return DrawnSpace(
        **found,
        path=process.path,
        goal=goal,
        search=search,
        data=recipes[0].data.name,
        recipes=recipes,
        measured=tuple(checked["measured"]),
    )


def check_again(process: SpaceProcess, recipes: Iterable[Recipe], goal: Goal) -> None:
    """Check recipes of which more is known, such as their classes, in the process of their space."""
    plain = [recipe.to_json() for recipe in recipes]
    args = {"recipes": plain, "goal": asdict(goal), "where": str(process.path)}
    process.call("tuner.space.check:check_plain", "check its recipes", **args)


# --- in the process ---


@dataclass(frozen=True)
class Drawn:
    """What `draw` has drawn, for `check_drawn`."""

    space: Space
    recipes: list[Recipe]
    where: str
    choice: Choice
    limits: Mapping[str, float] = field(default_factory=dict)
    further: tuple[Goal, ...] = ()


DRAWN: list[Drawn] = []  # the last


def draw(space: str, choice: dict[str, Any]) -> dict[str, Any]:
    """Load a space and draw recipes, or those of a table's rows; return the fields of DrawnSpace known then."""
    loaded, chosen = load_space(space), Choice(**choice)
    search = loaded.search.with_options(chosen.search)
    drawn, rows = draw_recipes(loaded), chosen.table and load_table(chosen.table)
    if rows:
        from tuner.space.table_rows import draw_row_recipes

        drawn = draw_row_recipes(loaded, rows, drawn)
    elif (settings := search.settle()).sampler == "grid":
        search = SearchChoice({**search.chosen, "grid": draw_grid(loaded, settings, drawn)})
    if not rows:
        loaded = add_prior(loaded, search.settle().prior, drawn)
    starting = [] if rows else draw_start(loaded, drawn)
    first = drawn.recipes[0]
    own = data_name(first, rows.data or None if rows else None)
    name = own if chosen.data is None else data_name(first, chosen.data)
    check_layout(first, name, chosen.layout)
    layout, further = chosen.layout or "", () if rows else loaded.further
    metrics = [goal.metric for goal in (loaded.goal, *further)]
    recipes = [
        swap_data(recipe, name, layout=layout).with_metrics(metrics) for recipe in (*drawn.recipes, *starting)
    ]
    limits = {} if rows else {**loaded.limits, **chosen.limits}
    DRAWN[:] = [Drawn(loaded, recipes, str(rows.path if rows else loaded.path), chosen, limits, further)]
    return {
        "name": loaded.name,
        "goal": asdict(loaded.goal),
        "further": [asdict(goal) for goal in further],
        "own_data": own,
        "parameters": drawn.parameters,
        "search": dict(search.chosen),
        "start": [] if rows else list(loaded.start),
        "points": list(drawn.points),
        "limits": limits,
    }


def resize_recipe(recipe: Recipe, choice: Choice) -> Recipe:
    """Return the recipe in the size that was chosen."""
    return rehearse(recipe) if choice.rehearse else reduce_recipe(recipe, choice.shrink, choice.shorten)


def fit_drawn(points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return points of another space as `fit_points` does, for the space that was drawn last."""
    return fit_points(DRAWN[0].space, points)


def draw_grid(space: Space, search: SearchSettings, drawn: DrawnRecipes) -> dict[str, list[Any]]:
    """Return the values of a grid; SpaceError if the space has none."""
    if space.start:
        raise SpaceError(f"{space.path} has START and a grid, which has every point in any case: leave START out.")
    return resolve_grid(search.grid, drawn, space.path)
