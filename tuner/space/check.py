"""Check a recipe before workers start: names, arguments, the goal, and the model at its image size."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

from tuner.data.augment import AUGMENTATIONS
from tuner.data.datasets import data_problems
from tuner.errors import PartError, SpaceError, did_you_mean, first_lines, printable
from tuner.goal import COSTS, Goal, describe_excess, over_limits
from tuner.models import MODELS
from tuner.recipe import Part, Recipe, Stage, format_number, is_own_metric, is_storable, numbers_in
from tuner.registry import COUNT, POSITIVE, Range, build, find_builder, part_problems, unknown_choice
from tuner.space.drawing import DRAWN, resize_recipe
from tuner.tasks import MINIMIZED_METRICS, Task, find_task
from tuner.train.losses import LOSSES
from tuner.train.optimizers import OPTIMIZERS
from tuner.train.schedules import SCHEDULES
from tuner.wording import pluralize

MOST_IMAGE_SIZE = 8192  # pixels of a side
ASSUMED_CLASSES = 3  # until the data is opened


def check_recipes(
    recipes: Iterable[Recipe],
    goal: Goal,
    where: str,
    tried: dict[object, Any] | None = None,
    further: Sequence[Goal] = (),
) -> None:
    """Raise SpaceError with everything that is wrong with any of the recipes, each problem once.

    `tried` caches models, and what is wrong with parts.
    """
    tried = {} if tried is None else tried
    wrong: dict[str, None] = {}
    for recipe in recipes:
        wrong |= dict.fromkeys(recipe_problems(recipe, goal, tried, further))
    if wrong:
        raise SpaceError(f"{where}: its recipes cannot be trained:{first_lines(wrong)}")


def check_drawn() -> dict[str, list[dict[str, Any]]]:
    """Check what `draw` has drawn, in its size and in the one it will have.

    Return the recipes as JSON, and of each what has a limit and follows from its model alone. Runs in the process
    of the space.
    """
    drawn = DRAWN[0]
    recipes, choice = drawn.recipes, drawn.choice
    tried: dict[object, Any] = {}
    check_recipes(recipes, drawn.space.goal, drawn.where, tried, drawn.further)
    if (choice.rehearse, choice.shrink, choice.shorten) != (False, 1, 1):
        recipes = [resize_recipe(recipe, choice) for recipe in recipes]
        check_recipes(recipes, drawn.space.goal, drawn.where, tried, drawn.further)
    measured = measure_recipes(recipes, drawn.limits, tried)
    check_limits(measured, drawn.limits, drawn.where)
    return {"recipes": [recipe.to_json() for recipe in recipes], "measured": measured}


def measure_recipes(
    recipes: Iterable[Recipe], names: Iterable[str], tried: dict[object, Any]
) -> list[dict[str, float]]:
    """Return of each recipe those of the named measures that follow from its model alone."""
    if not (names := list(names)):
        return [{} for _ in recipes]
    from tuner.space.meta_model import measure_model

    pairs = ((recipe, find_task(recipe.task)) for recipe in recipes)
    return [measure_model(assume_classes(recipe, task), task, names, tried) for recipe, task in pairs]


def check_limits(measured: Sequence[Mapping[str, float]], limits: Mapping[str, float], where: str) -> None:
    """Raise SpaceError if each of the recipes breaks a limit: then a search cannot find any that meets them."""
    over = [over_limits(each, limits) for each in measured]
    if not over or not all(over):
        return
    least = {name: min(each[name] for each in measured) for name in limits if any(name in one for one in over)}
    raise SpaceError(
        f"{where}: each of {pluralize(len(over), 'recipe')} drawn from it breaks a limit. The least that was met: "
        f"{describe_excess(least, limits)}. Raise the limits, or draw smaller models."
    )


def check_plain(recipes: list[dict[str, Any]], goal: dict[str, str], where: str) -> None:
    """Check recipes given as JSON. Runs in the process of the space."""
    check_recipes(map(Recipe.from_json, recipes), Goal(**goal), where)


def recipe_problems(
    recipe: Recipe, goal: Goal, tried: dict[object, Any], further: Sequence[Goal] = ()
) -> list[str]:
    """Return everything that is wrong with a recipe. `tried` caches models, and what is wrong with parts."""
    wrong = [*number_problems(recipe), *data_problems(recipe.data)]
    for kind, table, part in (
        ("model", MODELS, recipe.model),
        ("loss", LOSSES, recipe.loss),
        ("optimizer", OPTIMIZERS, recipe.optimizer),
        *(("schedule", SCHEDULES, stage.schedule or recipe.schedule) for stage in recipe.resolved_stages),
        ("augmentation", AUGMENTATIONS, recipe.augment),
    ):
        wrong += part_problems(kind, table, part)
    try:
        task = find_task(recipe.task)
    except PartError as error:
        return [*wrong, str(error)]
    goals = (goal, *further)
    recipe = recipe.with_metrics([each.metric for each in goals])
    wrong += metric_problems(recipe, task)
    for each in goals:
        wrong += goal_problems(each, task, () if each is goal else COSTS)
    return wrong or try_parts(recipe, task, tried)


def goal_problems(goal: Goal, task: Task, costs: Iterable[str] = ()) -> Iterator[str]:
    """Yield what is wrong with a goal, which is a metric of the task, of the user's own, or one of the costs."""
    if is_own_metric(goal.metric):
        return  # one of recipe.metrics
    known = [*task.metrics, *costs]
    if goal.metric not in known:
        yield (
            f"the goal '{goal.metric}' is not a metric of the task '{task.name}'."
            f"{did_you_mean(goal.metric, known)} Known: {', '.join(known)}."
        )
    elif goal.metric in MINIMIZED_METRICS and goal.direction == "maximize":
        yield f'the goal maximizes {goal.metric}; smaller is better. Write: GOAL = minimize("{goal.metric}").'


