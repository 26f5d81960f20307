"""Studies and bundles made by hand: the records a real search would leave, without the training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy as sa
import torch
from optuna.trial import TrialState

from helpers.optuna_revisions import prepare_file
from tuner.export.best_trial import BestTrial
from tuner.export.bundle import export_bundle
from tuner.goal import Goal, maximize
from tuner.paths import Run
from tuner.recipe import Recipe
from tuner.study.info import StudyInfo
from tuner.study.study import JoinedStudy, join_study
from tuner.study.tables import epoch_table
from tuner.study.trial_queries import TrialInfo
from tuner.tasks import find_task
from tuner.train.checkpoint import save_weights
from tuner.train.trainer import build_model

MADE_WITH = {
    "tuner": "0.1.0",
    "torch": "2",
    "python": "3",
    "commit": "abc+",
    "data": "shapes",
    "data_hash": "cafe",
}


def make_study(folder: Path, name: str = "made", goal: Goal | None = None) -> JoinedStudy:
    """An empty study in folder/tuner.db, as `tuner run` creates it."""
    prepare_file(folder / "tuner.db")
    return join_study(
        f"sqlite:///{folder / 'tuner.db'}", StudyInfo(name, "made", goal or maximize("iou"), "shapes")
    )


def add_trial(joined: JoinedStudy, curve: list[float], state: TrialState = TrialState.COMPLETE) -> int:
    """A trial with a recorded epoch for each value of its curve; its value is the best of them."""
    study = joined.study
    trial = study.ask()
    trial.suggest_float("lr", 1e-4, 1e-2, log=True)
    trial.suggest_int("k", 2, 8, step=2)
    trial.suggest_categorical("loss", ["bce", None, True, 3, 0.5])
    for epoch, value in enumerate(curve, start=1):
        record(joined, trial._trial_id, epoch, value)
        trial.report(value, epoch)
    best = (max if study.direction.name == "MAXIMIZE" else min)(curve, default=0.0)
    if curve:
        trial.set_user_attr("result", {"best_value": best, "best_epoch": curve.index(best) + 1})
        trial.set_user_attr("made_with", MADE_WITH)
    if state is TrialState.COMPLETE:
        study.tell(trial, best)
    elif state.is_finished():
        study.tell(trial, state=state)
    return trial.number


def record(joined: JoinedStudy, trial_id: int, epoch: int, value: float) -> None:
    row = {"value": value, "seconds": 1.5, "images_per_second": 20.0, "peak_memory": 2**33, "lr": 0.01}
    metrics = {"train_loss": 0.5, "train_iou": value + 0.01, "val_loss": 0.6, "val_iou": value}
    with joined.engine.begin() as db:
        db.execute(sa.insert(epoch_table).values(trial_id=trial_id, epoch=epoch, metrics=metrics, **row))


def make_best(recipe: Recipe, **changes: Any) -> BestTrial:
    """The best trial of a study of ten."""
    info = StudyInfo("made", "made", maximize("iou"), "shapes", id=1)
    notes = {"recipe": recipe.to_json(), "made_with": {**MADE_WITH, "train_images": 19, "val_images": 11}}
    history = [
        {
            "epoch": epoch,
            "value": value,
            "lr": 0.01,
            "train_loss": 0.5,
            "train_iou": 0.7,
            "val_loss": 0.6,
            "val_iou": value,
        }
        for epoch, value in enumerate((0.4, 0.6), start=1)
    ]
    best = BestTrial(
        study=info,
        trial=TrialInfo(3, 2, "COMPLETE", 0.6, {"lr": 0.00123, "loss": "bce"}, notes),
        epoch=2,
        metrics={key: value for key, value in history[1].items() if key.startswith(("train_", "val_"))},
        history=history,
        beaten=7,
        finished=10,
        failed=2,
    )
    return replace(best, **changes)


def make_run(recipe: Recipe, folder: Path, bias: float | None = None) -> Run:
    """A run whose best weights are those of a fresh model; `bias` makes it find everything or nothing."""
    run = Run(folder).make()
    torch.manual_seed(recipe.seed)
    model = build_model(recipe, find_task(recipe.task))
    if bias is not None:
        with torch.no_grad():
            model.head.bias.fill_(bias)  # type: ignore[union-attr, operator]
    save_weights(model, run.best)
    for file in run.pictures:
        file.write_bytes(file.name.encode())
    return run


def make_bundle(recipe: Recipe, folder: Path, bias: float | None = None) -> Path:
    """An exported bundle, with nothing beside it."""
    run = make_run(recipe, folder.with_name(f"{folder.name}-run"), bias)
    export_bundle(make_best(recipe), run, folder, force=False)
    run.clear()
    return folder


optuna.logging.set_verbosity(optuna.logging.WARNING)
