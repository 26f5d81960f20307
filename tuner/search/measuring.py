"""What the model of a trial costs, measured before it is trained, and the limits of its study.

A number is an attribute of the trial, and each limit a constraint, as Optuna's samplers and plots know them. A
trial that breaks a limit ends as pruned before it is trained, so that samplers learn from it.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from functools import cache
from statistics import fmean

import optuna

from tuner.goal import COSTS, EPOCH_SECONDS, describe_excess, over_limits
from tuner.recipe import Recipe
from tuner.search.objective import TrialContext
from tuner.space.meta_model import measure_model
from tuner.study import optuna_compat
from tuner.study.info import StudyInfo
from tuner.tasks import find_task
from tuner.train import memory
from tuner.train.loop import Progress
from tuner.train.measures import GIGABYTE, measure_latency
from tuner.train.precision import device_name, resolve_dtype

LATENCY, MEMORY = "latency_ms", "peak_memory_gb"
LATENCY_ON = "latency_on"  # the attribute that names the device on which the latency was measured
FIRST_STEPS = (2, 3, 4)  # before these, the memory of a GPU is compared with its limit, and after each epoch
log = logging.getLogger("tuner")


class OverLimit(Exception):
    """A trial breaks a limit of its study, and is not trained any further."""


def measure_trial(trial: optuna.Trial, recipe: Recipe, info: StudyInfo, context: TrialContext) -> None:
    """Measure what the study limits, unless an earlier attempt did; raise OverLimit where a limit is broken.

    What follows from the model alone comes first: a model that is too large is not built.
    """
    names = [name for name in info.measures if name not in trial.user_attrs]
    if not names:
        return
    task, device = find_task(recipe.task), context.device
    micro, dtype = context.micro_batches.size_for(recipe, device), resolve_dtype(recipe.precision, device)
    note_measures(trial, measure_model(recipe, task, names, {}, micro, dtype), info.limits)
    if LATENCY in names:
        with memory.fail_trial_on_oom(recipe):
            latency = measure_latency(recipe, task, device)
        trial.set_user_attr(LATENCY_ON, device_name(device))
        known = {each.user_attrs.get(LATENCY_ON) for each in optuna_compat.read_cached_trials(trial.study)}
        warn_of_devices(device_name(device), frozenset(known - {None, device_name(device)}))
        note_measures(trial, {LATENCY: latency}, info.limits)


def note_measures(trial: optuna.Trial, measured: Mapping[str, float], limits: Mapping[str, float]) -> None:
    """Set the attributes and constraints of what was measured; raise OverLimit if it breaks a limit."""
    for name, value in measured.items():
        trial.set_user_attr(name, value)
        if name in limits:  # relative, so that the limits of all measures weigh the same
            optuna_compat.set_constraint(trial, name, value / limits[name] - 1)
    if over := over_limits(measured, limits):
        raise OverLimit(describe_excess(over, limits))


def further_values(trial: optuna.Trial, info: StudyInfo, progress: Progress) -> list[float]:
    """Return the values of the goals beside the first, those of metrics at the best epoch; NaN if unknown."""
    if any(goal.metric == EPOCH_SECONDS for goal in info.further):
        trial.set_user_attr(EPOCH_SECONDS, fmean(report["seconds"] for report in progress.history))
    metrics: dict[str, float] = {}
    for report in progress.history:
        if report["epoch"] == progress.best_epoch:
            metrics = report["metrics"]
    measured = trial.user_attrs
    return [
        float(measured[goal.metric] if goal.metric in COSTS else metrics.get(f"val_{goal.metric}", math.nan))
        for goal in info.further
    ]


@cache
def warn_of_devices(device: str, others: frozenset[str]) -> None:
    """Warn once that latencies of this device are compared with those of others."""
    if others:
        log.warning("latency_ms is measured on %s here, in other trials on %s", device, ", ".join(sorted(others)))


def make_memory_check(trial: optuna.Trial, info: StudyInfo, context: TrialContext) -> Callable[[bool], None]:
    """Return a function to call before each step, and with True after each epoch.

    On a GPU it notes the peak memory, and raises OverLimit if that breaks the limit. On a processor, memory is
    predicted only: what its process takes is not that of the model.
    """
    calls, is_watched = 0, MEMORY in info.measures and context.device.type == "cuda"

    def check(is_epoch: bool = False) -> None:
        nonlocal calls
        calls += 1
        if is_watched and (is_epoch or calls in FIRST_STEPS):
            peak = memory.peak_bytes(context.device) / GIGABYTE
            if peak > trial.user_attrs.get(MEMORY, 0.0):
                note_measures(trial, {MEMORY: peak}, info.limits)

    return check
