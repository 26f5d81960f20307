"""Format values, parameters, times and trials for every view and command."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tuner.study.budget import Budget, BudgetUse, is_without_gpu
from tuner.study.decisions import CAN_START, SECONDS, StoredDecision
from tuner.study.failures import failure_from_attrs
from tuner.study.info import StudyInfo
from tuner.study.queries import WorkerInfo
from tuner.study.stats import Cost, StudyStats
from tuner.study.time_left import TimeLeft
from tuner.study.trial_queries import OVER_LIMIT, TrialInfo
from tuner.wording import count_of, format_seconds, format_time_of, pluralize


def format_steps(worker: WorkerInfo) -> str:
    """Return text such as 'epoch 3/20', or within the next epoch 'epoch 4/20, step 120/450'."""
    if not worker.batches:
        return f"epoch {worker.step}/{worker.steps}"
    return f"epoch {worker.step + 1}/{worker.steps}, step {worker.batch}/{worker.batches}"


def format_value(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.4f}" if abs(value) < 1000 else f"{value:.4g}"


def format_params(params: dict[str, Any] | None) -> str:
    """Return text such as 'lr=0.00031 k=64 loss=bce'."""
    items = (params or {}).items()
    return " ".join(f"{k}={v:.3g}" if isinstance(v, float) else f"{k}={v}" for k, v in items)


def format_time_left(left: TimeLeft) -> str:
    """Return text such as '12 min (± 3 min)' or '2 h (of the GPU-hours)', or why the time is not known."""
    if left.by == "no limit":
        return "until stopped"
    if left.by == "no workers":
        return "unknown"
    if left.seconds is None or left.by == "done":
        return left.by
    error = f"± {format_seconds(left.error)}" if left.error >= 1 else ""
    limit = f"of the {left.by}" if left.by != "trials" else ""
    if limit and not left.seconds:
        return f"the {left.by} are spent"
    more = ", ".join(filter(None, (error, limit)))
    return f"{format_seconds(left.seconds)} ({more})" if more else format_seconds(left.seconds)


def format_spent(stats: StudyStats) -> str:
    """Return text such as 'worker time 12 min', or 'GPU time 1.3 h of 8 h' with a budget."""
    limit, spent = stats.budget.gpu_hours, stats.spent
    if limit is not None and spent.gpu_hours:
        return f"{kind_of_time(stats.device)} time {format_time_of(3600 * spent.gpu_hours, 3600 * limit)}"
    return f"{stats.unit.removesuffix('-hours')} time {format_seconds(stats.cost.seconds)}"


def kind_of_time(device: str) -> str:
    """Return what a limit of GPU-hours counts: the time of GPUs, of workers where there are none."""
    return "worker" if is_without_gpu(device) else "GPU"


def format_budget(limits: Budget, spent: BudgetUse, device: str = "") -> str:
    """Return text such as '12 of 50 trials started, wall time 1.5 h of 8 h'."""
    parts = [count_of(spent.num_trials, limits.num_trials, "trial", "started")]
    if limits.hours is not None:
        parts.append(f"wall time {format_time_of(3600 * spent.hours, 3600 * limits.hours)}")
    if limits.gpu_hours is not None:
        parts.append(
            f"{kind_of_time(device)} time {format_time_of(3600 * spent.gpu_hours, 3600 * limits.gpu_hours)}"
        )
    if limits.epochs is not None:
        parts.append(count_of(spent.epochs, limits.epochs, "epoch"))
    return ", ".join(parts)


def format_saved(cost: Cost) -> str:
    """Return text such as 'pruning saved 120 epochs (23 %)', or "" without pruned trials."""
    saved = f"pruning saved {pluralize(cost.saved, 'epoch')} ({cost.saved_share:.0%})".replace("%", " %")
    return saved if cost.saved else ""


def format_failures(stats: StudyStats) -> str:
    """Return text such as '2 out of memory, 1 loss not finite'."""
    return ", ".join(f"{number} {kind}" for kind, number in stats.kinds.items())


def format_paused(epoch: int, attrs: Mapping[str, Any]) -> str:
    """Return text such as 'paused at 3 of 60', or 'paused at 0.33 of 60' within the first epoch."""
    epochs = (attrs.get("recipe") or {}).get("epochs")
    at = format_at(epoch, (attrs.get("result") or {}).get("partial"))
    return f"paused at {at}{f' of {epochs}' if epochs else ''}"


def format_at(epoch: int | None, partial: Sequence[Any] | None) -> str:
    """Return an epoch as text; within the first, the part of it after which the trial was scored."""
    return f"{partial[0]:.2g}" if partial and not epoch else str(epoch)


def format_best(result: Mapping[str, Any], goal: str) -> str:
    """Return the best value of a trial, such as 'iou 0.8123 at epoch 7'; before that, the one within epoch 1."""
    epoch, partial = result.get("best_epoch"), result.get("partial")
    value = partial[1] if partial and not epoch else result.get("best_value")
    return f"{goal} {format_value(value)} at epoch {format_at(epoch, partial)}"


def format_outcome(trial: TrialInfo, info: StudyInfo) -> str:
    """Return text such as 'finished: iou 0.8123 at epoch 7; lr=0.001' or 'failed: ...'."""
    params = format_params(trial.params)
    result = trial.attrs.get("result", {})
    best = format_best(result, info.goal.metric)
    if trial.state == "FAIL":
        return f"failed: {failure_from_attrs(trial.number, trial.attrs).reason}; {params}"
    if trial.paused_at is not None:
        return f"{format_paused(trial.paused_at, trial.attrs)}, best {best}; {params}"
    if OVER_LIMIT in trial.attrs:
        return f"over a limit: {trial.attrs[OVER_LIMIT]}; {params}"
    if trial.state == "PRUNED":
        return f"pruned {format_epoch(result.get('epochs'))}, best {best}; {params}"
    return f"finished: {best}; {params}"


def format_decision(decision: StoredDecision) -> str:
    """Return text such as 'pause   trial 3 after epoch 1: rank 4 of 5, 1 may go on'."""
    trial = "a deleted trial" if decision.number is None else f"trial {decision.number}"
    where = f" {format_rung_of(decision)}" if decision.action != "start" or decision.epoch else ""
    return f"{decision.action:<8} {trial}{where}: {format_reason(decision.reason)}".removesuffix(": ")


def format_rung_of(decision: StoredDecision) -> str:
    """Return where a decision was taken, such as 'after epoch 3' or 'after 60 s (epoch 3)'."""
    if SECONDS not in decision.reason:
        return format_epoch(decision.epoch)
    return f"after {format_seconds(decision.reason['rung'])} (epoch {decision.epoch})"


def format_epoch(epoch: int | None) -> str:
    """Return text such as 'after epoch 3', or 'within epoch 1' for 0."""
    return "within epoch 1" if epoch == 0 else f"after epoch {epoch}"


def format_reason(reason: Mapping[str, Any]) -> str:
    """Return text such as 'rank 4 of 5, 1 may go on', or what else a decision gives as its reason."""
    rest = {name: value for name, value in reason.items() if name not in ("rung", SECONDS, CAN_START)}
    parts = [str(rest.pop("why"))] if "why" in rest else []
    if {"rank", "of", "allowed"} <= rest.keys():
        parts.append(f"rank {rest.pop('rank')} of {rest.pop('of')}, {rest.pop('allowed')} may go on")
    parts += [format_params(rest)] if rest else []
    return ", ".join([*parts, *([] if reason.get(CAN_START, True) else ["no trial may start"])])


def format_metrics_table(metrics: Mapping[str, Any]) -> str:
    """Return a Markdown table with training and validation side by side, and a dash for a missing value."""
    cells = {key: f"{value:.4f}" for key, value in metrics.items() if key.startswith(("train_", "val_"))}
    names = sorted({key.partition("_")[2] for key in cells})
    rows = [f"| {name} | {cells.get(f'train_{name}', '-')} | {cells.get(f'val_{name}', '-')} |" for name in names]
    return "\n".join(["| metric | train | validation |", "|---|---|---|", *rows])


def write_confusion(matrix: Sequence[Sequence[int]], classes: Sequence[str], path: Path) -> None:
    """Write a confusion matrix as CSV: a row for each true class, a column for each predicted class."""
    with path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        writer = csv.writer(file)
        writer.writerow(["truth \\ prediction", *classes])
        writer.writerows([name, *row] for name, row in zip(classes, matrix, strict=True))
