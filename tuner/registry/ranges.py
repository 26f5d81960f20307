"""Check the numbers and names that a part is given."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from math import inf, isfinite

from tuner.errors import PartError, did_you_mean
from tuner.recipe import is_number, is_whole_number


@dataclass(frozen=True)
class Range:
    """The finite numbers that an argument may have, or with `whole` the whole ones; its text is for messages."""

    least: float = -inf
    above: float = -inf
    most: float = inf
    below: float = inf
    whole: bool = False

    def __contains__(self, value: object) -> bool:
        if not is_number(value) or (self.whole and not is_whole_number(value)):
            return False
        return self.least <= value <= self.most and self.above < value < self.below

    def __str__(self) -> str:
        words = {"of at least": self.least, "above": self.above, "at most": self.most, "below": self.below}
        limits = " and ".join(f"{word} {limit:g}" for word, limit in words.items() if isfinite(limit))
        return f"a {'whole ' * self.whole}number {limits}"


NOT_NEGATIVE, POSITIVE, SHARE = Range(least=0), Range(above=0), Range(least=0, most=1)
FRACTION, BETWEEN_0_AND_1 = Range(least=0, below=1), Range(above=0, below=1)
COUNT = Range(least=1, whole=True)


def check_range(owner: str, allowed: Range, **values: object) -> None:
    """Raise PartError for the first argument of `owner`, such as "model 'unet'", whose value is not allowed."""
    for name, value in values.items():
        if value not in allowed:
            raise PartError(f"{name} of {owner} is {value!r}; {allowed} is needed.")


def check_choice(what: str, value: object, known: Collection[str]) -> None:
    """Raise PartError with the known values and a similar one unless a value is among them."""
    if value not in known:
        raise PartError(unknown_choice(what, value, known))


def unknown_choice(what: str, value: object, known: Collection[str]) -> str:
    return f"{what} is {value!r}.{did_you_mean(str(value), known)} Known: {', '.join(known)}."
