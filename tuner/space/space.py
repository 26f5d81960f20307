"""Search spaces: find one by name or path, load it, and draw from it in memory."""

from __future__ import annotations

import ast
import importlib.util
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from tuner.errors import SpaceError, did_you_mean, first_lines, format_names
from tuner.goal import Goal
from tuner.recipe import Recipe

if TYPE_CHECKING:
    from optuna import Trial
    from optuna.distributions import BaseDistribution

NUM_DRAWS = 64
PACKAGE = Path(__file__).parent.parent


@dataclass(frozen=True)
class Space:
    """A loaded space file: what to optimise, and how to turn a trial into a recipe."""

    name: str
    path: Path
    goal: Goal
    suggest: Callable[[Trial], Recipe]
    about: str = ""


@dataclass(frozen=True)
class DrawnRecipes:
    """Recipes drawn at random, and every parameter met with its distribution as plain JSON."""

    recipes: tuple[Recipe, ...]
    parameters: dict[str, dict[str, Any]]


def space_folders() -> list[Path]:
    """Where spaces are found by name: the user's own first, then the shipped ones."""
    shipped = [PACKAGE / "shipped" / "search_spaces", PACKAGE.parent / "search_spaces"]
    return [Path("search_spaces"), *shipped]


def known_spaces() -> dict[str, Path]:
    """Every space by name; an earlier folder hides a later one's of the same name."""
    found: dict[str, Path] = {}
    for folder in space_folders():
        if folder.is_dir():
            for path in sorted(folder.rglob("*.py")):
                if not path.name.startswith("_"):
                    found.setdefault(path.relative_to(folder).with_suffix("").as_posix(), path)
    return found


def find_space(name: str) -> Path:
    """The file of a space given by name or path."""
    if name.endswith(".py") or name.startswith((".", "~", os.sep)):
        path = Path(name).expanduser()
        if path.is_dir():
            raise SpaceError(f"{path} is a folder; give one .py file of it.{list_files(path)}")
        if not path.is_file():
            raise SpaceError(f"no space file {path}.{list_files(path.parent)}")
        return path.absolute()  # as tracebacks name it
    known = known_spaces()
    if not name or name not in known:
        names = ", ".join(sorted(known))
        raise SpaceError(
            f"no space '{name}'.{did_you_mean(name, known)} Known: {names}; or give the path of a .py file."
        )
    return known[name]


def list_files(folder: Path) -> str:
    """' It holds: ...', where a folder holds spaces."""
    found = sorted(path.name for path in folder.glob("*.py")) if folder.is_dir() else []
    return f" {folder} holds: {format_names(found)}." if found else ""


def read_about(path: Path) -> str:
    """The first line of a space's docstring, without running the file."""
    try:
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    except (SyntaxError, ValueError, OSError) as error:
        return f"cannot be read: {error}"
    return text.partition("\n")[0]


def load_space(name: str) -> Space:
    """Run a space file and check that it says what a space must say."""
    path = find_space(name)
    module = run_file(path)
    goal, suggest = getattr(module, "GOAL", None), getattr(module, "suggest", None)
    if not isinstance(goal, Goal):
        raise SpaceError(f'{path} has no GOAL. Write for example: GOAL = maximize("iou").')
    if not callable(suggest):
        raise SpaceError(f"{path} has no function suggest(trial) that returns a Recipe.")
    return Space(path.stem, path, goal, suggest, (module.__doc__ or "").strip().partition("\n")[0])


def run_file(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"tuner_space_{path.stem}", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # a dataclass in the file looks itself up there
    beside = str(path.parent.absolute())
    sys.path.insert(0, beside)  # a space may import a helper that lies beside it
    keep, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # two edits in a second would look the same
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise SpaceError(f"{path} cannot be loaded: {locate_error(error, path)}") from error
    finally:
        sys.path.remove(beside)
        sys.dont_write_bytecode = keep
    return module


def locate_error(error: BaseException, path: Path) -> str:
    """'NameError: ... (line 12)', with the last line of the user's own file."""
    path = path.absolute()
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if Path(f.filename) == path]
    at = f" (line {lines[-1]})" if lines else ""
    return f"{type(error).__name__}: {error}{at}"


