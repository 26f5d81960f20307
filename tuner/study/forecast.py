"""What an epoch of a recipe will take, in seconds and memory, predicted from the epochs of other trials."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from tuner.recipe import is_number
from tuner.study.optuna_tables import trial_params, trials
from tuner.study.tables import epoch_table
from tuner.study.trial_queries import read_params

MOST_TRIALS = 200  # the newest ones are learned from
LEAST_TRIALS = 3
RIDGES = tuple(10.0**power for power in range(-3, 4))  # how strongly the influence of parameters is doubted
LEAST_ERROR = 0.02  # of a prediction, in logarithms
Array = np.ndarray


@dataclass(frozen=True)
class Forecast:
    """A predicted cost: in two of three cases it is between `low` and `high`."""

    value: float
    factor: float

    @property
    def low(self) -> float:
        return self.value / self.factor

    @property
    def high(self) -> float:
        return self.value * self.factor


@dataclass(frozen=True)
class CostModel:
    """A linear model of the logarithm of a cost: parameters that are above 0 enter by their logarithms.

    So the cost of a width, an image size or a batch size is a power of it, which is what networks cost. How much
    the parameters may matter, and the error, follow from predicting each trial from all others.
    """

    points: Sequence[Mapping[str, Any]]
    costs: Sequence[float]

    def predict(self, point: Mapping[str, Any]) -> Forecast | None:
        """Return the cost of a recipe with these parameters; None with fewer than three trials to learn from."""
        if len(self.costs) < LEAST_TRIALS:
            return None
        x, y = encode([*self.points, point]), np.log(self.costs)
        known, asked = x[:-1], x[-1]
        fits = [fit(known, y - y.mean(), ridge) for ridge in RIDGES]
        error, weights, inverse = min(fits, key=lambda each: each[0])
        error = max(error, LEAST_ERROR) * math.sqrt(1 + 1 / len(y) + float(asked @ inverse @ asked))
        return Forecast(math.exp(y.mean() + float(asked @ weights)), math.exp(error))


def fit(x: Array, y: Array, ridge: float) -> tuple[float, Array, Array]:
    """Return the error of predicting each value from all others, the weights, and their covariance."""
    inverse = np.linalg.inv(x.T @ x + ridge * np.eye(x.shape[1]))
    weights = inverse @ x.T @ y
    shares = np.einsum("ij,jk,ik->i", x, inverse, x) + 1 / len(y)  # of each value in its own prediction
    errors = (y - x @ weights) / np.maximum(1 - shares, 0.1)
    return float(np.sqrt(np.mean(errors**2))), weights, inverse


def encode(points: Sequence[Mapping[str, Any]]) -> Array:
    """Return a row for each point: numbers standardised, a column for each other value.

    All but the last point are those that are learned from: their columns have mean 0, and one in which they are
    equal is left out.
    """
    columns: list[list[float]] = []
    for name in sorted({name for point in points for name in point}):
        values = [point.get(name) for point in points]
        if all(is_number(value) for value in values if value is not None):
            columns.append(scale_numbers(values))
        if None in values or not all(map(is_number, values)):
            columns += [[float(value == each) for value in values] for each in dict.fromkeys(map(freeze, values))]
    kept = [column for column in columns if max(column[:-1]) > min(column[:-1])]
    x = np.array(kept, dtype=float).reshape(len(kept), len(points)).T
    return x - x[:-1].mean(axis=0)


def scale_numbers(values: Sequence[Any]) -> list[float]:
    """Return numbers with mean 0 and deviation 1, in logarithms if all are above 0; None becomes 0."""
    given = [value for value in values if value is not None]
    scale = math.log if min(given, default=0) > 0 else float
    scaled = np.array([scale(value) for value in given] or [0.0])
    mean, deviation = scaled.mean(), scaled.std() or 1.0
    return [0.0 if value is None else float((scale(value) - mean) / deviation) for value in values]


def freeze(value: Any) -> Any:
    """Return a value that can be a key."""
    return value if isinstance(value, str | bool | int | float | None) else repr(value)


def predict_largest(model: CostModel, parameters: Mapping[str, Mapping[str, Any]]) -> float:
    """Return the highest cost that a recipe of these parameters is predicted to have; 0 if none can be told.

    Each parameter enters by itself, so the costliest value of each is found with the others held.
    """
    point = {name: list_extremes(parameter)[0] for name, parameter in parameters.items()}
    for name, parameter in parameters.items():
        tried = [(model.predict({**point, name: value}), value) for value in list_extremes(parameter)]
        known = [(forecast.value, index) for index, (forecast, _) in enumerate(tried) if forecast]
        if not known:
            return 0.0
        point[name] = tried[max(known)[1]][1]
    found = model.predict(point)
    return found.value if found else 0.0


def list_extremes(parameter: Mapping[str, Any]) -> list[Any]:
    """Return the choices of a stored parameter, or its bounds."""
    return list(parameter["choices"]) if "choices" in parameter else [parameter["low"], parameter["high"]]


def read_cost_models(engine: Engine, study_id: int) -> tuple[CostModel, CostModel]:
    """Return models of the seconds and of the peak memory, in bytes, of an epoch, by parameters."""
    seconds, memory = sa.func.avg(epoch_table.c.seconds), sa.func.max(epoch_table.c.peak_memory)
    has_params = sa.exists().where(trial_params.c.trial_id == trials.c.trial_id)
    query = (
        sa.select(trials.c.trial_id, seconds.label("seconds"), memory.label("memory"))
        .join(epoch_table, epoch_table.c.trial_id == trials.c.trial_id)
        .where(trials.c.study_id == study_id, has_params)
        .group_by(trials.c.trial_id)
        .order_by(trials.c.trial_id.desc())
        .limit(MOST_TRIALS)
    )
    with engine.connect() as db:
        found = {row.trial_id: row for row in db.execute(query)}
        params = read_params(db, list(found))
    both = []
    for column in ("seconds", "memory"):
        costs = {id: float(getattr(row, column)) for id, row in found.items() if getattr(row, column) > 0}
        both.append(CostModel([params[id] for id in costs], list(costs.values())))
    return both[0], both[1]
