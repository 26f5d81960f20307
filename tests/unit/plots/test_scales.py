"""Which metrics are bounded, and which values are drawn on a logarithmic axis."""

from __future__ import annotations

import math

import pytest

from tuner.plots.curves import metric_charts
from tuner.plots.scales import metric_limits, needs_log
from tuner.tasks import MINIMIZED_METRICS, TASKS, is_share


@pytest.mark.parametrize("metric", ["iou", "val_iou", "test_image_dice", "val_iou:cat", "ap50", "accuracy"])
def test_shares_lie_between_0_and_1(metric: str) -> None:
    assert is_share(metric) and metric_limits(metric, [-0.5, 3.0]) == (0, 1)
    assert not needs_log(metric, [0.001, 0.9])


@pytest.mark.parametrize("metric", [*MINIMIZED_METRICS, "val_loss", "kappa", "latency_ms"])
def test_other_metrics_may_exceed_1_and_only_those_below_0_may_go_there(metric: str) -> None:
    assert metric_limits(metric, [0.0, 0.9]) == (0, math.inf)
    assert metric_limits(metric, [-0.1, 0.9]) == (-math.inf, math.inf)


def test_every_metric_of_a_task_is_known_as_a_share_or_not() -> None:
    names = {name for task in TASKS.values() for name in task.metrics}
    assert {name for name in names if not is_share(name)} == set(MINIMIZED_METRICS)


def test_more_than_two_decades_of_positive_values_are_drawn_on_powers() -> None:
    assert needs_log("loss", [1e4, None, 0.5]) and needs_log("kappa", [1.0, 101.0])
    for values in ([1.0, 100.0], [0.0, 1e4], [-1.0, 1e4], [None], []):
        assert not needs_log("loss", values)


def test_a_loss_that_begins_at_10000_keeps_its_end_visible() -> None:
    rows = [{"epoch": at, "val_iou": 0.5, "val_loss": 10.0 ** (5 - at)} for at in range(1, 7)]
    iou, loss = metric_charts(rows, "iou", best_epoch=3)
    assert loss.log_y and loss.axis_titles == ("epoch", "(log scale)") and not iou.log_y
