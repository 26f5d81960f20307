"""Trials trained by hand, as a worker trains them: stopped and gone on with, and compared bitwise."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch

from tuner.data.cache import CachedDataset
from tuner.goal import Goal, maximize
from tuner.paths import Run
from tuner.recipe import Recipe
from tuner.train.loop import CheckpointSchedule, EpochReport, StopCheck, TrainingOutcome, train
from tuner.train.memory import MicroBatches

CPU = torch.device("cpu")
IOU = maximize("iou")
Curve = dict[int, dict[str, float]]


class Trial:
    """A trial in a folder of its own, as a worker runs it: the curve is what it was told of, by epoch."""

    def __init__(
        self, recipe: Recipe, data: CachedDataset, folder: Path, goal: Goal = IOU, start: Path | None = None
    ) -> None:
        self.recipe, self.data, self.goal, self.start = recipe, data, goal, start
        self.run = Run(folder).make()
        self.reports: dict[int, EpochReport] = {}
        self.found: list[EpochReport] = []  # what the checkpoint held of epochs before
        self.prune_at = 0
        self.part = 0.0  # of the first epoch, after which it is scored
        self.partial: list[float] = []  # what it was told of that
        self.steps: list[tuple[int, int]] = []  # batches of an epoch that were done, and their number

    def train(self, says: StopCheck | None = None, saving: CheckpointSchedule | None = None) -> TrainingOutcome:
        return train(
            self.recipe,
            self.goal,
            self.data,
            self.run,
            device=CPU,
            micro_batches=MicroBatches(self.run.folder / "micro_batches.json"),
            on_epoch=self.on_epoch,
            check_stop=says or self.says,
            initial_weights=self.start,
            on_resume=self.on_resume,
            saving=saving,
            part=self.part,
            on_partial=self.partial.append,
            on_step=lambda done, of: self.steps.append((done, of)),
        )

    def go_on(self) -> TrainingOutcome:
        """Train to the end; from scratch, it would give the same curve, so no finished epoch may come again."""
        before, self.reports = self.reports, {}
        outcome = self.train()
        assert not before.keys() & self.reports.keys()
        self.reports = before | self.reports
        return outcome

    def on_epoch(self, report: EpochReport) -> None:
        self.reports[report.epoch] = report

    def on_resume(self, reports: list[EpochReport]) -> None:
        self.found = reports

    def says(self) -> Literal["", "pruned"]:
        return "pruned" if self.prune_at in self.reports else ""

    @property
    def curve(self) -> Curve:
        return {epoch: report.metrics | {"lr": report.lr} for epoch, report in self.reports.items()}

    def left(self) -> dict[str, Any]:
        """The last checkpoint, without what measures time."""
        state: dict[str, Any] = torch.load(self.run.checkpoint, weights_only=True)
        del state["progress"]["spent"]
        for row in state["progress"]["history"]:
            row["seconds"] = row["images_per_second"] = row["peak_memory"] = 0
        return state


def same(one: Any, other: Any) -> bool:
    """Bitwise, through everything a checkpoint holds."""
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def assert_same(trial: Trial, unbroken: Trial) -> None:
    assert trial.curve == unbroken.curve
    assert same(trial.left(), unbroken.left())
    assert trial.run.best.read_bytes() == unbroken.run.best.read_bytes()


class Killed(Exception):
    """As sudden as a power failure: nothing is saved."""


def killed_after(number: int) -> StopCheck:
    """Asked as `stop_after` is; the process dies at that moment."""
    asked = iter(range(10**9))

    def ask() -> Literal[""]:
        if next(asked) >= number:
            raise Killed
        return ""

    return ask


def stop_after(number: int) -> StopCheck:
    """Asked before every step and every validation batch; says to stop after `number` times."""
    asked = iter(range(10**9))
    return lambda: "stopped" if next(asked) >= number else ""
