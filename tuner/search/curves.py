"""The curves of a study's trials, as its scheduler sees them."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from dataclasses import replace

from optuna.trial import FrozenTrial, TrialState

from tuner.goal import MEASURES
from tuner.search.scheduler import Curve, State, select_compared
from tuner.search.unit_cube import encode_columns
from tuner.study.optuna_compat import trial_id as id_of
from tuner.study.paused import MARK
from tuner.study.pending import read_length, read_seconds
from tuner.study.study import JoinedStudy


class CurveReader:
    """Reads the curves of a study; of ended and paused trials only once."""

    def __init__(self, joined: JoinedStudy) -> None:
        self.joined = joined
        self.sign = 1.0 if joined.info.goal.direction == "maximize" else -1.0
        self.known: dict[int, tuple[FrozenTrial, Curve]] = {}  # ended and paused ones, by id
        self.compared = [goal.metric for goal in joined.info.further if goal.metric in MEASURES]  # known early
        self.has_points = joined.info.search.pruning == "thaw"  # its model looks at the parameters
        self.lock = threading.Lock()

    def read(self) -> list[Curve]:
        """Return the curves of all trials, by number."""
        with self.lock:
            trials = self.joined.storage.get_all_trials(self.joined.id, deepcopy=False)
            new = [trial for trial in trials if not self.is_known(trial)]
            made = {id_of(trial): self.make_curve(trial) for trial in new}
            self.known |= {id_of(t): (t, made[id_of(t)]) for t in new if t.state.is_finished()}
            return [made.get(id_of(trial)) or self.known[id_of(trial)][1] for trial in trials]

    def read_at(self, number: int, epoch: int) -> list[Curve]:
        """Return the curve of that number as it was after that epoch, and those with which it is compared."""
        curves = self.read()
        (own,) = (cut_curve(curve, epoch, curve.state) for curve in curves if curve.number == number)
        return select_compared([own if curve.number == number else curve for curve in curves], own)

    def is_known(self, trial: FrozenTrial) -> bool:
        return self.known.get(id_of(trial), (None,))[0] is trial

    def make_curve(self, trial: FrozenTrial) -> Curve:
        costs = tuple(float(trial.user_attrs.get(name, math.inf)) for name in self.compared)
        point = encode_columns(trial.params, trial.distributions) if self.has_points else {}
        return replace(make_curve(trial, self.sign), costs=costs, point=point)


def make_curve(trial: FrozenTrial, sign: float) -> Curve:
    """Return the curve of a trial; `sign` is -1 if its goal is minimized."""
    values = {epoch: sign * value for epoch, value in dict(trial.intermediate_values).items()}
    finite = {epoch: -math.inf if math.isnan(value) else value for epoch, value in values.items()}
    is_paused = MARK in trial.system_attrs and trial.state is TrialState.PRUNED
    return Curve(
        number=trial.number,
        values=fill_gaps(finite),
        length=read_length(trial),
        state="paused" if is_paused else "ended" if trial.state.is_finished() else "running",
        seconds=read_seconds(trial),
    )


def cut_curve(curve: Curve, epoch: int, state: State) -> Curve:
    """Return a curve as it was after an epoch, of a trial in this state."""
    return replace(curve, values={at: value for at, value in curve.values.items() if at <= epoch}, state=state)


def fill_gaps(values: Mapping[int, float]) -> dict[int, float]:
    """Return values with those of epochs without validation, which count as the next one with it.

    So trials are compared at each rung, however often they are validated. The value within the first epoch, at 0,
    stands for itself.
    """
    filled: dict[int, float] = {}
    for epoch in sorted(values):
        if epoch == 0:
            filled[0] = values[0]
        filled |= dict.fromkeys(range(max(filled, default=0) + 1, epoch + 1), values[epoch])
    return filled
