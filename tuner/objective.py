"""The one joint between search and training: trial -> recipe -> train -> what is told to the study."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import optuna
from sqlalchemy.engine import Engine
from sqlalchemy.exc import SQLAlchemyError

from tuner import records
from tuner.data.cache import Cached
from tuner.data.datasets import swap_data
from tuner.errors import TrialFailed
from tuner.recipe import Part, Recipe
from tuner.rehearsal import reduced, rehearse
from tuner.runs import Run
from tuner.space import Space, where
from tuner.starts import wherever
from tuner.study import Plan, mix
from tuner.takeover import TOOK_OVER
from tuner.train.loop import EpochReport, Outcome, train
from tuner.train.memory import MicroBatches


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


def choose(space: Space | None, plan: Plan, trial: optuna.Trial) -> Recipe:
    """The recipe of a trial: as the space chooses, on the study's data, seeded by study and trial.

    A trial that goes on keeps the recipe it began with, whatever became of the space meanwhile. Of a table,
    all rows have the same seeds: the first repeat of each one, the second another.
    """
    if "recipe" in trial.user_attrs:
        return Recipe.from_json(trial.user_attrs["recipe"])
    if space is None:
        raise TrialFailed("it was given without a recipe, to a study that has no space to choose one")
    recipe = suggested(space, trial)
    recipe = replace(recipe, weights=named_in_full(recipe.weights, trial.study.study_name))
    origin = ("repeat", trial.user_attrs["repeat"]) if "repeat" in trial.user_attrs else (trial.number,)
    seeded = replace(recipe, seed=mix(plan.seed, trial.study.study_name, *origin))
    if plan.rehearsal:
        return rehearse(seeded)
    return reduced(swap_data(seeded, plan.data), plan.shrink, plan.shorten)


def named_in_full(weights: Part, study: str) -> Part:
    """A file by its full path, a trial of the study itself with the study's name: the same wherever it is read."""
    name = wherever(weights.name)
    return replace(weights, name=f"{study}{name}" if name.startswith("#") else name)


def suggested(space: Space, trial: optuna.Trial) -> Recipe:
    """What the space says; a branch that the draws missed may still be wrong, and fails this trial alone."""
    try:
        recipe = space.suggest(trial)
    except SQLAlchemyError:
        raise
    except Exception as error:
        if isinstance(error.__cause__, SQLAlchemyError):
            raise
        raise TrialFailed(f"suggest() raised {where(error, space.path)}") from error
    if not isinstance(recipe, Recipe):
        raise TrialFailed(f"suggest() returned {type(recipe).__name__}; it must return a Recipe")
    return recipe


def run_trial(
    joint: Joint, trial: optuna.Trial, recipe: Recipe, data: Cached, run: Run, start: Path | None
) -> Outcome:
    """Train a recipe, recording and reporting every epoch; prune when the study says so.

    `start` is the file of earlier weights to begin from.
    """

    def on_epoch(report: EpochReport) -> bool:
        records.write_epoch(joint.engine, trial._trial_id, joint.worker, as_row(report))
        joint.tell(step=report.epoch, steps=recipe.epochs, value=report.value)
        if report.value is None:
            return False
        if report.epoch not in trial._cached_frozen_trial.intermediate_values:
            trial.report(report.value, step=report.epoch)
        if report.epoch < recipe.epochs and ("pruned_at" in trial.user_attrs or trial.should_prune()):
            trial.set_user_attr("pruned_at", report.epoch)  # the pruner answers once: a restart must still know
            return True
        return False

    return train(
        recipe,
        joint.plan.goal,
        data,
        run,
        device=joint.device,
        micro_batches=joint.micro_batches,
        on_epoch=on_epoch,
        stopped=joint.stopped,
        start=start,
        must_go_on=TOOK_OVER in trial.user_attrs,
    )


def as_row(report: EpochReport) -> dict[str, object]:
    return asdict(report)
