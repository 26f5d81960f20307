"""The one joint between search and training: trial -> recipe -> train -> what is told to the study."""

from __future__ import annotations

import json
import logging
import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from typing import Any

import optuna
from sqlalchemy.engine import Engine

from tuner import overview, records
from tuner.data.cache import Cached
from tuner.data.datasets import swap_data
from tuner.goal import Goal
from tuner.recipe import Recipe
from tuner.rehearsal import rehearse
from tuner.runs import Run
from tuner.space import Space
from tuner.study import Plan, mix
from tuner.train.loop import EpochReport, Outcome, train
from tuner.train.memory import MicroBatches

LIBRARIES = ("torch", "optuna", "sqlalchemy", "segmentation-models-pytorch", "albumentations", "numpy")
log = logging.getLogger("tuner")


@dataclass(frozen=True)
class Joint:
    """What the worker hands to every trial."""

    engine: Engine
    worker: str
    plan: Plan
    device: Any
    micro_batches: MicroBatches
    stopped: Callable[[], bool]
    tell: Callable[..., None]  # step=, steps=, value=: for the worker's row


def choose(space: Space, plan: Plan, trial: optuna.Trial) -> Recipe:
    """The recipe of a trial: as the space chooses, on the study's data, seeded by study and trial."""
    recipe = space.suggest(trial)
    seeded = replace(recipe, seed=mix(plan.seed, trial.study.study_name, trial.number))
    if plan.rehearsal:
        return rehearse(seeded)
    return swap_data(seeded, plan.data)


def run_trial(joint: Joint, trial: optuna.Trial, recipe: Recipe, data: Cached, run: Run) -> Outcome:
    """Train a recipe, recording and reporting every epoch; prune when the study says so."""

    def on_epoch(report: EpochReport) -> bool:
        records.write_epoch(joint.engine, trial._trial_id, joint.worker, as_row(report))
        joint.tell(step=report.epoch, steps=recipe.epochs, value=report.value)
        if report.epoch not in trial._cached_frozen_trial.intermediate_values:
            trial.report(report.value, step=report.epoch)
        return report.epoch < recipe.epochs and trial.should_prune()

    return train(
        recipe,
        joint.plan.goal,
        data,
        run,
        device=joint.device,
        micro_batches=joint.micro_batches,
        on_epoch=on_epoch,
        stopped=joint.stopped,
    )


def as_row(report: EpochReport) -> dict[str, object]:
    return asdict(report)


def note_start(trial: optuna.Trial, recipe: Recipe, data: Cached, commit: str) -> None:
    """Write on the trial what it trains, on which data, with which versions."""
    if "recipe" in trial.user_attrs:
        return  # a trial that goes on
    trial.set_user_attr("recipe", recipe.to_json())
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


def note_end(trial: optuna.Trial, outcome: Outcome, host: str, device: str) -> None:
    """Write on the trial what came out; a finished trial cannot be written on."""
    progress = outcome.progress
    trial.set_user_attr(
        "result",
        {
            "best_value": progress.best_value,
            "best_epoch": progress.best_epoch,
            "last_value": progress.last_value,
            "epochs": min(progress.epoch, len(trial._cached_frozen_trial.intermediate_values)),
            "precision": outcome.dtype,
            "micro_batch": outcome.micro,
            "device": device,
            "host": host,
        },
    )


def recipe_note(recipe: Recipe, goal: Goal, rows: list[dict[str, Any]], best_epoch: int) -> str:
    """The trial's note in the dashboard: the recipe, and the metrics of the best epoch."""
    best = next((row for row in rows if row["epoch"] == best_epoch), {})
    table = "\n".join(
        f"| {name} | {best.get(f'train_{name}', float('nan')):.4f} | {best[f'val_{name}']:.4f} |"
        for name in sorted(key.removeprefix("val_") for key in best if key.startswith("val_"))
    )
    return (
        f"**{recipe.model}** on **{recipe.data}**, best {goal.metric} at epoch {best_epoch}\n\n"
        f"| metric | train | val |\n|---|---|---|\n{table}\n\n"
        f"```json\n{as_lines(recipe)}\n```\n"
    )


def as_lines(recipe: Recipe) -> str:
    """The recipe as JSON with a line for each part, so that the pictures below it stay in sight."""
    return "{\n" + ",\n".join(f' "{k}": {json.dumps(v)}' for k, v in recipe.to_json().items()) + "\n}"


def pictures(joint: Joint, trial: optuna.Trial, data: Cached, run: Run, outcome: Outcome) -> list[dict[str, Any]]:
    """Draw the curves and the predictions of the best epoch; the rows they were drawn from."""
    import numpy as np

    from tuner.report.curves import draw_curves
    from tuner.report.overlays import draw_predictions
    from tuner.train.loop import sample_positions

    rows = overview.history(joint.engine, trial._trial_id)
    draw_curves(rows, run.curves, joint.plan.goal.metric, outcome.progress.best_epoch)
    if outcome.progress.samples is not None:
        shown = data.val[sample_positions(len(data.val))]
        draw_predictions(
            list(data.images[shown]),
            list(np.asarray(data.targets[shown], np.uint8)),
            outcome.progress.samples.numpy(),
            run.predictions,
        )
    return rows
