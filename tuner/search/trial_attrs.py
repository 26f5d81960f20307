"""What is written on a trial for people and for later: its recipe, origin, result and note."""

from __future__ import annotations

import json
import platform
from importlib.metadata import version
from typing import Any

import optuna

from tuner.data.cache import CachedDataset
from tuner.goal import Goal
from tuner.recipe import Recipe
from tuner.study.format import format_metrics_table
from tuner.train.loop import TrainingOutcome

LIBRARIES = ("torch", "optuna", "sqlalchemy", "segmentation-models-pytorch", "albumentations", "numpy")


def write_recipe(trial: optuna.Trial, recipe: Recipe, data: CachedDataset, commit: str) -> None:
    """Write on the trial what it trains, on which data, with which versions."""
    if "recipe" in trial.user_attrs:
        return  # a trial that goes on
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
        },
    )
    trial.set_user_attr("recipe", recipe.to_json())  # last: where it stands, all of this stands


def write_result(
    trial: optuna.Trial, outcome: TrainingOutcome, host: str, device: str, attempt: int, test: dict[str, float]
) -> None:
    """Write on the trial what came out; a finished trial cannot be written on."""
    progress = outcome.progress
    trial.set_user_attr(
        "result",
        {
            "best_value": progress.best_value,
            "best_epoch": progress.best_epoch,
            "last_value": progress.last_value,
            "epochs": progress.epoch - 1,  # it stands at the one after the last
            "precision": outcome.dtype,
            "micro_batch": outcome.micro,
            "device": device,
            "host": host,
            "attempt": attempt,
            **({"weights": progress.carried} if progress.carried else {}),
            **({"test": test} if test else {}),
        },
    )


def recipe_note(recipe: Recipe, goal: Goal, rows: list[dict[str, Any]], best_epoch: int) -> str:
    """The trial's note in the dashboard: the recipe, and the metrics of the best epoch."""
    best = next((row for row in rows if row["epoch"] == best_epoch), {})
    return (
        f"**{recipe.model}** on **{recipe.data}**, best {goal.metric} at epoch {best_epoch}\n\n"
        f"{format_metrics_table(best)}\n\n"
        f"```json\n{format_recipe(recipe)}\n```\n"
    )


def format_recipe(recipe: Recipe) -> str:
    """The recipe as JSON with a line for each part, so that the pictures below it stay in sight."""
    return "{\n" + ",\n".join(f' "{k}": {json.dumps(v)}' for k, v in recipe.to_json().items()) + "\n}"


def save_note_of_result(
    trial: optuna.Trial, recipe: Recipe, goal: Goal, rows: list[dict[str, Any]], best_epoch: int
) -> None:
    """Show the recipe in the dashboard; it keeps its notes on the study, so a finished trial takes one."""
    from optuna_dashboard import save_note

    save_note(trial, recipe_note(recipe, goal, rows, best_epoch))


def save_note_of_failure(trial: optuna.Trial, reason: str) -> None:
    """Show in the dashboard why a trial failed, and its recipe as far as it came to have one."""
    from optuna_dashboard import save_note

    plain = trial.user_attrs.get("recipe")
    recipe = f"\n\n```json\n{format_recipe(Recipe.from_json(plain))}\n```\n" if plain else ""
    save_note(trial, f"**failed**\n\n```\n{reason.strip()}\n```{recipe}")
