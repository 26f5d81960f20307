"""What the best trial of a study does not do yet: it finds nothing, or never finds some of the classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tuner.errors import format_names
from tuner.goal import Goal
from tuner.recipe import is_number
from tuner.tasks import BINARY_CLASSES

MOST_NAMES = 12  # of classes in a sentence
MOST_STORED = 200
OBJECT = BINARY_CLASSES[1]


@dataclass(frozen=True)
class Verdict:
    """What a trial does not find in the validation images; `classes` is how many occur there, 0 if unknown."""

    finds_nothing: bool = False
    never_found: tuple[str, ...] = ()
    classes: int = 0

    @property
    def is_usable(self) -> bool:
        """Whether it finds something, and more than half of the classes."""
        return not self.finds_nothing and (not self.never_found or 2 * len(self.never_found) < self.classes)

    @property
    def sentence(self) -> str:
        """What it does not find, or ""; without a full stop."""
        if self.finds_nothing:
            return "it finds nothing yet"
        if not self.never_found:
            return ""
        names = format_names(self.never_found, MOST_NAMES)
        if len(self.never_found) == 1:
            return f"this class is never found: {names}"
        return f"these classes are never found: {names} ({len(self.never_found)} of {self.classes})"

    @property
    def remedy(self) -> str:
        """What to try, or ""; without a full stop."""
        if self.finds_nothing:
            return "train for more epochs, with other learning rates and losses; check the data with tuner data"
        if self.never_found:
            return "train for more epochs, and try weights='frequency' in the loss or larger images"
        return ""

    def headline(self, number: int) -> str:
        """Return whether to use the trial of this number, as a sentence or two."""
        if not self.is_usable:
            return f"Do not ship trial {number} yet: {self.sentence}."
        more = self.sentence[:1].upper() + self.sentence[1:]
        return f"Ship trial {number}.{f' {more}.' if more else ''}"


def judge_trial(goal: Goal, value: float | None, result: Mapping[str, Any]) -> Verdict:
    """Return the verdict on a trial by its value and its result, as far as that holds the missed classes."""
    missed = result.get("missed")
    names = tuple(map(str, missed.get("names", ()))) if isinstance(missed, Mapping) else ()
    known = missed.get("classes") if isinstance(missed, Mapping) else None
    number = int(known) if is_number(known) else 0
    is_zero = goal.direction == "maximize" and ":" not in goal.metric and value == 0
    only_mask = number <= len(BINARY_CLASSES) and names == (OBJECT,)
    return Verdict(is_zero or only_mask, names, number)


def missed_classes(confusion: Sequence[Sequence[int]], classes: Sequence[str]) -> dict[str, Any]:
    """Return which of the classes that occur have no hit, from rows of truth and columns of prediction."""
    present = [at for at, row in enumerate(confusion) if sum(row)]
    names = [classes[at] for at in present if not confusion[at][at]]
    return {"names": names[:MOST_STORED], "classes": len(present)}
