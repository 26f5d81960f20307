"""Search spaces: find one by name or path, load it, and draw recipes from it in memory."""

from __future__ import annotations

import ast
import importlib.util
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from tuner.errors import SpaceError, describe_value, first_line, first_lines, format_names, locate_error, printable
from tuner.goal import Goal, read_goals, read_limits
from tuner.paths import LONGEST_TEXT, read_bytes
from tuner.recipe import Recipe, format_number, is_storable
from tuner.registry.own_modules import importing_own, search_beside
from tuner.space.files import find_file, known_files
from tuner.space.search_settings import SearchChoice

if TYPE_CHECKING:
    from optuna import Trial
    from optuna.distributions import BaseDistribution

NUM_DRAWS = 64
MOST_PARAMETERS, MOST_CHOICES = 1000, 10_000
LONGEST_PARAMETER, LONGEST_CHOICE = 200, 1000  # characters


@dataclass(frozen=True)
class Space:
    """A loaded space file: the goal, and the function that draws a recipe from a trial."""

    name: str
    path: Path
    goal: Goal
    suggest: Callable[[Trial], Recipe]
    about: str = ""
    search: SearchChoice = SearchChoice()
    start: tuple[Any, ...] = ()  # points that are trained first, not checked yet
    limits: Mapping[str, float] = field(default_factory=dict)
    further: tuple[Goal, ...] = ()  # goals beside the first


@dataclass(frozen=True)
class DrawnRecipes:
    """Random recipes of a space, and the distribution of every parameter as plain JSON.

    `varying` are the parameters that some recipes do not have, or within other bounds; `points` are the parameters
    of each recipe.
    """

    recipes: tuple[Recipe, ...]
    parameters: dict[str, dict[str, Any]]
    varying: frozenset[str] = frozenset()
    points: tuple[dict[str, Any], ...] = ()


def known_spaces() -> dict[str, Path]:
    return known_files("search_spaces", "[!_]*.py")


def find_space(name: str) -> Path:
    """Return the file of a space given by name or path; SpaceError if there is none."""
    return find_file("space", name, known_spaces(), ".py", SpaceError)


def read_about(path: Path) -> str:
    """Return the first line of a space's docstring without running the file."""
    return describe_file(path)["about"]


def describe_file(path: Path) -> dict[str, str]:
    """Return a space's path and the first line of its docstring, or the error, without running the file."""
    try:
        return {"about": parse_about(path), "path": str(path)}
    except SpaceError as error:
        return {"about": f"cannot be read: {first_line(error)}", "path": str(path), "error": str(error)}


def parse_about(path: Path) -> str:
    """Return the first line of a space's docstring; SpaceError if the file is not Python."""
    source = read_bytes(path, SpaceError, LONGEST_TEXT)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the parser, about the code
            text = ast.get_docstring(ast.parse(source)) or ""
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise SpaceError(first_line(error)) from error
    return text.partition("\n")[0]


def load_space(name: str) -> Space:
    """Run a space file; check its GOAL and suggest(), and SEARCH, START and LIMITS if it has them."""
    path = find_space(name)
    module = run_file(path)
    goal, suggest = getattr(module, "GOAL", None), getattr(module, "suggest", None)
    if goal is None:
        raise SpaceError(f'{path} has no GOAL. Write for example: GOAL = maximize("iou").')
    if not callable(suggest):
        raise SpaceError(f"{path} has no function suggest(trial) that returns a Recipe.")
    search = getattr(module, "SEARCH", SearchChoice())
    if not isinstance(search, SearchChoice):
        raise SpaceError(f'SEARCH of {path} is {search!r}. Write for example: SEARCH = search(sampler="tpe").')
    start = getattr(module, "START", [])
    if not isinstance(start, list | tuple):
        raise SpaceError(
            f'START of {path} is {describe_value(start)}. Write for example: START = [{{"lr": 1e-3}}].'
        )
    try:
        first, *further = read_goals(goal)
    except ValueError as error:
        raise SpaceError(f"{path} has no GOAL that can be used: {error}.") from None
    try:
        limits = read_limits(getattr(module, "LIMITS", {}))
    except ValueError as error:
        raise SpaceError(f"LIMITS of {path} cannot be used: {error}.") from None
    about = (module.__doc__ or "").strip().partition("\n")[0]
    return Space(path.stem, path, first, suggest, about, search, tuple(start), limits, tuple(further))


def run_file(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"tuner_space_{path.stem}", path)
    assert spec and spec.loader
    read_bytes(path, SpaceError, LONGEST_TEXT)  # a regular file of a size that a person writes
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look up their module there
    search_beside(path)
    try:
        with importing_own():
            spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise SpaceError(f"{path} cannot be loaded: {locate_error(error, path)}") from error
    return module


