"""The rungs of a search: epochs after which trials are judged. The first may be a part of the first epoch."""

from __future__ import annotations

import re
from fractions import Fraction

from tuner.errors import describe_value
from tuner.registry.ranges import BETWEEN_0_AND_1, COUNT

FRACTION_TEXT = re.compile(r"([0-9]{1,9})/([1-9][0-9]{0,8})")
NUM_SHOWN = 5  # rungs
FirstRung = int | float


def first_rung_problem(value: object) -> str:
    """Return what is wrong with a first rung, or ""."""
    if value in COUNT or value in BETWEEN_0_AND_1:
        return ""
    needed = "a whole number of at least 1 (epochs), or a part of the first epoch, such as 1/3,"
    return f"first_rung is {describe_value(value)}; {needed} is needed."


def parse_first_rung(text: str) -> FirstRung | str:
    """Return the first rung that a text such as "2", "1/3" or "0.33" means; any other text as it is."""
    if found := FRACTION_TEXT.fullmatch(text):
        return int(found[1]) / int(found[2])
    try:
        return int(text) if text.isdecimal() and text.isascii() else float(text)
    except ValueError:
        return text


def format_rung(rung: FirstRung) -> str:
    """Return text such as "2", "1/3" or "0.37"."""
    near = Fraction(rung).limit_denominator(20)
    return str(near) if abs(near - Fraction(rung)) < Fraction(1, 10**6) else f"{rung:.3g}"


def format_rungs(first: FirstRung, factor: int) -> str:
    """Return the epochs after which trials are judged, such as "1/3, 1, 3, 9, 27"."""
    rungs: list[FirstRung] = [first]
    while len(rungs) < NUM_SHOWN:
        rungs.append(rungs[-1] * factor if rungs[-1] >= 1 else 1)
    return ", ".join(map(format_rung, rungs))
