"""When a search prunes a trial: the pruner, and how it is asked after each epoch."""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING

import optuna
from optuna.trial import FrozenTrial

from tuner.study.pending import ActiveTrial

if TYPE_CHECKING:
    from tuner.study.info import StudyInfo


def make_pruner(info: StudyInfo) -> optuna.pruners.BasePruner:
    """Return the pruner: successive halving by epochs, by default at 1, 3, 9, 27, 81, so it prunes from the start.

    Trials of 15 and of 100 epochs are compared at the same epoch, and each ends at its own last one. Given trials,
    such as the rows of a table, are never pruned.
    """
    if not info.is_pruned:
        return optuna.pruners.NopPruner()
    return optuna.pruners.SuccessiveHalvingPruner(
        min_resource=info.search.first_rung,
        reduction_factor=info.search.factor,
        min_early_stopping_rate=0,
        bootstrap_count=0,
    )


def judge_epoch(study: optuna.Study, active: ActiveTrial) -> None:
    """Ask the pruner about the first epoch that it has not seen, with the trial as it was then.

    A decision to prune is stored on the trial, because another worker may continue it.
    """
    step = active.unjudged[0]
    with active.lock:
        past = trial_at_step(active.frozen, step)
    if study.pruner.prune(study, past):
        active.prune = True
        with active.lock:
            active.frozen.user_attrs["pruned_at"] = step
            active.pending.attrs["pruned_at"] = str(step)
    active.unjudged.pop(0)


def trial_at_step(trial: FrozenTrial, step: int) -> FrozenTrial:
    """Return a trial as it was after an epoch; attributes set on the result are set on the trial itself."""
    past = copy(trial)
    past.intermediate_values = {at: value for at, value in trial.intermediate_values.items() if at <= step}
    return past
