"""Small tables: the metrics of an epoch as Markdown, a confusion matrix as CSV."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

BINARY_CLASSES = ("background", "object")


def metrics_table(metrics: Mapping[str, Any]) -> str:
    """Training beside validation; a metric that is measured on one of them alone has a dash for the other."""
    names = dict.fromkeys(key.partition("_")[2] for key in metrics if key.startswith(("train_", "val_")))
    rows = [
        f"| {name} | {shown(metrics, f'train_{name}')} | {shown(metrics, f'val_{name}')} |"
        for name in sorted(names)
    ]
    return "\n".join(["| metric | train | validation |", "|---|---|---|", *rows])


def shown(metrics: Mapping[str, Any], name: str) -> str:
    return f"{metrics[name]:.4f}" if name in metrics else "-"


def write_confusion(matrix: Sequence[Sequence[int]], classes: Sequence[str], path: Path) -> None:
    """A row for each true class, a column for each predicted one; pixels, or images."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["truth \\ prediction", *classes])
        writer.writerows([name, *row] for name, row in zip(classes, matrix, strict=True))