def metric_problems(recipe: Recipe, task: Task) -> list[str]:
    """Return what is wrong with the names of the metrics of the user's own."""
    wrong: list[str] = []
    for name in recipe.metrics:
        if not is_own_metric(name):
            reason = "is computed without being named" if name in task.metrics else "is not one of your own"
            wrong.append(f"metrics names '{name}', which {reason}: name functions, such as 'mine:score'.")
            continue
        try:
            find_builder("metric", {}, name)
        except PartError as error:
            wrong.append(str(error))
    return wrong


def check_weights(recipes: Iterable[Recipe], find: Callable[[str], Path | None], where: str) -> None:
    """Raise SpaceError if initial weights do not exist or do not fit the model; each pair is checked once.

    A trial of the study itself ("#12") may not exist yet, so it is checked when the trial starts.
    """
    from tuner.train.trainer import build_model
    from tuner.train.weights import match_tensors

    wrong: dict[str, None] = {}
    for recipe in {f"{r.model} {r.weights}": r for r in recipes}.values():
        if recipe.weights.name == "none" or recipe.weights.name.startswith("#"):
            continue
        try:
            match_tensors(build_model(recipe, find_task(recipe.task)), recipe, find(recipe.weights.name))
        except PartError as error:
            wrong[str(error)] = None
    if wrong:
        raise SpaceError(f"{where}: its weights cannot be used:{first_lines(wrong)}")


def number_problems(recipe: Recipe) -> list[str]:
    """Return what is wrong with the recipe's numbers, weights and precision."""
    from tuner.train.precision import PRECISIONS

    given: dict[str, object] = {name: getattr(recipe, name) for name in ("epochs", "batch_size", "validate_every")}
    given |= {f"epochs of stage {at}": stage.epochs for at, stage in enumerate(recipe.stages, start=1)}
    given["image_size"] = recipe.data.args.get("image_size", 256)
    wrong = [f"{name} is {value!r}; {COUNT} is needed." for name, value in given.items() if value not in COUNT]
    if recipe.image_size > MOST_IMAGE_SIZE:
        wrong.append(f"image_size is {recipe.image_size}; at most {MOST_IMAGE_SIZE} is possible.")
    if recipe.copies not in Range(least=0, whole=True):
        wrong.append(f"copies is {recipe.copies!r}; a whole number is needed, 0 for none.")
    elif recipe.copies and recipe.augment.name == "none":
        wrong.append(f"copies is {recipe.copies} without augmentation: choose one with augment=use(...).")
    if not wrong and recipe.epochs != sum(stage.epochs for stage in recipe.resolved_stages):
        each = " + ".join(str(stage.epochs) for stage in recipe.stages)
        wrong.append(
            f"epochs is {recipe.epochs}, but the stages sum up to {each}. Leave epochs out: it is their sum."
        )
    for at, stage in enumerate(recipe.stages, start=1):
        for name, rate in (("lr", stage.lr), ("encoder_lr", stage.encoder_lr)):
            if rate is not None and rate not in POSITIVE:
                wrong.append(f"{name} of stage {at} is {rate!r}; {POSITIVE} is needed.")
    wrong += [*weights_problems(recipe), *stored_problems(recipe)]
    if recipe.precision not in PRECISIONS:
        wrong.append(unknown_choice("precision", recipe.precision, PRECISIONS))
    return wrong


