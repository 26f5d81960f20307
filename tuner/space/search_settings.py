"""How a study chooses and prunes its trials: `SEARCH = search(...)` of a space, and what of it a study stores."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from tuner.errors import StudyError, describe_value, did_you_mean
from tuner.recipe import is_number
from tuner.registry import Range, unknown_choice
from tuner.space.rungs import (
    FirstRung,
    first_rung_problem,
    format_rung,
    format_rungs,
    in_seconds,
    read_seconds,
)

SAMPLERS = {  # name -> what makes the sampler
    "tpe": "tuner.search.samplers:tpe",
    "early": "tuner.search.samplers:early",
    "gp": "tuner.search.samplers:gp",
    "cmaes": "tuner.search.samplers:cmaes",
    "nsga2": "tuner.search.samplers:nsga2",
    "qmc": "tuner.search.samplers:qmc",
    "random": "tuner.search.samplers:random",
    "grid": "tuner.search.samplers:grid",
}
PRUNINGS = {
    "stop": "a trial that is not among the best of its rung ends",
    "promote": "it pauses, and is resumed when it is among the best",
    "thaw": "it pauses, and is resumed when a model of the curves expects most of it",
    "none": "every trial is trained to its end",
}
PAUSING = ("promote", "thaw")  # of these, those that resume trials
MOST_VALUES = 10_000  # of a parameter of a grid
FACTOR = Range(least=2, whole=True)


@dataclass(frozen=True)
class SearchSettings:
    """The sampler, and when trials are judged: after `first_rung` epochs, `factor` times as many, and so on.

    The defaults are those of studies that were created before a study stored its settings; new ones have those of
    `SearchChoice.settle`. ValueError lists all that is wrong.
    """

    sampler: str = "tpe"  # a name in SAMPLERS, or the user's own "module:function"
    pruning: str = "stop"  # one of PRUNINGS
    first_rung: FirstRung = 1  # epochs, a part of the first one, or a time, stored in seconds: "60s"
    factor: int = 3  # at each rung, the best of so many go on
    grid: Mapping[str, list[Any]] = field(default_factory=dict)  # values; once stored, those of every parameter
    warm_from: Sequence[str] = ()  # studies to learn from
    prior: Mapping[str, Sequence[Any]] = field(default_factory=dict)  # of parameters, a value and the trust in it

    def __post_init__(self) -> None:
        if wrong := list(self.problems()):
            raise ValueError("; ".join(wrong))
        object.__setattr__(self, "first_rung", in_seconds(self.first_rung))

    def problems(self) -> Iterator[str]:
        """Yield what is wrong with the settings."""
        sampler = self.sampler
        if not isinstance(sampler, str) or (sampler not in SAMPLERS and ":" not in sampler):
            given, hint = describe_value(sampler), did_you_mean(str(sampler), SAMPLERS)
            yield f"sampler is {given}.{hint} Known: {', '.join(SAMPLERS)}, or your own 'module:function'."
        if not isinstance(self.pruning, str) or self.pruning not in PRUNINGS:
            yield unknown_choice("pruning", self.pruning, PRUNINGS)
        if problem := first_rung_problem(self.first_rung):
            yield problem
        elif self.pruning == "thaw" and not is_number(self.first_rung):
            need = "needs a first_rung in epochs, or a part of the first one"
            yield f"pruning='thaw' {need}; it is {self.first_rung!r}. 'promote' and 'stop' take a time."
        if self.factor not in FACTOR:
            yield f"factor is {describe_value(self.factor)}; {FACTOR} is needed."
        lists = isinstance(self.grid, dict) and all(isinstance(v, list | tuple) and v for v in self.grid.values())
        if not lists:
            given = describe_value(self.grid)
            yield f'grid is {given}; values for parameters are needed, such as {{"lr": [1e-3, 1e-2]}}.'
        elif many := [
            f"{name}: {len(values):,}" for name, values in self.grid.items() if len(values) > MOST_VALUES
        ]:
            yield f"grid has too many values ({', '.join(many)}); at most {MOST_VALUES:,} are possible."
        elif self.grid and sampler != "grid":
            yield f"grid belongs to sampler='grid'; the sampler is {sampler!r}."
        yield from self.experience_problems()

    def experience_problems(self) -> Iterator[str]:
        """Yield what is wrong with what the search is told before its first trial."""
        names, prior = self.warm_from, self.prior
        if not isinstance(names, list | tuple) or not all(isinstance(name, str) and name for name in names):
            yield f'warm_from is {describe_value(names)}; names of studies are needed, such as ["horses"].'
        if not isinstance(prior, dict) or not all(map(is_prior, prior.values())):
            need = 'a value and the trust in it, above 0 and below 1, are needed: {"lr": (1e-3, 0.7)}'
            yield f"prior is {describe_value(prior)}; {need}."
        if self.sampler == "grid" and (names or prior):
            yield "a grid has every point in any case: leave warm_from and prior out."

    @property
    def experience(self) -> str:
        """What the search is told before its first trial, such as 'learns from horses, prior of lr'."""
        learns = [f"learns from {', '.join(self.warm_from)}"] if self.warm_from else []
        return ", ".join([*learns, *([f"prior of {', '.join(self.prior)}"] if self.prior else [])])

    @property
    def part(self) -> float:
        """The part of the first epoch after which trials are judged first; 0 if that is after whole epochs."""
        first = self.first_rung
        return first if not isinstance(first, str) and first < 1 else 0.0

    @property
    def seconds(self) -> float:
        """The seconds of training after which trials are judged first; 0 if that is after epochs."""
        return read_seconds(self.first_rung)

    @property
    def first_count(self) -> int:
        """The first rung as schedulers count: epochs, or milliseconds. With a part of the first epoch, 1."""
        if self.seconds:
            return round(1000 * self.seconds)
        return 1 if self.part else int(self.first_rung)

    @property
    def rungs_text(self) -> str:
        """When trials are judged, such as "after 1, 3, 9, 27, 81, ... epochs"."""
        return format_rungs(self.first_rung, self.factor)

    @property
    def num_points(self) -> int:
        """The points of the grid, each of which is one trial; 0 without a grid."""
        return math.prod(map(len, self.grid.values())) if self.grid else 0

    def to_json(self) -> dict[str, Any]:
        """Return what is stored, without what earlier versions do not know unless it is used."""
        new = ("warm_from", "prior")
        return {name: value for name, value in asdict(self).items() if value or name not in new}

    @staticmethod
    def from_json(stored: Mapping[str, Any]) -> SearchSettings:
        """Read what `to_json` returned."""
        return SearchSettings(**stored)

    def __str__(self) -> str:
        first = format_rung(self.first_rung)
        rungs = "" if self.pruning == "none" else f", first rung {first}, factor {self.factor}"
        points = f" of {self.num_points} points" if self.grid else ""
        parts = [f"{self.sampler}{points}", f"pruning {self.pruning}{rungs}", self.experience]
        return ", ".join(filter(None, parts))


def is_prior(given: Any) -> bool:
    """Return whether something is a pair of a value and the trust in it."""
    is_pair = isinstance(given, list | tuple) and len(given) == 2
    return is_pair and is_number(given[1]) and 0 < given[1] < 1


@dataclass(frozen=True)
class SearchChoice:
    """The settings that a space or the command line names; the others follow from the study.

    ValueError lists all that is wrong.
    """

    chosen: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.settle()

    def with_options(self, options: Mapping[str, Any]) -> SearchChoice:
        """Return the choice with those of the command line that are not None; StudyError if one is wrong."""
        given = {name: value for name, value in options.items() if value is not None}
        others = without_sampler(given.get("sampler"))
        kept = {name: value for name, value in self.chosen.items() if name not in others}
        try:
            return SearchChoice(kept | given)
        except ValueError as error:
            raise StudyError(f"these settings of the search cannot be used: {error}") from None

    def settle(self, has_several_goals: bool = False) -> SearchSettings:
        """Return the settings of a new study: what wins on measured curves, unless chosen otherwise.

        `promote` and `early` compare trials by the first goal alone, so that a front is searched by others.
        """
        pruning = self.chosen.get("pruning", "stop" if has_several_goals else "promote")
        sampler = "early" if pruning in PAUSING and not has_several_goals else "tpe"
        return SearchSettings(**{"sampler": sampler, "pruning": pruning, **self.chosen})

    def join(self, stored: SearchSettings) -> SearchSettings:
        """Return the settings with which a stored study is continued: its own, but for those that were chosen."""
        return replace(stored, **without_sampler(self.chosen.get("sampler")), **self.chosen)


def without_sampler(sampler: str | None) -> dict[str, Any]:
    """Return the settings that a newly chosen sampler does not take, as they are by default."""
    if sampler is None:
        return {}
    return {"warm_from": (), "prior": {}} if sampler == "grid" else {"grid": {}}


OPTIONS = ("sampler", "pruning", "first_rung", "factor", "warm_from", "prior")  # that `tuner run` has too


def search(
    *,
    sampler: str | None = None,
    pruning: str | None = None,
    first_rung: float | str | None = None,
    factor: int | None = None,
    grid: Mapping[str, list[Any]] | None = None,
    warm_from: Sequence[str] | None = None,
    prior: Mapping[str, tuple[Any, float]] | None = None,
) -> SearchChoice:
    """Return how a space is searched, for `SEARCH = search(...)`; options of `tuner run` override it.

    sampler: what chooses new trials: "tpe", "early", "gp", "cmaes", "nsga2", "qmc", "random", "grid", or
        your own "module:function". By default "early" where trials pause, otherwise "tpe".
    pruning: what happens to a trial that is not among the best at a rung: "stop" ends it, "promote" pauses it,
        "thaw" too, but a model chooses which goes on; "none" trains every trial to its end. By default "promote",
        and "stop" with several goals.
    first_rung: the epochs after which a trial is judged first, by default 1; below 1, such as 1/3, a part of the
        first epoch; or a time of training, such as "60s" or "5m".
    factor: a trial is judged again after so many times as much, and the best of so many go on; by default 3.
    grid: with sampler="grid", the values of parameters, such as {"lr": [1e-3, 1e-2]}. Others have all of theirs:
        numbers need a step.
    warm_from: earlier studies of the same database to learn from, such as ["horses"], with other data or another
        space: their best points are trained first, and their trials count as far as the new ones agree.
    prior: for parameters, a value that you believe in and your trust in it, above 0 and below 1, such as
        {"lr": (1e-3, 0.7)}: it is trained first, and what is near it counts as better as far as trials agree.

    A study that exists keeps what is left out. ValueError lists all that is wrong.
    """
    given: dict[str, Any] = {"sampler": sampler, "pruning": pruning, "first_rung": first_rung}
    given |= {"factor": factor, "grid": grid, "warm_from": warm_from, "prior": prior}
    return SearchChoice({name: value for name, value in given.items() if value is not None})
