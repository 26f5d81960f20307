"""What the best trial of a study does not do yet: it finds next to nothing, or hardly some of the classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tuner.errors import format_names
from tuner.goal import Goal
from tuner.recipe import is_number
from tuner.study.trial_queries import TrialInfo
from tuner.tasks import BINARY_CLASSES, MINIMIZED_METRICS

MOST_NAMES = 12  # of classes in a sentence
MOST_STORED = 200
UNNAMED = "..."  # a further class, whose name was not stored
OBJECT = BINARY_CLASSES[1]
LITTLE = 0.01  # of a metric from 0 to 1: below, next to nothing is found


@dataclass(frozen=True)
class Verdict:
    """What a trial does not find in the validation images; `classes` is how many occur there, 0 if unknown."""

    never_found: tuple[str, ...] = ()
    classes: int = 0
    how_little: str = ""  # it finds, such as "next to nothing yet (iou 0.0006)"
    hardly_found: tuple[str, ...] = ()  # classes with their IoU, such as "sky (IoU 0.004)"

    @property
    def finds_nothing(self) -> bool:
        """Whether it finds nothing, or next to nothing."""
        return bool(self.how_little)

    @property
    def is_usable(self) -> bool:
        """Whether it finds something, and more than half of the classes."""
        missed = len(self.never_found) + len(self.hardly_found)
        return not self.finds_nothing and (not missed or 2 * missed < self.classes)

    @property
    def sentence(self) -> str:
        """What it does not find, or ""; without a full stop."""
        if self.finds_nothing:
            return f"it finds {self.how_little}"
        parts = []
        for names, how in ((self.never_found, "never"), (self.hardly_found, "hardly")):
            listed = format_names(names, MOST_NAMES)
            if len(names) == 1:
                parts.append(f"this class is {how} found: {listed}")
            elif names:
                parts.append(f"these classes are {how} found: {listed} ({len(names)} of {self.classes})")
        return "; ".join(parts)

    @property
    def remedy(self) -> str:
        """What to try, or ""; without a full stop."""
        if self.finds_nothing:
            return (
                "train for more epochs, with other learning rates and losses; check the data with tuner data DATA"
            )
        if self.sentence:
            return "train for more epochs, and try weights='frequency' in the loss or larger images"
        return ""

    def to_json(self) -> dict[str, Any]:
        return {
            "usable": self.is_usable,
            "finds_nothing": self.finds_nothing,
            "never_found": list(self.never_found),
            "hardly_found": list(self.hardly_found),
            "says": self.sentence,
            "remedy": self.remedy,
        }

    def headline(self, number: int) -> str:
        """Return whether to use the trial of this number, as a sentence or two."""
        if not self.is_usable:
            return f"Do not ship trial {number} yet: {self.sentence}."
        more = self.sentence[:1].upper() + self.sentence[1:]
        return f"Ship trial {number}.{f' {more}.' if more else ''}"


def judge_trial(goal: Goal, value: float | None, result: Mapping[str, Any]) -> Verdict:
    """Return the verdict on a trial by its value and its result, as far as that holds the missed classes."""
    missed = result.get("missed")
    missed = missed if isinstance(missed, Mapping) else {}
    low = missed.get("low")
    weak = {str(name): iou for name, iou in low.items() if is_number(iou)} if isinstance(low, Mapping) else {}
    names, hardly = map(str, missed.get("names", ())), (f"{name} (IoU {iou:.2g})" for name, iou in weak.items())
    number, unnamed, unnamed_low = (
        int(count) if is_number(count := missed.get(key)) else 0 for key in ("classes", "unnamed", "unnamed_low")
    )
    never_found, hardly_found = (*names, *[UNNAMED] * unnamed), (*hardly, *[UNNAMED] * unnamed_low)
    is_mask = number <= len(BINARY_CLASSES)
    little = ""
    if is_mask and never_found == (OBJECT,):
        little = "nothing yet"
    elif is_share(goal) and value is not None and value < LITTLE:
        little = f"{'next to ' if value else ''}nothing yet ({goal.metric} {value:.2g})"
    elif is_mask and not never_found and [*weak] == [OBJECT]:
        little = f"next to nothing yet (IoU {weak[OBJECT]:.2g})"
    return Verdict(never_found, number, little, hardly_found)


def judge_stored(goal: Goal, trial: TrialInfo) -> Verdict:
    """Return the verdict on a trial as it stands in the database."""
    return judge_trial(goal, trial.value, trial.attrs.get("result") or {})


def is_share(goal: Goal) -> bool:
    """Return whether a goal is a metric from 0 to 1 of all that is to be found, of which more is better.

    "iou:sky" is that of a class alone, and of a metric of the user's own it is not known.
    """
    return goal.direction == "maximize" and ":" not in goal.metric and goal.metric not in MINIMIZED_METRICS


def missed_classes(confusion: Sequence[Sequence[int]], classes: Sequence[str]) -> dict[str, Any]:
    """Return which of the classes that occur have no hit, from rows of truth and columns of prediction.

    "low" is the IoU of those that have hits, but next to none.
    """
    there = [sum(row) for row in confusion]
    found = [sum(column) for column in zip(*confusion, strict=True)]
    present = [at for at, number in enumerate(there) if number]
    iou = {at: confusion[at][at] / (there[at] + found[at] - confusion[at][at]) for at in present}
    names = [classes[at] for at in present if not iou[at]]
    low = {classes[at]: float(f"{iou[at]:.2g}") for at in present if 0 < iou[at] < LITTLE}
    unnamed = {"unnamed": len(names) - MOST_STORED, "unnamed_low": len(low) - MOST_STORED}
    return {
        "names": names[:MOST_STORED],
        "classes": len(present),
        **({"low": dict(list(low.items())[:MOST_STORED])} if low else {}),
        **{key: number for key, number in unnamed.items() if number > 0},
    }
