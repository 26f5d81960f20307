"""The charts of a trial's curves: every metric, both splits, what is marked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tuner.plots.curves import metric_charts
from tuner.plots.render_png import write_charts
from tuner.report.group_curves import mean_series
from tuner.report.study_data import TrialData


def rows(number: int, seldom: int = 1) -> list[dict[str, Any]]:
    """Epochs of loss, iou, and f1, which is dice; validated every so many epochs."""
    made = []
    for epoch in range(1, number + 1):
        row: dict[str, Any] = {"epoch": epoch, "seconds": 1.0, "value": 1 / epoch, "lr": 0.1}
        for split in ("train", "val")[: 1 + (epoch % seldom == 0)]:
            at = len(split)
            row |= {f"{split}_loss": 1 / (epoch + at), f"{split}_dice": 2 / (epoch + at)}
            row |= {f"{split}_iou": 1 / (2 * epoch + at), f"{split}_f1": 2 / (epoch + at)}
        made.append(row | {"val_iou:sky": 0.5})
    return made


def test_every_metric_has_a_chart_the_goal_first_and_equal_ones_share_it() -> None:
    charts = metric_charts(rows(4), "iou", 3)
    assert [chart.title for chart in charts] == ["iou", "loss", "dice = f1"]
    for chart in charts:
        assert [series.name for series in chart.series] == ["training", "validation"]
    iou = charts[0].series[1]
    assert list(iou.x) == [1, 2, 3, 4] and list(iou.y) == [row["val_iou"] for row in rows(4)]


def test_a_goal_that_is_the_loss_comes_once() -> None:
    assert [chart.title for chart in metric_charts(rows(2), "loss", 1)] == ["loss", "dice = f1", "iou"]


def test_the_best_epoch_and_the_borders_of_stages_are_marked() -> None:
    for chart in metric_charts(rows(9), "iou", 7, [2, 3, 4]):
        assert list(chart.marks) == [(7.0, "best"), (2.5, "stage 2"), (5.5, "stage 3")]


def test_a_stage_that_was_never_reached_is_not_marked_and_no_best_epoch_neither() -> None:
    assert all(list(chart.marks) == [] for chart in metric_charts(rows(2), "iou", 0, [2, 3]))


def test_a_metric_is_where_it_was_measured() -> None:
    chart = metric_charts(rows(6, seldom=3), "iou", 3)[0]
    assert [list(series.x) for series in chart.series] == [[1, 2, 3, 4, 5, 6], [3, 6]]
    only = [{"epoch": 1, "train_loss": 1.0, "val_map": None}]
    assert [(c.title, len(c.series)) for c in metric_charts(only, "loss", 0)] == [("loss", 1)]


@pytest.mark.parametrize("number", [1, *(pytest.param(each, marks=pytest.mark.slow) for each in (2, 40))])
def test_a_picture_is_drawn_from_the_first_epoch_on(tmp_path: Path, number: int) -> None:
    write_charts(metric_charts(rows(number), "iou", 1), tmp_path / "curves.png")
    picture = np.asarray(Image.open(tmp_path / "curves.png").convert("RGB"))
    assert picture.shape[1] > picture.shape[0] > 100
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 20  # not blank


@pytest.mark.parametrize(("values", "below"), [((0.0, 0.1, 9.0), False), ((-5.0, 0.1, 9.0), True)])
def test_a_band_goes_below_zero_only_where_a_value_does(values: tuple[float, ...], below: bool) -> None:
    trials = [
        TrialData(at, "COMPLETE", v, {}, {}, epochs=({"epoch": 1, "val_loss": v},)) for at, v in enumerate(values)
    ]
    series = mean_series("all", trials, "val_loss")
    assert series is not None and (min(series.low) < 0) is below
