"""Check a recipe before any GPU is taken: names, arguments, the goal, and the model at its image size."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from tuner.data.augment import AUGMENTATIONS
from tuner.data.datasets import data_problems
from tuner.errors import PartError, SpaceError, first_lines, near
from tuner.goal import Goal
from tuner.losses import LOSSES
from tuner.models import MODELS
from tuner.optims import OPTIMIZERS, SCHEDULES
from tuner.parts import build, problems
from tuner.recipe import Recipe
from tuner.tasks import Task, find_task


def check_recipes(recipes: Iterable[Recipe], goal: Goal, where: str) -> None:
    """SpaceError with everything that is wrong with any of the recipes, each problem once."""
    tried: dict[object, list[str]] = {}
    wrong: dict[str, None] = {}
    for recipe in recipes:
        wrong |= dict.fromkeys(recipe_problems(recipe, goal, tried))
    if wrong:
        raise SpaceError(f"{where}: its recipes cannot be trained:{first_lines(wrong)}")


def recipe_problems(recipe: Recipe, goal: Goal, tried: dict[object, list[str]]) -> list[str]:
    """All that is wrong with one recipe. `tried` remembers the models already built."""
    wrong = [*number_problems(recipe), *data_problems(recipe.data)]
    for kind, table, part in (
        ("model", MODELS, recipe.model),
        ("loss", LOSSES, recipe.loss),
        ("optimizer", OPTIMIZERS, recipe.optimizer),
        ("schedule", SCHEDULES, recipe.schedule),
        ("augmentation", AUGMENTATIONS, recipe.augment),
    ):
        wrong += problems(kind, table, part)
    try:
        task = find_task(recipe.task)
    except PartError as error:
        return [*wrong, str(error)]
    if goal.metric not in task.metrics:
        wrong.append(
            f"the goal '{goal.metric}' is no metric of the task '{task.name}'."
            f"{near(goal.metric, task.metrics)} Known: {', '.join(task.metrics)}."
        )
    elif goal.metric == "loss" and goal.direction == "maximize":
        wrong.append('the goal would make the loss large. Write: GOAL = minimize("loss").')
    return wrong or trial_run(recipe, task, tried)


def number_problems(recipe: Recipe) -> list[str]:
    """Counts must be whole numbers of at least one."""
    from tuner.train.precision import PRECISIONS

    given = {"epochs": recipe.epochs, "batch_size": recipe.batch_size}
    given["image_size"] = recipe.data.args.get("image_size", 256)  # type: ignore[assignment]
    wrong = [
        f"{name} is {value!r}; a whole number of at least 1 is needed."
        for name, value in given.items()
        if not isinstance(value, int) or isinstance(value, bool) or value < 1
    ]
    if recipe.precision not in PRECISIONS:
        wrong.append(
            f"precision is {recipe.precision!r}.{near(str(recipe.precision), PRECISIONS)} "
            f"Known: {', '.join(PRECISIONS)}."
        )
    return wrong


def trial_run(recipe: Recipe, task: Task, tried: dict[object, list[str]]) -> list[str]:
    """Build every part and run the model on an image without data: shapes are computed, numbers are not."""
    import torch

    from tuner.train.trainer import CHANNELS, build_model

    size = recipe.image_size

    def run_model() -> None:
        with torch.device("meta"):
            output = build_model(recipe, task)(torch.empty(2, CHANNELS, size, size))
        if tuple(output.shape) != (2, task.outputs, size, size):
            raise ValueError(f"it gives {tuple(output.shape)}, which is no mask of them")

    def make_schedule() -> None:
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
        build("schedule", SCHEDULES, recipe.schedule, optimizer, recipe.epochs)

    some_weights = [torch.nn.Parameter(torch.zeros(1))]
    attempts: dict[str, Callable[[], object]] = {
        f"{recipe.model} with images of {size} px": run_model,
        f"loss {recipe.loss}": lambda: build("loss", LOSSES, recipe.loss, task.name),
        f"augmentation {recipe.augment}": lambda: build("augmentation", AUGMENTATIONS, recipe.augment, size),
        f"optimizer {recipe.optimizer}": lambda: build("optimizer", OPTIMIZERS, recipe.optimizer, some_weights),
        f"schedule {recipe.schedule}": make_schedule,
    }
    for what, attempt in attempts.items():
        if what not in tried:
            tried[what] = failure(what, attempt)
    return [line for what in attempts for line in tried[what]]


def failure(what: str, attempt: Callable[[], object]) -> list[str]:
    """What an attempt says when it fails, as one line."""
    try:
        attempt()
    except Exception as error:
        return [f"{what}: {str(error) or type(error).__name__}"]
    return []
