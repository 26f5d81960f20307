"""Who gets the next epochs: what a trial does at a rung, and what a free worker trains next.

A scheduler is a pure function of the trials' curves: the same curves give the same decision, in any process. It
reads no database, draws nothing, and knows neither Optuna nor torch.

- `none`: every trial is trained to its end.
- `stop`: successive halving; a trial that loses at a rung ends for good. It decides as Optuna's
  `SuccessiveHalvingPruner` does, apart from two cases: an infinite loss counts as not a number, and a rung within
  a stage that is not judged is skipped, not made up for at the next epoch.
- `promote`: asynchronous halving; a trial that loses at a rung pauses there, and goes on when so many others came
  out worse that it belongs to the best 1/factor after all.

At a rung, trials of any length are compared, except those that end there. Rung 0 lies within the first epoch.
Rungs may also be times: `BySeconds` shows a scheduler each curve with its values at these.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from statistics import StatisticsError, correlation
from typing import Any, Literal, Protocol

from tuner.search.ranks import mid_ranks
from tuner.study.decisions import SECONDS, Decision, StoredDecision

WHOLE_TRIALS = 1.5  # what the first rung costs at most before trials pass it
NUM_CORRELATED = 8  # trials with values at two rungs, before these are compared
UNRELATED = 0.0  # a rank correlation that is not above tells nothing

State = Literal["running", "paused", "ended"]


@dataclass(frozen=True)
class Curve:
    """A trial as a scheduler sees it."""

    number: int
    # the goal's metric by epoch, 0 within the first; larger is better (negated for minimize); NaN is -inf
    values: Mapping[int, float]
    length: int  # epochs of its recipe
    state: State
    seconds: Mapping[int, float] = field(default_factory=dict)  # of training until the end of an epoch, if counted
    point: Mapping[tuple[str, int], float] = field(default_factory=dict)  # its parameters as columns, for `thaw`
    costs: tuple[float, ...] = ()  # what its model costs, where that is a goal; smaller is better

    @property
    def epoch(self) -> int:
        """The last epoch with a value; 0 before the first."""
        return max(self.values, default=0)


class Scheduler(Protocol):
    """Decides at rungs, and for free workers. Rungs are numbers of epochs, unless a scheduler says otherwise."""

    def rungs(self, length: int) -> list[int]:
        """Return the rungs at which a trial of this length is judged, ascending; never its end."""
        ...

    def rungs_between(self, length: int, before: int, epoch: int, seconds: Mapping[int, float]) -> list[int]:
        """Return the rungs that a trial reached with an epoch and not with one before; `seconds` by epoch."""
        return [rung for rung in self.rungs(length) if before < rung <= epoch]

    def read_rung(self, stored: StoredDecision) -> int:
        """Return the rung at which a stored decision was taken."""
        return stored.epoch

    def view(self, curves: Sequence[Curve]) -> Sequence[Curve]:
        """Return the curves with their values and lengths by rung."""
        return curves

    def judge(self, curves: Sequence[Curve], number: int, rung: int) -> Decision:
        """Return "continue", "pause" or "stop" for a running trial that reached a rung; `curves` include it."""
        ...

    def choose(self, curves: Sequence[Curve], can_start: bool) -> Decision | None:
        """Return "resume" or "start" for a free worker, or None if there is nothing to do."""
        ...


@dataclass(frozen=True)
class NoHalving(Scheduler):
    """Train every trial to its end."""

    def rungs(self, length: int) -> list[int]:
        return []

    def judge(self, curves: Sequence[Curve], number: int, rung: int) -> Decision:
        return Decision("continue", number, rung, {})

    def choose(self, curves: Sequence[Curve], can_start: bool) -> Decision | None:
        return start_trial("every trial is trained to its end") if can_start else None


@dataclass(frozen=True)
class StopHalving(Scheduler):
    """Stop a trial that is not among the best 1/factor of those that have reached its rung."""

    first_rung: int = 1
    factor: int = 3
    part: float = 0.0  # of the first epoch, after which trials are judged before that; 0 if they are not

    def rungs(self, length: int) -> list[int]:
        return [*halving_rungs(self.first_rung, self.factor, length, self.part)]

    def judge(self, curves: Sequence[Curve], number: int, rung: int) -> Decision:
        standing = Standing.at(curves, number, rung)
        better = sum(value > standing.value for value in standing.finite)
        allowed = max(len(standing.finite) // self.factor, 1)
        wins = math.isfinite(standing.value) and better < allowed
        reason = standing.reason(better + 1, len(standing.finite), allowed)
        return Decision("continue" if wins else "stop", number, rung, reason)

    def choose(self, curves: Sequence[Curve], can_start: bool) -> Decision | None:
        return start_trial("a trial that was stopped is over") if can_start else None


@dataclass(frozen=True)
class PromoteHalving(Scheduler):
    """Pause a trial that is not among the best 1/factor of its rung; resume it as soon as it is.

    Nothing passes the first rung until `patience` trials in a row were no better there than the best before them,
    or until that rung has cost as much as one and a half whole trials: the best of a few random trials are seldom
    worth their epochs. Nothing passes any rung before it has as many trials as the factor. When no trial can be
    started any more, the best of each rung goes on nevertheless, so that a search of few trials ends with a
    finished one.

    A rung that tells nothing about the next one is skipped: every trial passes it, as soon as the data shows it.
    """

    first_rung: int = 1
    factor: int = 3
    patience: int = 15
    part: float = 0.0  # of the first epoch, after which trials are judged before that; 0 if they are not

    def rungs(self, length: int) -> list[int]:
        return [*halving_rungs(self.first_rung, self.factor, length, self.part)]

    def judge(self, curves: Sequence[Curve], number: int, rung: int) -> Decision:
        standing = Standing.at(curves, number, rung)
        allowed = self.count_allowed(curves, rung, len(standing.order), first_telling(self, curves))
        rank = 1 + standing.order.index(number)
        reason = standing.reason(rank, len(standing.order), allowed)
        if not math.isfinite(standing.value):
            return Decision("stop", number, rung, reason)
        return Decision("continue" if rank <= allowed else "pause", number, rung, reason)

    def choose(self, curves: Sequence[Curve], can_start: bool) -> Decision | None:
        promoted = self.promote(curves, can_start)
        return promoted or (start_trial("no paused trial is due") if can_start else None)

    def promote(self, curves: Sequence[Curve], can_start: bool) -> Decision | None:
        """Return the resumption of the best paused trial at the highest rung where one may pass.

        As where it was judged, it is compared with those that cost at most as much.
        """
        paused = {curve.number: curve for curve in curves if curve.state == "paused"}
        for rung in reversed(self.rungs(1 + max((curve.epoch for curve in paused.values()), default=0))):
            passing: dict[tuple[float, ...], dict[int, dict[str, int]]] = {}  # by costs
            for curve in (paused[number] for number in rank_at(curves, rung) if number in paused):
                if not self.rests_at(curve, rung):
                    continue
                if curve.costs not in passing:
                    passing[curve.costs] = self.list_passing(select_compared(curves, curve), rung, can_start)
                if reason := passing[curve.costs].get(curve.number):
                    return Decision("resume", curve.number, curve.epoch, reason)
        return None

    def list_passing(self, curves: Sequence[Curve], rung: int, can_start: bool) -> dict[int, dict[str, int]]:
        """Return the trials that may pass a rung, by number, each with the reason."""
        order = rank_at(curves, rung)
        allowed = self.count_allowed(curves, rung, len(order), first_telling(self, curves))
        if not can_start:
            allowed = max(allowed, len(order) // self.factor, 1)
        common = {"of": len(order), "allowed": allowed}
        ranked = enumerate(order[:allowed], start=1)
        return {number: {"rung": rung, "rank": rank, **common} for rank, number in ranked}

    def count_allowed(self, curves: Sequence[Curve], rung: int, number: int, telling: int) -> int:
        """Return how many of the trials at a rung may pass it while new ones can be started."""
        if rung != telling:
            return number if rung < telling else number // self.factor
        return number // self.factor if self.is_settled(curves, rung) else 0

    def is_settled(self, curves: Sequence[Curve], rung: int) -> bool:
        """Return whether so many trials reached this rung that its best ones are worth more epochs."""
        at_rung = [curve for curve in curves if rung in curve.values and rung < curve.length]
        best, since_best = -math.inf, 0
        for curve in sorted(at_rung, key=lambda curve: curve.number):
            is_better = curve.values[rung] > best
            best, since_best = max(best, curve.values[rung]), 0 if is_better else since_best + 1
            if since_best >= self.patience:
                return True
        cost = len(at_rung) * (rung or self.part)
        return cost >= WHOLE_TRIALS * max((curve.length for curve in at_rung), default=0)

    def rests_at(self, curve: Curve, rung: int) -> bool:
        """Return whether this is the last rung that a trial has reached."""
        following = rung * self.factor or self.first_rung
        return rung <= curve.epoch < following and math.isfinite(curve.values[rung])


@dataclass(frozen=True)
class BySeconds(Scheduler):
    """Compare trials after equal times of training. The rungs of the inner scheduler are milliseconds.

    A trial is judged at the end of the first epoch until which it has trained for that long. A decision has the
    epoch at which it was taken, and the rung in seconds as a reason.
    """

    inner: Scheduler

    def rungs(self, length: int) -> list[int]:
        return self.inner.rungs(length)

    def rungs_between(self, length: int, before: int, epoch: int, seconds: Mapping[int, float]) -> list[int]:
        start, end = to_millis(seconds.get(before, 0.0)), to_millis(seconds[epoch])
        return [rung for rung in self.rungs(end + 1) if rung > start]

    def read_rung(self, stored: StoredDecision) -> int:
        return to_millis(stored.reason["rung"])

    def view(self, curves: Sequence[Curve]) -> Sequence[Curve]:
        return [key_curve_by_time(curve, self.inner) for curve in curves]

    def judge(self, curves: Sequence[Curve], number: int, rung: int) -> Decision:
        return self.in_epochs(self.inner.judge(self.view(curves), number, rung), curves)

    def choose(self, curves: Sequence[Curve], can_start: bool) -> Decision | None:
        choice = self.inner.choose(self.view(curves), can_start)
        return choice if choice is None or choice.number is None else self.in_epochs(choice, curves)

    def in_epochs(self, decision: Decision, curves: Sequence[Curve]) -> Decision:
        """Return a decision with the last epoch of its trial, and rung and trained time in seconds."""
        (own,) = (curve for curve in curves if curve.number == decision.number)
        times = {"rung": decision.reason["rung"] / 1000, SECONDS: own.seconds.get(own.epoch)}
        return replace(decision, epoch=own.epoch, reason=decision.reason | times)


def key_curve_by_time(curve: Curve, halving: Scheduler) -> Curve:
    """Return a curve with its values at rungs of milliseconds.

    A rung has the value of the first epoch that ends there or later, but not that of the last one, which is at the
    length. It is estimated: all epochs take as long as those so far.
    """
    ends = {epoch: to_millis(curve.seconds[epoch]) for epoch in sorted(curve.values) if epoch in curve.seconds}
    last = max(ends, default=0)
    if not last:
        return replace(curve, values={}, length=0)
    length = 1 + ends[last] * curve.length // last
    values = {}
    for rung in halving.rungs(ends[last] + 1):
        epoch = next(epoch for epoch, end in ends.items() if end >= rung)
        if epoch < curve.length:
            values[rung] = curve.values[epoch]
    if last == curve.length:
        values[length] = curve.values[last]
    return replace(curve, values=values, length=length)


def to_millis(seconds: float) -> int:
    return round(1000 * seconds)


def choose_next(scheduler: Scheduler, curves: Sequence[Curve], can_start: bool) -> Decision | None:
    """Return what a scheduler chooses for a free worker; its reason tells when no trial may start."""
    choice = scheduler.choose(curves, can_start)
    return choice if can_start or choice is None else choice.without_start()


@dataclass(frozen=True)
class Standing:
    """A trial among all that reached its rung."""

    epoch: int
    value: float
    finite: list[float]  # the values of all that have one, its own included
    order: list[int]  # the numbers of all, the best first

    @classmethod
    def at(cls, curves: Sequence[Curve], number: int, epoch: int) -> Standing:
        """Return where a trial stands at a rung; raise KeyError if it has no value there."""
        values = values_at(curves, epoch)
        own = values[number]
        return cls(epoch, own, [value for value in values.values() if math.isfinite(value)], rank(values))

    def reason(self, place: int, total: int, allowed: int) -> dict[str, Any]:
        value = self.value if math.isfinite(self.value) else None
        return {"rung": self.epoch, "value": value, "rank": place, "of": total, "allowed": allowed}


def halving_rungs(first: int, factor: int, length: int, part: float = 0.0) -> Iterator[int]:
    """Yield first, first x factor, first x factor^2, ... below the length; with a part, 0 before."""
    if part:
        yield 0
    while first < length:
        yield first
        first *= factor


def values_at(curves: Sequence[Curve], epoch: int) -> dict[int, float]:
    """Return the values after an epoch by the trial's number, of all trials that go beyond it."""
    return {
        curve.number: curve.values[epoch] for curve in curves if epoch in curve.values and epoch < curve.length
    }


