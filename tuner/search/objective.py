"""The connection between search and training: the recipe of a trial, its training, and reports to the study."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import optuna
from sqlalchemy.exc import SQLAlchemyError

from tuner.data.cache import CachedDataset
from tuner.data.datasets import swap_data
from tuner.errors import FailureKind, TrialFailed, locate_error
from tuner.paths import Run, expand_path
from tuner.recipe import Part, Recipe
from tuner.search.sampling import hash_seed, redraw
from tuner.search.session import Session, TrialSignal
from tuner.search.warm_start import is_file_name, reduce_size
from tuner.space.rehearsal import rehearse
from tuner.space.space import Space
from tuner.study.info import StudyInfo
from tuner.study.pending import ActiveTrial
from tuner.study.trial_queries import TOOK_OVER
from tuner.train.loop import CheckpointSchedule, EpochReport, Progress, TrainingOutcome, train
from tuner.train.memory import MicroBatches

log = logging.getLogger("tuner")


@dataclass(frozen=True)
class TrialContext:
    """What all trials of a worker share."""

    session: Session
    device: Any
    micro_batches: MicroBatches
    checkpoint_minutes: float | None
    keep: Callable[[Run], None]  # called with each checkpoint


def choose_recipe(space: Space | None, info: StudyInfo, trial: optuna.Trial) -> Recipe:
    """Return the recipe of a trial: chosen by the space, on the study's data, seeded by study and trial.

    A resumed trial keeps its recipe, even if the space has changed. In a table, all rows have the same seeds: one
    for the first repeat of each, another for the second.
    """
    if "recipe" in trial.user_attrs:
        return Recipe.from_json(trial.user_attrs["recipe"])
    if space is None:
        reason = "it was given without a recipe, to a study that has no space to choose one"
        raise TrialFailed(FailureKind.NO_RECIPE, reason)
    if info.search.sampler == "grid":  # each of its points comes once in any case
        recipe = suggest_recipe(space, trial)
    else:
        recipe = redraw(trial.study, trial, lambda drawn: suggest_recipe(space, drawn), info.each)
    recipe = replace(recipe, weights=resolve_weights(recipe.weights, trial.study.study_name))
    origin = ("repeat", trial.user_attrs["repeat"]) if "repeat" in trial.user_attrs else (trial.number,)
    return fit_to_study(replace(recipe, seed=hash_seed(info.seed, trial.study.study_name, *origin)), info)


def fit_to_study(recipe: Recipe, info: StudyInfo) -> Recipe:
    """Return a recipe of the space on the data of a study, with its metrics and in its size."""
    scored = recipe.with_metrics([goal.metric for goal in info.goals])
    placed = swap_data(scored, info.data, info.split, info.layout)
    return rehearse(placed) if info.rehearsal else reduce_size(placed, info.shrink, info.shorten)


def resolve_weights(weights: Part, study: str) -> Part:
    """Return weights that mean the same everywhere: a file with its full path, a trial with its study's name."""
    name = weights.name
    if is_file_name(name):
        name = str(expand_path(name).absolute())
    return replace(weights, name=f"{study}{name}" if name.startswith("#") else name)


def suggest_recipe(space: Space, trial: optuna.Trial) -> Recipe:
    """Return what `suggest` returns; raise TrialFailed for mistakes that the check of the space did not meet."""
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


def train_recipe(
    context: TrialContext,
    active: ActiveTrial,
    recipe: Recipe,
    data: CachedDataset,
    run: Run,
    initial_weights: Path | None,
    on_frame: Callable[[Progress], None] = lambda progress: None,
    check_memory: Callable[[bool], None] = lambda is_epoch: None,
) -> TrainingOutcome:
    """Train a recipe, reporting every epoch to the session, which decides whether to go on.

    `on_frame` is called with each new frame of the strip, `check_memory` before each step and after each epoch.
    """
    session = context.session

    def is_judged(epoch: int) -> bool:
        return epoch < recipe.epochs and recipe.stage_at(epoch).judged

    def on_epoch(report: EpochReport, is_new: bool = True) -> None:
        session.record_epoch(active, asdict(report), is_judged(report.epoch), is_new)
        peak = max(session.sync.status.get("peak_memory", 0), report.peak_memory)
        done = {"step": report.epoch, "steps": recipe.epochs, "batch": 0, "batches": 0}
        session.update_status(**done, value=report.value, peak_memory=peak)
        check_memory(True)

    def on_step(batch: int, batches: int) -> None:
        session.update_status(batch=batch, batches=batches)  # the next heartbeat carries it

    def on_partial(value: float) -> None:
        session.record_partial(active, value, recipe.stage_at(1).judged)

    def check_stop() -> TrialSignal:
        check_memory(False)
        return session.check_signal(active)

    def on_resume(reports: list[EpochReport]) -> None:
        """Record and judge epochs that the previous worker saved, but did not record or judge before it died."""
        for report in reports:
            if report.epoch not in active.recorded:
                on_epoch(report, is_new=False)
            elif report is reports[-1] and is_judged(report.epoch):
                session.judge_epoch(active, report.epoch)
        if active.recorded and not reports:
            log.warning("trial %d: there is no checkpoint of it here; it starts again", active.number)

    return train(
        recipe,
        session.joined.info.goal,
        data,
        run,
        device=context.device,
        micro_batches=context.micro_batches,
        on_epoch=on_epoch,
        check_stop=check_stop,
        initial_weights=initial_weights,
        must_resume=TOOK_OVER in active.frozen.user_attrs,
        on_resume=on_resume,
        saving=CheckpointSchedule(context.checkpoint_minutes, lambda: context.keep(run)),
        on_frame=on_frame,
        part=session.joined.info.part,
        on_partial=on_partial,
        on_step=on_step,
    )
