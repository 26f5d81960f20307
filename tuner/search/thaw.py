"""The pruning `thaw`: a model of all learning curves chooses which trial gets the next epochs."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import numpy as np

from tuner.search.gaussian_process import GaussianProcess
from tuner.search.ranks import normal_scores, select_best_and_newest
from tuner.search.scheduler import Curve, PromoteHalving, Scheduler, first_telling
from tuner.study.decisions import Decision

MOST_POINTS, MOST_WEIGHED = 250, 100  # values that the model learns from; paused trials, the best, for 50 ms
PROMOTED = 1 / 3  # of the choices are those of `promote`, so that a wrong model costs little
OWN_SHARE, OWN_SCALE = 0.3, 0.5  # of the variance that is a trial's own, and its length scale in time
NUM_NEW = 100  # made-up trials that a new one is valued by
BEST_NEW = 5  # of these count: a sampler chooses better than at random
MISSING = -0.5  # of a parameter that a recipe does not have
Array = np.ndarray


@dataclass(frozen=True)
class Thaw(Scheduler):
    """Resume the paused trial from which the most is expected for each second, or start a new one.

    The expected gain is that over the best value so far, at the best of the trial's next rungs and its end. One
    choice in three is that of `promote`. As there, nothing passes the first rung before its patience ends, rungs
    that tell nothing are skipped, and when no trial can be started any more the best of each rung go on.
    """

    halving: PromoteHalving

    def rungs(self, length: int) -> list[int]:
        return self.halving.rungs(length)

    def judge(self, curves: Sequence[Curve], number: int, rung: int) -> Decision:
        judged = self.halving.judge(curves, number, rung)
        resting = [replace(curve, state="paused") if curve.number == number else curve for curve in curves]
        if judged.action == "stop" or rung < first_telling(self, curves) or self.is_promoting(resting):
            return judged
        choice = self.weigh(resting)
        both = choice.reason | judged.reason  # the rung is that of this trial
        reason = {name: value for name, value in both.items() if name not in ("allowed", "why")}
        return Decision("continue" if choice.number == number else "pause", number, rung, reason)

    def choose(self, curves: Sequence[Curve], can_start: bool) -> Decision | None:
        promoted = self.halving.choose(curves, can_start)
        if not can_start or not list_paused(curves) or self.is_promoting(curves):
            return promoted
        if promoted and promoted.number is not None and promoted.epoch < first_telling(self, curves):
            return promoted
        return self.weigh(curves)

    def is_promoting(self, curves: Sequence[Curve]) -> bool:
        """Return whether this choice is left to promotion; what was trained so far decides, as if drawn."""
        drawn = draw(curves).random()
        return drawn < PROMOTED or not self.halving.is_settled(curves, first_telling(self, curves))

    def weigh(self, curves: Sequence[Curve]) -> Decision:
        """Return the choice of the largest expected gain for each second."""
        forecast = Forecast(curves, self.halving)
        paused = sorted(list_paused(curves), key=lambda curve: -curve.values[curve.epoch])
        gains = forecast.gains(paused[:MOST_WEIGHED])
        best = max(gains, key=lambda number: (gains[number], -number))
        new = forecast.gain_of_new(draw(curves))
        gain, following = sorted([*gains.values(), new], reverse=True)[:2]
        reason = {"gain": rounded(gain), "next": rounded(following), "paused": len(gains)}
        if new >= gains[best]:
            return Decision("start", None, 0, {"why": "most is expected of a new trial", **reason})
        epoch = next(curve.epoch for curve in curves if curve.number == best)
        return Decision("resume", best, epoch, {"rung": epoch, "why": "most is expected of it", **reason})


def list_paused(curves: Sequence[Curve]) -> list[Curve]:
    """Return the paused trials that may go on."""
    return [c for c in curves if c.state == "paused" and math.isfinite(c.values.get(c.epoch, -math.inf))]


def epoch_seconds(curve: Curve) -> float:
    """Return the mean seconds of the trained epochs; 0 if they are not counted."""
    return curve.seconds.get(curve.epoch, 0.0) / max(curve.epoch, 1)


def draw(curves: Sequence[Curve]) -> random.Random:
    """Return random numbers that follow from how much was trained, so that a choice can be repeated."""
    return random.Random(sum(len(curve.values) for curve in curves))


class CurveProcess(GaussianProcess):
    """A Gaussian process over parameters, time and, in the last column, the trial whose curve it is."""

    def kernel(self, left: Array, right: Array, scales: Array) -> Array:
        shared = super().kernel(left[:, :-1], right[:, :-1], scales)
        apart = (left[:, -2, None] - right[None, :, -2]) / OWN_SCALE
        own = (left[:, -1, None] == right[None, :, -1]) * np.exp(-(apart**2) / 2)
        correlations: Array = (1 - OWN_SHARE) * shared + OWN_SHARE * own
        return correlations


class Forecast:
    """What the curves of all trials let expect of one that goes on, in normal scores of all values."""

    def __init__(self, curves: Sequence[Curve], halving: PromoteHalving) -> None:
        self.halving = halving
        self.curves = [curve for curve in curves if any(map(math.isfinite, curve.values.values()))]
        self.length = max(curve.length for curve in self.curves)
        self.columns = sorted({column for curve in self.curves for column in curve.point})
        self.parameters = sorted({name for name, _ in self.columns})
        self.params = {c.number: [c.point.get(column, MISSING) for column in self.columns] for c in self.curves}
        self.pace = fmean([*filter(None, map(epoch_seconds, self.curves))] or [1.0])  # of trials without their own
        self.learn()

    def learn(self) -> None:
        """Fit the model to the finite values at rungs and after the last epoch of each trial."""
        seen = []
        for curve in self.curves:
            told = {*self.halving.rungs(curve.length), curve.epoch}
            seen += [(value, curve.number, epoch) for epoch, value in curve.values.items() if epoch in told]
        seen = [one for one in seen if math.isfinite(one[0])]
        ordered = sorted(range(len(seen)), key=lambda at: (-seen[at][0], at))
        chosen = [seen[at] for at in sorted(select_best_and_newest(ordered, MOST_POINTS))]
        values = np.array(normal_scores([value for value, _, _ in chosen]))
        points = np.array([self.place(number, epoch) for _, number, epoch in chosen])
        owners = [self.parameters.index(name) for name, _ in self.columns]
        self.model = CurveProcess(points, values, [*owners, len(self.parameters)])
        self.best = float(values.max())

    def place(self, number: int, epoch: int) -> list[float]:
        return [*self.params[number], self.time(epoch), number]

    def time(self, epoch: int) -> float:
        return math.log1p(epoch) / math.log1p(self.length)

    def list_ends(self, epoch: int, length: int) -> list[int]:
        return [end for end in [*self.halving.rungs(length), length] if end > epoch]

    def expect(self, points: Array) -> Array:
        """Return the expected gains over the best value at these points."""
        means, errors = self.model.predict(points)
        return expected_gain(means - self.best, errors)

    def gains(self, paused: Sequence[Curve]) -> dict[int, float]:
        """Return by trial the expected gain for each second, until the best of its next rungs."""
        ends = [(curve, end) for curve in paused for end in self.list_ends(curve.epoch, curve.length)]
        expected = self.expect(np.array([self.place(curve.number, end) for curve, end in ends])).tolist()
        gains: dict[int, float] = {}
        for (curve, end), gain in zip(ends, expected, strict=True):
            each = gain / ((epoch_seconds(curve) or self.pace) * (end - curve.epoch))
            gains[curve.number] = max(gains.get(curve.number, 0.0), each)
        return gains

    def gain_of_new(self, rng: random.Random) -> float:
        """Return the mean of the best of made-up trials, which have each parameter as one of the trials has it."""
        known = np.array([*self.params.values()])
        made = np.empty((NUM_NEW, len(self.columns)))
        for parameter in self.parameters:
            columns = [at for at, (name, _) in enumerate(self.columns) if name == parameter]
            made[:, columns] = known[[rng.randrange(len(known)) for _ in range(NUM_NEW)]][:, columns]
        ends = self.list_ends(0, self.length)
        places = [np.hstack([made, np.tile([self.time(end), -1.0], (NUM_NEW, 1))]) for end in ends]
        costs = self.pace * np.repeat(ends, NUM_NEW)
        each = (self.expect(np.concatenate(places)) / costs).reshape(len(ends), NUM_NEW)
        return float(np.sort(each.max(0))[-BEST_NEW:].mean())


def expected_gain(means: Array, errors: Array) -> Array:
    """Return the expectation of what a normal distribution has above 0."""
    z = means / errors
    above = np.array([0.5 * math.erfc(-each / math.sqrt(2)) for each in z.tolist()])
    gains: Array = means * above + errors * np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    return np.maximum(gains, 0)


def rounded(gain: float) -> float:
    """Return a gain with three digits."""
    return float(f"{gain:.3g}")
