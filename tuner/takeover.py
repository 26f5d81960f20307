"""A trial that goes on from an earlier one takes over its files and its epochs, and trains from there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from tuner.claims import check_owner
from tuner.database import retried
from tuner.errors import FilesError, writing
from tuner.keeper import Keeper
from tuner.overview import GOES_ON_FROM
from tuner.runs import Run, link
from tuner.tables import epoch_table, studies, trials

TOOK_OVER = "took_over"  # set when all of the earlier one is there


def has_run(trial: optuna.Trial) -> bool:
    """Whether what stands in the trial's run folder is its own."""
    return ("recipe" if GOES_ON_FROM not in trial.user_attrs else TOOK_OVER) in trial.user_attrs


def take_over(trial: optuna.Trial, engine: Engine, worker: str, keeper: Keeper, run: Run) -> None:
    """Bring checkpoint, weights and epochs of the trial that this one goes on from; once, and whole.

    Killed in the middle, it begins again: only when all is there is that written on the trial. Where nothing of
    its own has come to this host, it goes on from there once more.
    """
    origin = trial.user_attrs.get(GOES_ON_FROM)
    if origin is None or (TOOK_OVER in trial.user_attrs and run.is_usable):
        return
    earlier = keeper.fetch(origin["study"], origin["key"], origin["number"], origin.get("attempt", 0))
    for source, target in ((earlier.best, run.best), (earlier.checkpoint, run.checkpoint)):
        bring(source, target, origin, keeper)
    for epoch, value in copy_epochs(engine, trial._trial_id, worker, origin):
        if epoch not in trial._cached_frozen_trial.intermediate_values:
            trial.report(value, step=epoch)
    trial.set_user_attr(TOOK_OVER, True)


def bring(source: Path, target: Path, origin: dict[str, Any], keeper: Keeper) -> None:
    """Link or copy: what stands under the name is whole."""
    with writing(target):
        try:
            link(source, target)
        except FileNotFoundError as error:
            raise FilesError(
                f"trial {origin['number']} of '{origin['study']}', from which this one goes on, has no "
                f"{source.name} here ({keeper.where}). Type the command where that is, or share its --home or "
                "--artifacts."
            ) from error


@retried
def copy_epochs(engine: Engine, trial_id: int, worker: str, origin: dict[str, Any]) -> list[tuple[int, float]]:
    """Give a trial the epochs of the one it goes on from; (epoch, value) of those that have a value."""
    source = (
        sa.select(trials.c.trial_id)
        .join(studies, studies.c.study_id == trials.c.study_id)
        .where(studies.c.study_name == origin["study"], trials.c.number == origin["number"])
    )
    names = [column.name for column in epoch_table.columns if column.name != "trial_id"]
    with engine.begin() as db:
        check_owner(db, trial_id, worker)
        db.execute(sa.delete(epoch_table).where(epoch_table.c.trial_id == trial_id))
        rows = sa.select(sa.literal(trial_id), *(epoch_table.c[name] for name in names))
        rows = rows.where(epoch_table.c.trial_id == source.scalar_subquery())
        db.execute(sa.insert(epoch_table).from_select(["trial_id", *names], rows))
        copied = sa.select(epoch_table.c.epoch, epoch_table.c.value).order_by(epoch_table.c.epoch)
        copied = copied.where(epoch_table.c.trial_id == trial_id, epoch_table.c.value.is_not(None))
        return [(int(epoch), float(value)) for epoch, value in db.execute(copied)]
