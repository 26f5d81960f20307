"""The time until a study ends, from what its trials cost so far, and how far off that may be."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count, groupby, takewhile
from typing import TYPE_CHECKING, Literal

from tuner.space.rungs import rungs_in_epochs
from tuner.space.search_settings import SearchSettings
from tuner.study.budget import BudgetStatus, has_gpu
from tuner.study.info import StudyInfo
from tuner.study.queries import StudySummary, WorkerInfo

if TYPE_CHECKING:
    from tuner.study.stats import Cost, TrialCost

RECENT = 20  # finished trials whose mean time is used


@dataclass(frozen=True)
class TimeLeft:
    """The time until a study ends, and the limit that ends it or why the time is not known.

    In two of three studies it is within `error` seconds, as far as the trials so far tell.
    """

    seconds: float | None
    by: Literal[
        "trials", "hours", "GPU-hours", "worker-hours", "epochs", "done", "paused", "no workers", "no limit",
        "unknown",
    ]  # fmt: skip
    error: float = 0.0


def estimate_time_left(
    info: StudyInfo,
    now: StudySummary,
    status: BudgetStatus,
    cost: Cost,
    ended: Sequence[TrialCost],
    open_trials: Sequence[TrialCost],
) -> TimeLeft:
    """Return the time until the first limit is reached, or why it is not known."""
    if standstill := explain_standstill(now, status.paused):
        return standstill
    by_trials = time_left_by_trials(info, now, ended, open_trials)
    return time_left_by_budget(status, now.workers, by_trials, cost, ended)


def explain_standstill(now: StudySummary, paused: bool) -> TimeLeft | None:
    """Return why no trial is running, or None."""
    if now.num_trials is not None and now.num_finished >= now.num_trials and not resumes(now):
        return TimeLeft(0.0, "done")
    if paused:
        return TimeLeft(None, "paused")
    return None if now.workers else TimeLeft(None, "no workers")


def resumes(now: StudySummary) -> bool:
    """Return whether workers are there to resume paused trials."""
    return now.num_paused > 0 and bool(now.workers)


def time_left_by_trials(
    info: StudyInfo, now: StudySummary, ended: Sequence[TrialCost], open_trials: Sequence[TrialCost]
) -> TimeLeft:
    """Estimate the time until all trials end, shared by the workers."""
    if now.num_trials is None:
        return TimeLeft(None, "no limit")
    if not ended or not now.workers:
        return TimeLeft(None, "unknown")
    new = max(0, now.num_trials - now.num_finished - len(open_trials))
    busy = min(len(now.workers), max(1, new + len(open_trials)))
    seconds = 0.0
    if info.pauses:
        seconds = seconds_of_halving(info, now.num_trials, [*ended, *open_trials])
        costs = epoch_seconds(ended)
    if not seconds:
        costs = [trial.busy_seconds for trial in ended[-max(RECENT, 2 * len(now.workers)) :]]
        each = sum(costs) / len(costs)
        steps = {worker.number: worker for worker in now.workers}
        rest = [remaining_seconds(trial, each, steps.get(trial.number)) for trial in open_trials]
        seconds = sum(rest) + new * each
    return TimeLeft(seconds / busy, "trials", spread(costs, new) * seconds / busy)


def rungs_of(search: SearchSettings, epoch_seconds: float) -> Iterator[float]:
    """Yield after how many epochs of so many seconds trials are judged, without end.

    Rungs of seconds are reached at the end of an epoch; those that one epoch passes are one.
    """
    if not search.seconds:
        yield from rungs_in_epochs(search.part or search.first_count, search.factor)
        return
    ends = (search.seconds * search.factor**step / epoch_seconds for step in count())
    yield from (float(end) for end, _ in groupby(max(1, math.ceil(end - 1e-6)) for end in ends))


def seconds_of_halving(info: StudyInfo, number: int, begun: Sequence[TrialCost]) -> float:
    """Return the seconds of the epochs still to train where trials pause; 0 if that is not known.

    Of so many trials, all reach the first rung, the best 1/factor the next, and the best one its end.
    """
    length = max((trial.planned for trial in begun), default=0)
    trained, seconds = sum(trial.epochs for trial in begun), math.fsum(trial.seconds for trial in begun)
    if not length or not trained or not seconds:
        return 0.0
    total, before, reached = 0.0, 0.0, number
    for rung in takewhile(lambda rung: rung < length, rungs_of(info.search, seconds / trained)):
        total += reached * (rung - before)
        before, reached = rung, max(1, reached // info.search.factor)
    total += reached * (length - before)
    return max(0, total - trained) * seconds / trained


def remaining_seconds(trial: TrialCost, each: float, worker: WorkerInfo | None) -> float:
    """Estimate the seconds until a trial ends, by the mean of the others or, if it takes longer, its own pace."""
    if trial.seconds < each:
        return each - trial.seconds
    if worker is None or worker.state != "training" or not trial.epochs:
        return 0.0
    return trial.seconds / trial.epochs * max(0, worker.steps - worker.step)


def epoch_seconds(ended: Sequence[TrialCost]) -> list[float]:
    """Return the mean seconds of an epoch of each trial that trained one."""
    return [trial.seconds / trial.epochs for trial in ended if trial.epochs]


def spread(costs: Sequence[float], number: int) -> float:
    """Return the standard error of the sum of so many more costs like these, as a share of it."""
    if len(costs) < 2 or not (mean := statistics.fmean(costs)):
        return 0.0
    return statistics.stdev(costs) / mean * math.sqrt(1 / len(costs) + 1 / max(1, number))


def time_left_by_budget(
    status: BudgetStatus,
    running: Sequence[WorkerInfo],
    trials_left: TimeLeft,
    cost: Cost,
    ended: Sequence[TrialCost],
) -> TimeLeft:
    """Return which ends first: the trials, the hours, the GPU-hours or the epochs."""
    workers = len(running)
    budget, spent, gpus = status.budget, status.spent, status.holders or workers
    ends = [trials_left]
    if budget.hours is not None:
        ends.append(TimeLeft(max(0.0, 3600 * (budget.hours - spent.hours)), "hours"))
    if budget.gpu_hours is not None and gpus:
        left = max(0.0, 3600 * (budget.gpu_hours - spent.gpu_hours))
        is_gpu = not running or any(has_gpu(worker.device) for worker in running)
        ends.append(TimeLeft(left / gpus, "GPU-hours" if is_gpu else "worker-hours"))
    if budget.epochs is not None and workers and cost.epochs:
        number = max(0, budget.epochs - spent.epochs)
        seconds = number * cost.seconds / cost.epochs / workers
        ends.append(TimeLeft(seconds, "epochs", spread(epoch_seconds(ended), number) * seconds))
    known = [end for end in ends if end.seconds is not None]
    return min(known, key=lambda end: end.seconds or 0.0, default=trials_left)
