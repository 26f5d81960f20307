"""The curves of a study's trials, as its scheduler sees them."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import sqlalchemy as sa
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from tuner.search.scheduler import Curve
from tuner.study.database import retried
from tuner.study.optuna_compat import trial_id as id_of
from tuner.study.paused import MARK
from tuner.study.pending import read_length
from tuner.study.study import JoinedStudy
from tuner.study.tables import epoch_table

MAX_IDS = 500  # in a statement; for more, the seconds of all trials are read


class CurveReader:
    """Reads the curves of a study; of ended and paused trials only once."""

    def __init__(self, joined: JoinedStudy) -> None:
        self.joined = joined
        self.sign = 1.0 if joined.info.goal.direction == "maximize" else -1.0
        self.known: dict[int, tuple[FrozenTrial, Curve]] = {}  # ended and paused ones, by id
        self.lock = threading.Lock()

    def read(self) -> list[Curve]:
        """Return the curves of all trials, by number."""
        with self.lock:
            trials = self.joined.storage.get_all_trials(self.joined.id, deepcopy=False)
            new = [trial for trial in trials if not self.is_known(trial)]
            seconds = read_epoch_seconds(self.joined.engine, [id_of(trial) for trial in new])
            made = {id_of(trial): self.make_curve(trial, seconds.get(id_of(trial), 0.0)) for trial in new}
            self.known |= {id_of(t): (t, made[id_of(t)]) for t in new if t.state.is_finished()}
            return [made.get(id_of(trial)) or self.known[id_of(trial)][1] for trial in trials]

    def read_at(self, number: int, epoch: int) -> list[Curve]:
        """Return the curves of all trials, and the one of that number as it was after that epoch."""
        return [
            replace(curve, values={at: value for at, value in curve.values.items() if at <= epoch})
            if curve.number == number
            else curve
            for curve in self.read()
        ]

    def is_known(self, trial: FrozenTrial) -> bool:
        return self.known.get(id_of(trial), (None,))[0] is trial

    def make_curve(self, trial: FrozenTrial, epoch_seconds: float) -> Curve:
        values = {epoch: self.sign * value for epoch, value in dict(trial.intermediate_values).items()}
        finite = {epoch: -math.inf if math.isnan(value) else value for epoch, value in values.items()}
        is_paused = MARK in trial.system_attrs and trial.state is TrialState.PRUNED
        return Curve(
            number=trial.number,
            params=scale_params(trial.params, trial.distributions),
            values=fill_gaps(finite),
            length=read_length(trial),
            state="paused" if is_paused else "ended" if trial.state.is_finished() else "running",
            epoch_seconds=epoch_seconds,
        )


def fill_gaps(values: Mapping[int, float]) -> dict[int, float]:
    """Return values with those of epochs without validation, which count as the next one with it.

    So trials are compared at each rung, however often they are validated.
    """
    filled: dict[int, float] = {}
    for epoch in sorted(values):
        filled |= dict.fromkeys(range(max(filled, default=0) + 1, epoch + 1), values[epoch])
    return filled


def scale_params(params: Mapping[str, Any], distributions: Mapping[str, BaseDistribution]) -> dict[str, float]:
    """Return each number scaled to 0..1 by its distribution, and each choice as "name=choice": 1.0."""
    scaled = {}
    for name, value in dict(params).items():
        distribution = distributions[name]
        if isinstance(distribution, CategoricalDistribution):
            scaled[f"{name}={value}"] = 1.0
        elif isinstance(distribution, FloatDistribution | IntDistribution):
            scaled[name] = scale_number(value, distribution)
    return scaled


def scale_number(value: float, distribution: FloatDistribution | IntDistribution) -> float:
    low, high = float(distribution.low), float(distribution.high)
    if distribution.log:
        low, high, value = math.log(low), math.log(high), math.log(value)
    return (value - low) / (high - low) if high > low else 0.0


@retried
def read_epoch_seconds(engine: sa.Engine, ids: Iterable[int]) -> dict[int, float]:
    """Return the mean seconds of an epoch of these trials, by id; trials without an epoch are missing."""
    wanted = list(ids)
    query = sa.select(epoch_table.c.trial_id, sa.func.avg(epoch_table.c.seconds)).group_by(epoch_table.c.trial_id)
    if len(wanted) <= MAX_IDS:
        query = query.where(epoch_table.c.trial_id.in_(wanted))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as db:
        return {trial_id: float(seconds) for trial_id, seconds in db.execute(query)} if wanted else {}
