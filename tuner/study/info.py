"""What a study is of: stored when the study is created, compared when it is joined."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from tuner.goal import MEASURES, Goal
from tuner.space.search_settings import PAUSING, SearchSettings
from tuner.study.earlier import EarlierStudy


class StudyKind(StrEnum):
    """Where the trials of a study come from. The values are stored in the database."""

    SEARCH = "search"  # drawn by the sampler
    TABLE = "table"  # the rows of a published table
    EXTENSION = "extension"  # trials of an earlier study, trained for more epochs
    CONFIRMATION = "confirmation"  # the best trials of an earlier study, trained again with other seeds


@dataclass(frozen=True)
class StudyInfo:
    """A study as it was created."""

    name: str
    space: str
    goal: Goal
    data: str
    rehearsal: bool = False
    seed: int = 0
    parameters: dict[str, dict[str, Any]] = field(default_factory=dict)
    kind: StudyKind = StudyKind.SEARCH
    subject: str = ""  # the table, or the study that was extended or confirmed
    shrink: int = 1  # image size and widths are divided by this,
    shorten: int = 1  # epochs by this
    split: str = "stable"  # how datasets without a validation split are divided; new studies: "exact"
    layout: str = ""  # how the folder is read, where that was asked for
    each: str = ""  # a parameter whose choices take turns: each has as many trials as the others
    search: SearchSettings = SearchSettings()  # how its trials are chosen and pruned
    further: tuple[Goal, ...] = ()  # goals beside the first, for a front of trials
    limits: Mapping[str, float] = field(default_factory=dict)  # the most that a model may cost, by measure
    artifacts: str = ""  # where all hosts keep checkpoints and pictures; "" is the home
    key: str = ""  # drawn when the study is created: tells it from others of its name, in run folders
    id: int = 0  # in the database; 0 before the study is created
    earlier: tuple[EarlierStudy, ...] = ()  # studies that it learns from; stored beside it

    @property
    def has_given_trials(self) -> bool:
        """Whether the trials are given, not drawn; such trials are never pruned."""
        return self.kind is not StudyKind.SEARCH

    @property
    def is_pruned(self) -> bool:
        """Whether unpromising trials are stopped."""
        return self.search.pruning != "none" and not self.has_given_trials

    @property
    def pauses(self) -> bool:
        """Whether unpromising trials rest and may go on, instead of being stopped."""
        return self.is_pruned and self.search.pruning in PAUSING

    @property
    def part(self) -> float:
        """The part of the first epoch after which trials are scored; 0 if they are not."""
        return self.search.part if self.has_rungs else 0.0

    @property
    def counts_seconds(self) -> bool:
        """Whether decisions look at the seconds of training: rungs are times, or a model divides by them."""
        return self.has_rungs and (self.search.seconds > 0 or self.search.pruning == "thaw")

    @property
    def has_rungs(self) -> bool:
        """Whether trials are pruned, or chosen by their values after the first rung."""
        return self.is_pruned or (self.search.sampler == "early" and not self.has_given_trials)

    @property
    def measures(self) -> list[str]:
        """What is measured of each trial before it is trained."""
        goals = [goal.metric for goal in self.further if goal.metric in MEASURES]
        return list(dict.fromkeys([*self.limits, *goals]))

    @property
    def goals(self) -> tuple[Goal, ...]:
        """All goals. The best trial, pruning and curves follow the first one."""
        return (self.goal, *self.further)

    @property
    def goal_text(self) -> str:
        """The goals, such as 'maximize iou' or 'maximize iou, minimize params'."""
        return ", ".join(map(str, self.goals))

    @property
    def is_maximized(self) -> bool:
        return self.goal.direction == "maximize"

    @property
    def choices(self) -> list[Any]:
        """The choices of the parameter `each`, or none."""
        return list(self.parameters[self.each]["choices"]) if self.each else []

    def turn(self, number: int) -> Any:
        """Return the choice of `each` whose turn it is in a trial, by its number."""
        return self.choices[number % len(self.choices)]

    @property
    def table(self) -> str:
        """The name of the table whose rows are trained, or "" for other kinds of studies."""
        return self.subject if self.kind is StudyKind.TABLE else ""

    @property
    def source(self) -> str:
        """Where the trials come from: 'search', 'table NAME', 'extension of NAME' or 'confirmation of NAME'."""
        if self.kind in (StudyKind.EXTENSION, StudyKind.CONFIRMATION):
            return f"{self.kind} of {self.subject}"
        return f"{self.kind} {self.subject}".strip()

    @property
    def size(self) -> str:
        """'rehearsal', '1/8 of the size, 1/5 of the epochs', or "" for full size."""
        if self.rehearsal:
            return "rehearsal"
        parts = (("size", self.shrink), ("epochs", self.shorten))
        return ", ".join(f"1/{by} of the {what}" for what, by in parts if by > 1)

    def to_json(self) -> dict[str, Any]:
        """Return what is stored in the study; its name and id are columns of the database."""
        plain = {name: value for name, value in vars(self).items() if name not in ("name", "id", "earlier")}
        for name in ("limits", "further"):
            if not plain[name]:  # as earlier versions stored and read it
                del plain[name]
        if self.further:
            plain["further"] = [[goal.metric, goal.direction] for goal in self.further]
        return {**plain, "goal": [self.goal.metric, self.goal.direction], "search": self.search.to_json()}

    @staticmethod
    def from_json(id: int, name: str, stored: dict[str, Any]) -> StudyInfo:
        """Read what `to_json` returned, in this version or an earlier one."""
        further = tuple(Goal(*each) for each in stored.get("further", ()))
        plain = {**stored, "goal": Goal(*stored["goal"]), "further": further}
        word, _, subject = plain.pop("listed", "").partition(" ")  # 0.1 stored "", "table NAME" or "longer NAME"
        if word:
            plain |= {"kind": {"longer": "extension"}.get(word, word), "subject": subject}
        search = plain.get("search") or {"pruning": "stop" if plain.pop("pruning", True) else "none"}  # as 0.1 did
        plain["search"] = SearchSettings.from_json(search)
        return StudyInfo(**{**plain, "kind": StudyKind(plain.get("kind", "search")), "id": id, "name": name})