def stored_problems(recipe: Recipe) -> Iterator[str]:
    """Yield the arguments of parts with a number that a recipe, which is stored as JSON, cannot hold."""
    parts = [getattr(recipe, field.name) for field in fields(recipe)]
    for part in (*parts, *(stage.schedule for stage in recipe.stages)):
        for name, value in part.args.items() if isinstance(part, Part) else ():
            if odd := [number for number in numbers_in(value) if not is_storable(number)]:
                shown = printable(format_number(odd[0]))
                yield f"{name} of '{part.name}' is {shown}; a finite number of at most 64 bits is needed."


def weights_problems(recipe: Recipe) -> list[str]:
    """Return what is wrong with the `weights` field; `check_weights` checks the file itself."""
    from tuner.train.weights import PARTS

    part = recipe.weights.args.get("part", "all")
    wrong = [f"weights take no argument '{arg}'. They take: part." for arg in recipe.weights.args if arg != "part"]
    if not recipe.weights.name:
        wrong.append('weights is empty. Write "none", "imagenet", a file, a bundle or a study.')
    if recipe.weights.name == "imagenet" and part == "all" and "part" in recipe.weights.args:
        wrong.append('weights "imagenet" exist for encoders only: leave part="all" out.')
    if part not in PARTS:
        wrong.append(f"weights take part={part!r}.{did_you_mean(str(part), PARTS)} Known: {', '.join(PARTS)}.")
    return wrong


def assume_classes(recipe: Recipe, task: Task) -> Recipe:
    """Return the recipe with classes; until the data is opened, a few are assumed."""
    if recipe.classes or not task.has_classes:
        return recipe
    weights = recipe.loss.args.get("weights")
    number = len(weights) if isinstance(weights, list | tuple) else ASSUMED_CLASSES
    return replace(recipe, classes=tuple(map(str, range(number))))


def try_parts(recipe: Recipe, task: Task, tried: dict[object, Any]) -> list[str]:
    """Build every part, and run the model on the meta device."""
    import torch

    from tuner.space.meta_model import run_model, run_stages
    from tuner.train.own_metrics import try_metric

    recipe = assume_classes(recipe, task)
    number, size = max(len(recipe.classes), 2), recipe.image_size
    some_weights = [torch.nn.Parameter(torch.zeros(1))]

    def make_schedule(stage: Stage) -> None:
        optimizer = torch.optim.SGD(some_weights, lr=0.1)
        build("schedule", SCHEDULES, stage.schedule, optimizer, stage.epochs)  # type: ignore[arg-type]

    make_loss = partial(build, "loss", LOSSES, recipe.loss, task.name, lambda: [1 / number] * number)
    make_augmentation = partial(build, "augmentation", AUGMENTATIONS, recipe.augment, size)
    make_optimizer = partial(build, "optimizer", OPTIMIZERS, recipe.optimizer, some_weights)
    own_loss = recipe.loss.name if task.has_instances else ""
    attempts: list[tuple[str, object, Callable[[], object]]] = [  # the part, what it is tried with, how
        (f"{recipe.model} with images of {size} px", own_loss, partial(run_model, recipe, task, tried)),
        (f"loss {recipe.loss} of {number} classes", None, make_loss),
        (f"augmentation {recipe.augment}", size, make_augmentation),
        (f"optimizer {recipe.optimizer}", None, make_optimizer),
        *((f"schedule {s.schedule}", s.epochs, partial(make_schedule, s)) for s in recipe.resolved_stages),
        *((f"metric '{n}'", task.name, partial(try_metric, n, task, recipe.classes)) for n in recipe.metrics),
        (f"stages of {recipe.model}", str(recipe.stages), partial(run_stages, recipe, task, tried)),
    ]
    wrong: dict[str, None] = {}  # two stages may have the same problem
    for what, given, attempt in attempts:
        if (what, given) not in tried:
            tried[what, given] = error_of(what, attempt)
        wrong |= dict.fromkeys(tried[what, given])
    return list(wrong)


def error_of(what: str, attempt: Callable[[], object]) -> list[str]:
    """Return the error of an attempt as one line, or nothing."""
    try:
        attempt()
    except Exception as error:
        return [f"{what}: {str(error) or type(error).__name__}"]
    return []
