"""The one joint between search and training: trial -> recipe -> train -> what is told to the study."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import optuna
from sqlalchemy.exc import SQLAlchemyError

from tuner.data.cache import CachedDataset
from tuner.data.datasets import swap_data
from tuner.errors import FailureKind, TrialFailed
from tuner.paths import Run
from tuner.recipe import Part, Recipe
from tuner.search.sampling import mix, redraw
from tuner.search.session import Session
from tuner.search.warm_start import TOOK_OVER, absolute_name
from tuner.space.rehearsal import reduce_recipe, rehearse
from tuner.space.space import Space, locate_error
from tuner.study.info import StudyInfo
from tuner.study.pending import ActiveTrial
from tuner.train.loop import CheckpointSchedule, EpochReport, Progress, TrainingOutcome, train
from tuner.train.memory import MicroBatches


@dataclass(frozen=True)
class TrialContext:
    """What the worker hands to every trial."""

    session: Session
    device: Any
    micro_batches: MicroBatches
    checkpoint_minutes: float | None
    keep: Callable[[Run], None]  # what to do with each checkpoint


def choose_recipe(space: Space | None, info: StudyInfo, trial: optuna.Trial) -> Recipe:
    """The recipe of a trial: as the space chooses, on the study's data, seeded by study and trial.

    A trial that goes on keeps the recipe it began with, whatever became of the space meanwhile. Of a table,
    all rows have the same seeds: the first repeat of each one, the second another.
    """
    if "recipe" in trial.user_attrs:
        return Recipe.from_json(trial.user_attrs["recipe"])
    if space is None:
        given = "it was given without a recipe, to a study that has no space to choose one"
        raise TrialFailed(FailureKind.NO_RECIPE, given)
    recipe = redraw(trial.study, trial, lambda again: suggest_recipe(space, again))
    recipe = replace(recipe, weights=resolve_weights(recipe.weights, trial.study.study_name))
    origin = ("repeat", trial.user_attrs["repeat"]) if "repeat" in trial.user_attrs else (trial.number,)
    seeded = replace(recipe, seed=mix(info.seed, trial.study.study_name, *origin))
    if info.rehearsal:
        return rehearse(seeded)
    return reduce_recipe(swap_data(seeded, info.data), info.shrink, info.shorten)


def resolve_weights(weights: Part, study: str) -> Part:
    """A file by its full path, a trial of the study itself with the study's name: the same wherever it is read."""
    name = absolute_name(weights.name)
    return replace(weights, name=f"{study}{name}" if name.startswith("#") else name)


def suggest_recipe(space: Space, trial: optuna.Trial) -> Recipe:
    """What the space says; a branch that the draws missed may still be wrong, and fails this trial alone."""
    try:
        recipe = space.suggest(trial)
    except SQLAlchemyError:
        raise
    except Exception as error:
        if isinstance(error.__cause__, SQLAlchemyError):
            raise
        raise TrialFailed(FailureKind.SUGGEST, f"suggest() raised {locate_error(error, space.path)}") from error
    if not isinstance(recipe, Recipe):
        returned = f"suggest() returned {type(recipe).__name__}; it must return a Recipe"
        raise TrialFailed(FailureKind.SUGGEST, returned)
    return recipe


def run_trial(
    joint: TrialContext,
    held: ActiveTrial,
    recipe: Recipe,
    data: CachedDataset,
    run: Run,
    start: Path | None,
    on_frame: Callable[[Progress], None] = lambda progress: None,
) -> TrainingOutcome:
    """Train a recipe, handing every epoch to the desk, which says whether to go on.

    `start` is the file of earlier weights to begin from; `on_frame` is told of each new frame of the strip.
    """
    session = joint.session

    def on_epoch(report: EpochReport) -> None:
        session.epoch(held, asdict(report), judge=report.epoch < recipe.epochs)
        peak = max(session.sync.doing.get("peak_memory", 0), report.peak_memory)
        session.tell(step=report.epoch, steps=recipe.epochs, value=report.value, peak_memory=peak)

    def on_resume(reports: list[EpochReport]) -> None:
        """The worker that wrote the checkpoint may have died before it recorded its last epochs."""
        for report in reports:
            if report.epoch not in held.recorded:
                on_epoch(report)

    return train(
        recipe,
        session.joined.info.goal,
        data,
        run,
        device=joint.device,
        micro_batches=joint.micro_batches,
        on_epoch=on_epoch,
        check_stop=lambda: session.says(held),
        initial_weights=start,
        must_resume=TOOK_OVER in held.frozen.user_attrs,
        on_resume=on_resume,
        saving=CheckpointSchedule(joint.checkpoint_minutes, lambda: joint.keep(run)),
        on_frame=on_frame,
    )