def select_compared(curves: Sequence[Curve], own: Curve) -> list[Curve]:
    """Return the curves with which a trial is compared: those that cost at most as much, its own included.

    So large models do not judge small ones.
    """
    return [curve for curve in curves if curve.number == own.number or is_at_most(curve.costs, own.costs)]


def is_at_most(costs: Sequence[float], others: Sequence[float]) -> bool:
    return all(cost <= other for cost, other in zip(costs, others, strict=True))


def rank(values: Mapping[int, float]) -> list[int]:
    """Return the keys, that of the best value first; of equal ones the lower number first."""
    return sorted(values, key=lambda number: (-values[number], number))


def rank_at(curves: Sequence[Curve], epoch: int) -> list[int]:
    """Return the numbers of all trials with a value after an epoch, the best first."""
    return rank(values_at(curves, epoch))


def first_telling(scheduler: Scheduler, view: Sequence[Curve]) -> int:
    """Return the first rung whose ranks say something about those of the next one, as far as is known."""
    longest = max((curve.length for curve in view), default=0)
    rungs = scheduler.rungs(longest) or [longest]
    for rung, after in pairwise(rungs):
        both = [(curve.values[rung], curve.values[after]) for curve in view if after in curve.values]
        if len(both) < NUM_CORRELATED or correlate_ranks(both) > UNRELATED:
            return rung
    return rungs[-1]


def order_paused(scheduler: Scheduler, curves: Sequence[Curve]) -> list[int]:
    """Return the numbers of the paused trials, the least promising first: by the last rung and the rank there."""
    view = scheduler.view(curves)

    def promise(curve: Curve) -> tuple[int, float, int]:
        rung = max((rung for rung in scheduler.rungs(curve.length) if rung in curve.values), default=0)
        others = values_at(select_compared(view, curve), rung).values()
        better = sum(other > curve.values.get(rung, -math.inf) for other in others)
        return rung, -better / max(len(others), 1), -curve.number

    return [curve.number for curve in sorted((each for each in view if each.state == "paused"), key=promise)]


def start_trial(why: str) -> Decision:
    return Decision("start", None, 0, {"why": why})


def correlate_ranks(pairs: Sequence[tuple[float, float]]) -> float:
    """Return Spearman's rank correlation; 0 if all left or all right values are equal."""
    left, right = zip(*pairs, strict=True)
    try:
        return correlation(mid_ranks(left), mid_ranks(right))
    except StatisticsError:
        return 0.0
