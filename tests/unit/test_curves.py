"""The picture of the curves: written whole, with epochs counted in whole numbers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from tuner.report.curves import draw_curves


def rows(number: int) -> list[dict[str, Any]]:
    names = [f"{split}_{name}" for split in ("train", "val") for name in ("loss", "iou")]
    return [
        {"epoch": epoch} | {name: 1 / (epoch + at) for at, name in enumerate(names)}
        for epoch in range(1, number + 1)
    ]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Figure]]:
    """The figures that are drawn, as matplotlib lays them out."""
    figures: list[Figure] = []
    original = Figure.subplots

    def noted(self: Figure, *args: Any, **kwargs: Any) -> Any:
        figures.append(self)
        return original(self, *args, **kwargs)

    monkeypatch.setattr(Figure, "subplots", noted)
    yield figures


def panels(drawn: list[Figure]) -> list[Axes]:
    return drawn[-1].axes


@pytest.mark.parametrize("number", [1, 2, 3, 40])
def test_a_picture_is_drawn_from_the_first_epoch_on(tmp_path: Path, number: int) -> None:
    draw_curves(rows(number), tmp_path / "curves.png", "iou", 1)
    picture = np.asarray(Image.open(tmp_path / "curves.png").convert("RGB"))
    assert picture.shape[1] > picture.shape[0] > 100
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 20  # not blank


@pytest.mark.parametrize("number", [1, 2, 3, 5, 40])
def test_epochs_are_whole_numbers(tmp_path: Path, drawn: list[Figure], number: int) -> None:
    draw_curves(rows(number), tmp_path / "curves.png", "iou", 1)
    for axes in panels(drawn):
        low, high = axes.get_xlim()
        ticks = [tick for tick in axes.get_xticks() if low <= tick <= high]
        assert ticks and all(float(tick).is_integer() for tick in ticks)


def test_loss_and_goal_are_drawn_for_both_splits(tmp_path: Path, drawn: list[Figure]) -> None:
    draw_curves(rows(4), tmp_path / "curves.png", "iou", 3)
    assert [axes.get_title() for axes in panels(drawn)] == ["loss", "iou"]
    for axes in panels(drawn):
        lines = {line.get_label(): line for line in axes.get_lines()}
        assert {"train", "val"} <= lines.keys()
        assert list(lines["val"].get_xdata()) == [1, 2, 3, 4]
    values = {line.get_label(): list(line.get_ydata()) for line in panels(drawn)[1].get_lines()}
    assert values["val"] == [row["val_iou"] for row in rows(4)]


def test_the_best_epoch_is_marked(tmp_path: Path, drawn: list[Figure]) -> None:
    draw_curves(rows(4), tmp_path / "curves.png", "iou", 3)
    assert all([3, 3] in [list(line.get_xdata()) for line in axes.get_lines()] for axes in panels(drawn))


def test_a_goal_that_is_the_loss_gets_one_panel(tmp_path: Path, drawn: list[Figure]) -> None:
    draw_curves(rows(2), tmp_path / "curves.png", "loss", 1)
    assert [axes.get_title() for axes in panels(drawn)] == ["loss"]
