"""Replay of a search: each stored decision is taken again from what its scheduler could see then.

What it saw is rebuilt from the database alone: the recorded epochs of all trials, and the order of the decisions.
A trial that rests or has ended shows all of its epochs; one that goes on later, those until then. With one worker
at a time this is exactly what was known. With several, the epochs of trials that other workers trained at that
moment are known only up to their last decision, so that a decision may differ.
"""

from __future__ import annotations

import json
from collections import defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass

from optuna.trial import FrozenTrial

from tuner.search.curves import CurveReader, cut_curve
from tuner.search.scheduler import Curve, Scheduler, State, choose_next, select_compared
from tuner.search.scheduling import make_scheduler
from tuner.study.claims import read_slots
from tuner.study.decisions import CAN_START, START_ENQUEUED, Decision, StoredDecision, read_decisions
from tuner.study.optuna_compat import fixed_params, trial_id
from tuner.study.study import JoinedStudy

FOREVER = 2**62  # an epoch after the last of any trial


@dataclass(frozen=True)
class ReplayedDecision:
    """A stored decision, and what the scheduler decides with what was known then; None if nothing."""

    stored: StoredDecision
    now: Decision | None

    @property
    def is_same(self) -> bool:
        """Whether action, trial, epoch and reason are the same. A started trial has no number in a decision."""
        if self.now is None:
            return False
        number = None if self.stored.action == "start" else self.stored.number
        reason = json.loads(json.dumps(self.now.reason))
        then = self.stored.action, number, self.stored.epoch, self.stored.reason
        return then == (self.now.action, self.now.number, self.now.epoch, reason)


def replay_decisions(joined: JoinedStudy, scheduler: Scheduler | None = None) -> list[ReplayedDecision]:
    """Return each decision of a study's scheduler in the order in which they were written, taken again.

    Decisions on deleted trials cannot be taken again and are left out.
    """
    return [*Replay(joined, scheduler or make_scheduler(joined.info)).run()]


class Replay:
    """The trials of a study as a scheduler saw them, from decision to decision."""

    def __init__(self, joined: JoinedStudy, scheduler: Scheduler) -> None:
        trials = joined.storage.get_all_trials(joined.id, deepcopy=False)
        self.reader, slots = CurveReader(joined), read_slots(joined.engine, joined.id)
        self.scheduler = scheduler
        self.trials: dict[int, FrozenTrial] = {trial.number: trial for trial in trials}
        self.whole: dict[int, Curve] = {trial.number: self.reader.make_curve(trial) for trial in trials}
        self.slots = {trial.number: slots[trial_id(trial)] for trial in trials if trial_id(trial) in slots}
        self.unseen = deque(sorted(self.slots, key=self.slots.__getitem__))  # not started yet
        self.decisions = [each for each in read_decisions(joined.engine, joined.id) if each.number in self.trials]
        self.later: dict[int, deque[StoredDecision]] = defaultdict(deque)  # of each trial
        for stored in self.decisions:
            self.later[int(stored.number or 0)].append(stored)
        # given trials are there from the beginning, all others when they have started
        self.curves = {n: cut_curve(curve, -1, "running") for n, curve in self.whole.items() if self.is_given(n)}

    def is_given(self, number: int) -> bool:
        return bool(fixed_params(self.trials[number]))

    def run(self) -> Iterator[ReplayedDecision]:
        for stored in self.decisions:
            number = int(stored.number or 0)
            if stored.action == "start":
                yield ReplayedDecision(stored, self.take_again(stored, number))
                self.show_started(number)
                self.pass_decision(number)
                continue
            self.show_started(number)
            if stored.action != "drop":
                yield ReplayedDecision(stored, self.take_again(stored, number))
            self.pass_decision(number)

    def take_again(self, stored: StoredDecision, number: int) -> Decision | None:
        """Return what is decided on what is visible: by the scheduler, but an enqueued trial comes before all."""
        if stored.action == "start" and self.is_given(number):
            return START_ENQUEUED
        if stored.action in ("start", "resume"):
            return choose_next(self.scheduler, self.visible(), stored.reason.get(CAN_START, True))
        own = cut_curve(self.whole[number], self.judged_at(number, stored.epoch), "running")
        curves = select_compared(self.visible(own), own)
        return self.scheduler.judge(curves, number, self.scheduler.read_rung(stored))

    def judged_at(self, number: int, rung: int) -> int:
        """Return the epoch after which a trial was judged: the first with a value, from the rung on."""
        return min((epoch for epoch in self.trials[number].intermediate_values if epoch >= rung), default=rung)

    def visible(self, own: Curve | None = None) -> list[Curve]:
        """Return the curves by number; `own` in the place of the one that the trial has here."""
        curves = self.curves | ({own.number: own} if own else {})
        return [curves[number] for number in sorted(curves)]

    def show_started(self, number: int) -> None:
        """Show the trials that were started before this one, and this one."""
        while self.unseen and self.slots[self.unseen[0]] <= self.slots.get(number, 0):
            shown = self.unseen.popleft()
            self.curves[shown] = self.rest(shown, None)

    def pass_decision(self, number: int) -> None:
        """Show a trial as it was after its next decision."""
        self.curves[number] = self.rest(number, self.later[number].popleft())

    def rest(self, number: int, last: StoredDecision | None) -> Curve:
        """Return a trial as others saw it after its last decision and before its next one."""
        following = self.later[number][0] if self.later[number] else None
        state: State = "running"
        if last and last.action in ("pause", "stop", "drop"):
            state = "paused" if last.action == "pause" else "ended"
        elif following is None and self.trials[number].state.is_finished():
            state = "ended"
        return cut_curve(self.whole[number], last_epoch(following), state)


def last_epoch(following: StoredDecision | None) -> int:
    """Return the last epoch that a trial had trained before its next decision, as far as it is known."""
    if following is None:
        return FOREVER
    return following.epoch if following.action in ("resume", "drop") else following.epoch - 1
