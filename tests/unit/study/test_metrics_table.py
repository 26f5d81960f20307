"""The table of metrics and the confusion matrix."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from tuner.study.format import format_metrics_table, write_confusion
from tuner.tasks import BINARY_CLASSES


def test_training_stands_beside_validation() -> None:
    table = format_metrics_table(
        {"train_iou": 0.5, "val_iou": 0.25, "train_loss": 1.0, "val_loss": 2.0, "lr": 9.0}
    )
    assert table.splitlines() == [
        "| metric | train | validation |",
        "|---|---|---|",
        "| iou | 0.5000 | 0.2500 |",
        "| loss | 1.0000 | 2.0000 |",
    ]


def test_what_is_measured_on_one_of_them_has_a_dash_for_the_other() -> None:
    table = format_metrics_table({"train_loss": 1.0, "val_map": 0.75, "val_iou:sky": 0.5})
    assert "| map | - | 0.7500 |" in table and "| loss | 1.0000 | - |" in table
    assert "| iou:sky | - | 0.5000 |" in table


def test_nothing_measured_is_an_empty_table() -> None:
    assert format_metrics_table({}).splitlines() == ["| metric | train | validation |", "|---|---|---|"]


@pytest.mark.parametrize("classes", [BINARY_CLASSES, ('a "quoted", name', "Ärger")], ids=str)
def test_a_confusion_has_a_row_for_each_truth(tmp_path: Path, classes: tuple[str, ...]) -> None:
    write_confusion([[5, 1], [2, 9]], classes, tmp_path / "confusion.csv")
    with (tmp_path / "confusion.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert rows == [["truth \\ prediction", *classes], [classes[0], "5", "1"], [classes[1], "2", "9"]]


def test_a_confusion_of_other_classes_is_a_bug(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"shorter|longer"):
        write_confusion([[5, 1], [2, 9]], ("a", "b", "c"), tmp_path / "confusion.csv")
