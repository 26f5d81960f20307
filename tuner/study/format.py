"""Numbers and trials in words, as every view and command shows them."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tuner.study.failures import failure_from_attrs
from tuner.study.info import StudyInfo
from tuner.study.stats import Cost, StudyStats, TimeLeft
from tuner.study.trial_queries import Trial


def format_value(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.4f}" if abs(value) < 1000 else f"{value:.4g}"


def format_params(params: dict[str, Any] | None) -> str:
    """'lr=0.00031 k=64 loss=bce'."""
    items = (params or {}).items()
    return " ".join(f"{k}={v:.3g}" if isinstance(v, float) else f"{k}={v}" for k, v in items)


def format_seconds(seconds: float) -> str:
    """'45 s', '12 min', '3.4 h'."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def format_time_left(left: TimeLeft) -> str:
    """'12 min', '2.0 h (of the GPU-hours)', or why that cannot be said."""
    if left.by == "no limit":
        return "until stopped"
    if left.by == "nobody works":
        return "unknown"
    if left.seconds is None or left.by == "done":
        return left.by
    if left.by == "trials":
        return format_seconds(left.seconds)
    return f"{format_seconds(left.seconds)} (of the {left.by})" if left.seconds else f"the {left.by} are spent"


def format_hours(hours: float) -> str:
    """'0.02', '1.3', '140': as exact as it is of use."""
    return f"{hours:.2f}" if hours < 1 else f"{hours:.1f}" if hours < 100 else f"{hours:.0f}"


def format_spent(tally: StudyStats) -> str:
    """'1.3 GPU-hours', '0.4 worker-minutes'; of the budget where there is one."""
    limit, spent = tally.budget.gpu_hours, tally.spent
    if limit is not None and spent.gpu_hours:
        return f"{format_hours(spent.gpu_hours)} of {limit:g} GPU-hours"
    if tally.cost.hours < 0.1:
        return f"{60 * tally.cost.hours:.1f} {tally.unit.replace('hours', 'minutes')}"
    return f"{format_hours(tally.cost.hours)} {tally.unit}"


def format_saved(cost: Cost) -> str:
    """'pruning saved 120 epochs (23 %)'; '' where nothing was pruned."""
    return f"pruning saved {cost.saved} epochs ({cost.saved_share:.0%})".replace("%", " %") if cost.saved else ""


def format_failures(tally: StudyStats) -> str:
    """'2 out of memory, 1 loss not finite'."""
    return ", ".join(f"{number} {kind}" for kind, number in tally.kinds.items())


def format_outcome(trial: Trial, info: StudyInfo) -> str:
    """How a trial ended, in words."""
    params = format_params(trial.params)
    result = trial.attrs.get("result", {})
    best = f"{info.goal.metric} {format_value(result.get('best_value'))} at epoch {result.get('best_epoch')}"
    if trial.state == "FAIL":
        return f"failed: {failure_from_attrs(trial.number, trial.attrs).reason}; {params}"
    if trial.state == "PRUNED":
        return f"pruned after epoch {result.get('epochs')}, best {best}; {params}"
    return f"finished: {best}; {params}"


def format_metrics_table(metrics: Mapping[str, Any]) -> str:
    """Training beside validation; a metric that is measured on one of them alone has a dash for the other."""
    names = dict.fromkeys(key.partition("_")[2] for key in metrics if key.startswith(("train_", "val_")))
    rows = [
        f"| {name} | {format_metric(metrics, f'train_{name}')} | {format_metric(metrics, f'val_{name}')} |"
        for name in sorted(names)
    ]
    return "\n".join(["| metric | train | validation |", "|---|---|---|", *rows])


def format_metric(metrics: Mapping[str, Any], name: str) -> str:
    return f"{metrics[name]:.4f}" if name in metrics else "-"


def write_confusion(matrix: Sequence[Sequence[int]], classes: Sequence[str], path: Path) -> None:
    """A row for each true class, a column for each predicted one; pixels, or images."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["truth \\ prediction", *classes])
        writer.writerows([name, *row] for name, row in zip(classes, matrix, strict=True))