def draw_recipes(space: Space, number: int = NUM_DRAWS) -> DrawnRecipes:
    """Draw recipes with fixed seeds; SpaceError lists every error that occurred."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    recipes: list[Recipe] = []
    points: list[dict[str, Any]] = []
    seen: dict[str, list[BaseDistribution]] = {}
    times: Counter[str] = Counter()
    wrong: dict[str, None] = {}
    for seed in range(number):
        try:
            recipe, distributions, point = draw_recipe(space, seed)
        except SpaceError as error:
            wrong.setdefault(str(error))
            continue
        recipes.append(recipe)
        points.append(point)
        times.update(list(distributions))
        for name, distribution in distributions.items():
            if distribution not in seen.setdefault(name, []):
                seen[name].append(distribution)
    wrong |= dict.fromkeys([*conflicting_parameters(seen), *unstorable_choices(seen), *mixed_recipes(recipes)])
    if wrong:
        raise SpaceError(f"{space.path}: drawing from it failed:{first_lines(wrong)}")
    varying = frozenset(name for name, kinds in seen.items() if len(kinds) > 1 or times[name] < number)
    parameters = {name: merge_distributions(kinds) for name, kinds in sorted(seen.items())}
    return DrawnRecipes(tuple(recipes), parameters, varying, tuple(points))


def draw_recipe(space: Space, seed: int) -> tuple[Recipe, dict[str, BaseDistribution], dict[str, Any]]:
    """Draw one recipe; return it with the distributions of its parameters, and with these."""
    import optuna

    trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed)).ask()
    try:
        with warnings.catch_warnings(), importing_own():
            warnings.filterwarnings("error", message="Inconsistent parameter values")
            recipe = space.suggest(trial)
    except (Exception, SystemExit) as error:
        raise SpaceError(f"suggest() raised {locate_error(error, space.path)}") from error
    if not isinstance(recipe, Recipe):
        raise SpaceError(f"suggest() returned {type(recipe).__name__}; it must return a Recipe")
    if wrong := list(parameter_problems(trial.distributions)):
        raise SpaceError(wrong[0])
    return recipe, trial.distributions, trial.params


def parameter_problems(distributions: Mapping[Any, BaseDistribution]) -> Iterator[str]:
    """Yield what is wrong with names and numbers of parameters, which Optuna takes as they are."""
    if len(distributions) > MOST_PARAMETERS:
        yield f"it has {len(distributions):,} parameters; at most {MOST_PARAMETERS:,} are possible"
    for name, kind in distributions.items():
        if not isinstance(name, str) or not name.isprintable() or not 0 < len(name) <= LONGEST_PARAMETER:
            yield (
                f"a parameter is named {printable(repr(name))}; a text of 1 to {LONGEST_PARAMETER} printable "
                "characters is needed"
            )
        if len(choices := getattr(kind, "choices", ())) > MOST_CHOICES:
            yield f"parameter '{name}' has {len(choices):,} choices; at most {MOST_CHOICES:,} are possible"
        sides = [getattr(kind, side) for side in ("low", "high") if hasattr(kind, side)]
        for value in (*choices, *sides):
            if isinstance(value, str) and len(value) > LONGEST_CHOICE:
                yield f"parameter '{name}' has a choice of {len(value):,} characters; {LONGEST_CHOICE:,} fit"
            elif isinstance(value, int | float) and not is_storable(value):
                shown = printable(format_number(value))
                yield f"parameter '{name}' has the value {shown}; a finite number of at most 64 bits is needed"


def conflicting_parameters(seen: dict[str, list[BaseDistribution]]) -> Iterable[str]:
    """Yield parameters whose kind, choices or log scale differ between draws, which Optuna does not support."""
    from optuna.distributions import check_distribution_compatibility

    for name, kinds in seen.items():
        for other in kinds[1:]:
            try:
                check_distribution_compatibility(kinds[0], other)
            except ValueError:
                yield f"parameter '{name}' is drawn in two ways: {kinds[0]} and {other}; rename one of them"
                break


def unstorable_choices(seen: dict[str, list[BaseDistribution]]) -> Iterable[str]:
    """Yield parameters with choices that a database does not store unchanged, such as tuples."""
    for name, kinds in seen.items():
        choices = [choice for kind in kinds for choice in getattr(kind, "choices", ())]
        odd = [repr(c) for c in choices if not (c is None or isinstance(c, bool | int | float | str))]
        if odd:
            yield f"parameter '{name}' has the choice {odd[0]}; text, numbers, True, False and None are allowed"


def mixed_recipes(recipes: list[Recipe]) -> Iterable[str]:
    """Yield an error if the recipes use several datasets or tasks: their values could not be compared."""
    for what, names in (("dataset", {r.data.name for r in recipes}), ("task", {str(r.task) for r in recipes})):
        if len(names) > 1:
            yield f"it draws more than one {what} ({format_names(sorted(names))}); a study needs exactly one"


def merge_distributions(kinds: list[BaseDistribution]) -> dict[str, Any]:
    """Merge distributions of one parameter into plain JSON, with the widest bounds."""
    import json

    from optuna.distributions import distribution_to_json

    plain = [json.loads(distribution_to_json(kind)) for kind in kinds]
    one: dict[str, Any] = {"kind": plain[0]["name"].removesuffix("Distribution").lower(), **plain[0]["attributes"]}
    if "low" in one:
        one["low"] = min(p["attributes"]["low"] for p in plain)
        one["high"] = max(p["attributes"]["high"] for p in plain)
    return one


def describe_parameter(parameter: dict[str, Any]) -> str:
    """Return for example 'float 1e-05 to 0.01, log' or 'one of bce, focal, dice'."""
    if parameter["kind"] == "categorical":
        return f"one of {', '.join(map(str, parameter['choices']))}"
    text = f"{parameter['kind']} {parameter['low']:g} to {parameter['high']:g}"
    step = parameter.get("step")
    return text + (", log" if parameter.get("log") else "") + (f", step {step:g}" if step not in (None, 1) else "")
