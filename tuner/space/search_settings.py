"""How a study chooses and prunes its trials: `SEARCH = search(...)` of a space, stored in the study."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from tuner.errors import StudyError, did_you_mean
from tuner.registry import COUNT, Range, unknown_choice

SAMPLERS = {  # name -> what makes the sampler
    "tpe": "tuner.search.sampling:SubsetTPESampler",
}
PRUNINGS = {
    "stop": "a trial that is not among the best of its rung ends",
    "promote": "it pauses, and is resumed when it is among the best",
    "none": "every trial is trained to its end",
}
FACTOR = Range(least=2, whole=True)


@dataclass(frozen=True)
class SearchSettings:
    """The sampler, and when trials are judged: after `first_rung` epochs, `factor` times as many, and so on.

    ValueError lists all that is wrong.
    """

    sampler: str = "tpe"  # a name in SAMPLERS
    pruning: str = "stop"  # one of PRUNINGS
    first_rung: int = 1
    factor: int = 3  # at each rung, the best of so many go on

    def __post_init__(self) -> None:
        if wrong := list(self.problems()):
            raise ValueError("; ".join(wrong))

    def problems(self) -> Iterator[str]:
        """Yield what is wrong with the settings."""
        sampler = self.sampler
        if not isinstance(sampler, str) or sampler not in SAMPLERS:
            hint = did_you_mean(str(sampler), SAMPLERS)
            yield f"sampler is {sampler!r}.{hint} Known: {', '.join(SAMPLERS)}."
        if not isinstance(self.pruning, str) or self.pruning not in PRUNINGS:
            yield unknown_choice("pruning", self.pruning, PRUNINGS)
        for name, allowed in (("first_rung", COUNT), ("factor", FACTOR)):
            if (value := getattr(self, name)) not in allowed:
                yield f"{name} is {value!r}; {allowed} is needed."

    def with_options(self, options: Mapping[str, Any]) -> SearchSettings:
        """Return the settings with those of the command line that are not None; StudyError if one is wrong."""
        given = {name: value for name, value in options.items() if value is not None}
        try:
            return SearchSettings(**asdict(self) | given)
        except ValueError as error:
            raise StudyError(f"these settings of the search cannot be used: {error}") from None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(stored: Mapping[str, Any]) -> SearchSettings:
        """Read what `to_json` returned."""
        return SearchSettings(**stored)

    def __str__(self) -> str:
        rungs = "" if self.pruning == "none" else f", first rung {self.first_rung}, factor {self.factor}"
        return f"{self.sampler}, pruning {self.pruning}{rungs}"


OPTIONS = tuple(each.name for each in fields(SearchSettings))  # that `tuner run` has too


def search(*, sampler: str = "tpe", pruning: str = "stop", first_rung: int = 1, factor: int = 3) -> SearchSettings:
    """Return how a space is searched, for `SEARCH = search(...)`; options of `tuner run` override it.

    sampler: what chooses new trials: "tpe".
    pruning: what happens to a trial that is not among the best at a rung: "stop" ends it, "promote" pauses it,
        "none" trains every trial to its end.
    first_rung: the epochs after which a trial is judged first.
    factor: a trial is judged again after so many times as many epochs, and the best of so many go on.

    ValueError lists all that is wrong.
    """
    return SearchSettings(sampler, pruning, first_rung, factor)