def draw_recipes(space: Space, number: int = NUM_DRAWS) -> DrawnRecipes:
    """Draw recipes at random, always the same ones. SpaceError lists every way in which drawing failed."""
    recipes: list[Recipe] = []
    seen: dict[str, list[BaseDistribution]] = {}
    wrong: dict[str, None] = {}
    for seed in range(number):
        try:
            recipe, distributions = draw_recipe(space, seed)
        except SpaceError as error:
            wrong.setdefault(str(error))
            continue
        recipes.append(recipe)
        for name, distribution in distributions.items():
            if distribution not in seen.setdefault(name, []):
                seen[name].append(distribution)
    wrong |= dict.fromkeys([*conflicting_parameters(seen), *unstorable_choices(seen), *mixed_recipes(recipes)])
    if wrong:
        raise SpaceError(f"{space.path}: drawing from it failed:{first_lines(wrong)}")
    return DrawnRecipes(tuple(recipes), {name: merge_distributions(kinds) for name, kinds in sorted(seen.items())})


def draw_recipe(space: Space, seed: int) -> tuple[Recipe, dict[str, BaseDistribution]]:
    """One random recipe and the distributions it was drawn from."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed)).ask()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message="Inconsistent parameter values")
            recipe = space.suggest(trial)
    except (Exception, SystemExit) as error:
        raise SpaceError(f"suggest() raised {locate_error(error, space.path)}") from error
    if not isinstance(recipe, Recipe):
        raise SpaceError(f"suggest() returned {type(recipe).__name__}; it must return a Recipe")
    return recipe, trial.distributions


def conflicting_parameters(seen: dict[str, list[BaseDistribution]]) -> Iterable[str]:
    """Parameters whose kind, choices or log scale depend on the branch taken: Optuna cannot hold them."""
    from optuna.distributions import check_distribution_compatibility

    for name, kinds in seen.items():
        for other in kinds[1:]:
            try:
                check_distribution_compatibility(kinds[0], other)
            except ValueError:
                yield f"parameter '{name}' is drawn in two ways: {kinds[0]} and {other}; rename one of them"
                break


def unstorable_choices(seen: dict[str, list[BaseDistribution]]) -> Iterable[str]:
    """Choices that no database gives back as they were, such as tuples."""
    for name, kinds in seen.items():
        choices = [choice for kind in kinds for choice in getattr(kind, "choices", ())]
        odd = [repr(c) for c in choices if not (c is None or isinstance(c, bool | int | float | str))]
        if odd:
            yield f"parameter '{name}' has the choice {odd[0]}; text, numbers, True, False and None are allowed"


def mixed_recipes(recipes: list[Recipe]) -> Iterable[str]:
    """A study is of one dataset and one task, else its values cannot be compared."""
    for what, names in (("dataset", {r.data.name for r in recipes}), ("task", {str(r.task) for r in recipes})):
        if len(names) > 1:
            yield f"it draws more than one {what} ({format_names(sorted(names))}); a study is of one"


def merge_distributions(kinds: list[BaseDistribution]) -> dict[str, Any]:
    """One distribution as plain JSON; branches with other bounds give the widest."""
    import json

    from optuna.distributions import distribution_to_json

    plain = [json.loads(distribution_to_json(kind)) for kind in kinds]
    one: dict[str, Any] = {"kind": plain[0]["name"].removesuffix("Distribution").lower(), **plain[0]["attributes"]}
    if "low" in one:
        one["low"] = min(p["attributes"]["low"] for p in plain)
        one["high"] = max(p["attributes"]["high"] for p in plain)
    return one


def describe_parameter(parameter: dict[str, Any]) -> str:
    """'float 1e-05 to 0.01, log' or 'one of bce, focal, dice'."""
    if parameter["kind"] == "categorical":
        return f"one of {', '.join(map(str, parameter['choices']))}"
    text = f"{parameter['kind']} {parameter['low']:g} to {parameter['high']:g}"
    step = parameter.get("step")
    return text + (", log" if parameter.get("log") else "") + (f", step {step:g}" if step not in (None, 1) else "")
