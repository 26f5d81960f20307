"""A scheduler that tests set in place of a study's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tuner.search.scheduler import Curve, Scheduler
from tuner.study.decisions import Action, Decision


@dataclass
class Asked(Scheduler):
    """A scheduler that notes the values of each trial it judges, and gives its answer at one rung."""

    answer_at: int = 0
    answer: Action = "stop"
    judged_at: Sequence[int] = range(1, 100)
    seen: list[dict[int, float]] = field(default_factory=list)

    @property
    def epochs(self) -> list[int]:
        """The last epochs of what was judged."""
        return [max(values) for values in self.seen]

    def rungs(self, length: int) -> list[int]:
        return [rung for rung in self.judged_at if rung < length]

    def judge(self, curves: Sequence[Curve], number: int, rung: int) -> Decision:
        (own,) = (curve for curve in curves if curve.number == number)
        self.seen.append(dict(own.values))
        return Decision(self.answer if rung == self.answer_at else "continue", number, rung, {"rung": rung})

    def choose(self, curves: Sequence[Curve], can_start: bool) -> Decision | None:
        """Resume the first paused trial, else start one."""
        for curve in curves:
            if curve.state == "paused":
                return Decision("resume", curve.number, curve.epoch, {"why": "the first"})
        return Decision("start", None, 0, {"why": "none is paused"}) if can_start else None
