"""The one joint between search and training: trial -> recipe -> train -> what is told to the study."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import optuna
from sqlalchemy.engine import Engine

from tuner import records
from tuner.data.cache import Cached
from tuner.data.datasets import swap_data
from tuner.recipe import Recipe
from tuner.rehearsal import rehearse
from tuner.runs import Run
from tuner.space import Space
from tuner.study import Plan, mix
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
