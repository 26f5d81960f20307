"""The attributes and the note of a trial: its recipe, the versions it was made with, and its result."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from importlib.metadata import version

import optuna

from tuner.data.cache import CachedDataset
from tuner.goal import Goal
from tuner.recipe import Recipe
from tuner.registry.packages import own_packages
from tuner.study.format import format_at, format_metrics_table, format_paused
from tuner.study.verdict import missed_classes
from tuner.train.loop import Progress, TrainingOutcome

LIBRARIES = ("torch", "optuna", "sqlalchemy", "segmentation-models-pytorch", "albumentations", "numpy")


def write_recipe(trial: optuna.Trial, recipe: Recipe, data: CachedDataset, commit: str, code: str = "") -> None:
    """Set the trial's recipe, and the data, versions and code it is made with; `code` is a hash."""
    if "recipe" in trial.user_attrs:
        return  # a resumed trial
    packages = own_packages(recipe.own_names)
    editable = {each.name: each.source_hash for each in packages if each.source_hash}
    trial.set_user_attr(
        "made_with",
        {
            **{name: version(name) for name in ("tuner", *LIBRARIES)},
            "python": platform.python_version(),
            "commit": commit,
            "data": data.name,
            "data_hash": data.fingerprint,
            "train_images": len(data.train),
            "val_images": len(data.val),
            **({"code": code} if code else {}),
            **({"packages": {each.name: each.version for each in packages}} if packages else {}),
            **({"editable": editable} if editable else {}),
        },
    )
    trial.set_user_attr("recipe", recipe.to_json())  # last: a trial with a recipe has all of these


def write_result(
    trial: optuna.Trial,
    outcome: TrainingOutcome,
    host: str,
    device: str,
    attempt: int,
    test: dict[str, float],
    classes: Sequence[str],
) -> None:
    """Set the trial's result, before its end: a finished trial takes no more attributes."""
    progress = outcome.progress
    trial.set_user_attr(
        "result",
        {
            "best_value": progress.best_value,
            "best_epoch": progress.best_epoch,
            "last_value": progress.last_value,
            "epochs": progress.epoch - 1,  # `epoch` is the next one
            "precision": outcome.dtype,
            "micro_batch": outcome.micro,
            "device": device,
            "host": host,
            "attempt": attempt,
            **({"missed": missed_classes(progress.confusion, classes)} if progress.confusion else {}),
            **({"weights": progress.carried} if progress.carried else {}),
            **({"partial": list(progress.partial)} if progress.partial else {}),
            **({"test": test} if test else {}),
        },
    )


def format_recipe(recipe: Recipe) -> str:
    """Return the recipe as JSON with one line for each part, so that the pictures below it stay in view."""
    return "{\n" + ",\n".join(f' "{k}": {json.dumps(v)}' for k, v in recipe.to_json().items()) + "\n}"


def save_result_note(
    trial: optuna.Trial, recipe: Recipe, goal: Goal, progress: Progress, is_paused: bool = False
) -> None:
    """Show in the dashboard the recipe, the metrics of the best epoch, and where a paused trial rests."""
    from optuna_dashboard import save_note

    attrs = {"recipe": {"epochs": recipe.epochs}, "result": {"partial": progress.partial}}
    rests = f", {format_paused(progress.epoch - 1, attrs)}" if is_paused else ""
    best = format_at(progress.best_epoch, progress.partial)
    metrics = {report["epoch"]: report["metrics"] for report in progress.history}
    save_note(
        trial,
        f"**{recipe.model}** on **{recipe.data}**, best {goal.metric} at epoch {best}{rests}\n\n"
        f"{format_metrics_table(metrics.get(progress.best_epoch, {}))}\n\n"
        f"```json\n{format_recipe(recipe)}\n```\n",
    )


def save_failure_note(trial: optuna.Trial, reason: str, heading: str = "failed") -> None:
    """Show in the dashboard why a trial failed or was not trained, and its recipe if it has one."""
    from optuna_dashboard import save_note

    plain = trial.user_attrs.get("recipe")
    recipe = f"\n\n```json\n{format_recipe(Recipe.from_json(plain))}\n```\n" if plain else ""
    save_note(trial, f"**{heading}**\n\n```\n{reason.strip()}\n```{recipe}")
