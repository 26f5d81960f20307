"""Tasks name what exists: their counts and scores can be found, and give the metrics they promise."""

from __future__ import annotations

import pytest
import torch

from tuner.errors import PartError
from tuner.tasks import TASKS, Task, find_task
from tuner.train.scoring import Totals

every_task = pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.name)


@every_task
def test_a_task_is_found_by_its_own_name(task: Task) -> None:
    assert find_task(task.name) is task


@every_task
def test_scoring_gives_every_metric_a_goal_may_name_and_no_other(task: Task) -> None:
    totals = Totals(task, torch.device("cpu"))
    target = torch.ones(2, task.outputs, 8, 8)
    totals.add(torch.tensor(0.5), torch.randn(2, task.outputs, 8, 8), target)
    assert set(totals.scores("val")) == {f"val_{name}" for name in task.metrics}


def test_an_unknown_task_is_told_the_near_one() -> None:
    with pytest.raises(PartError, match=r"no task 'binry'. Did you mean 'binary'\? Known: .*binary"):
        find_task("binry")
