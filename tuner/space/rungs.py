"""The rungs of a search: when trials are judged. By epochs, of which the first may be a part, or by seconds."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from itertools import islice

from tuner.errors import describe_value
from tuner.registry.ranges import BETWEEN_0_AND_1, COUNT
from tuner.wording import format_seconds

FRACTION_TEXT = re.compile(r"([0-9]{1,9})/([1-9][0-9]{0,8})")
TIME_TEXT = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)(s|m|h)")
UNITS = {"s": 1, "m": 60, "h": 3600}
NUM_SHOWN = 5  # rungs
FirstRung = float | str  # epochs, a part of the first one, or a time such as "60s"


def first_rung_problem(value: object) -> str:
    """Return what is wrong with a first rung, or ""."""
    if value in COUNT or value in BETWEEN_0_AND_1 or read_seconds(value):
        return ""
    needed = (
        "a whole number of at least 1 (epochs), a part of the first epoch, such as 1/3, or a time, such as '60s'"
    )
    return f"first_rung is {describe_value(value)}; {needed} or '5m', is needed."


def read_seconds(value: object) -> float:
    """Return the seconds of a time such as "60s", "5m" or "1h"; 0 if the value is none."""
    found = TIME_TEXT.fullmatch(value) if isinstance(value, str) else None
    return float(found[1]) * UNITS[found[2]] if found else 0.0


def in_seconds(value: FirstRung) -> FirstRung:
    """Return a time in seconds, such as "300s" for "5m"; anything else as it is."""
    seconds = read_seconds(value)
    return f"{round(seconds, 3):.3f}".rstrip("0").rstrip(".") + "s" if seconds else value


def parse_first_rung(text: str) -> FirstRung:
    """Return the first rung that a text such as "2", "1/3", "0.33" or "60s" means; any other text as it is."""
    if found := FRACTION_TEXT.fullmatch(text):
        return int(found[1]) / int(found[2])
    try:
        return int(text) if text.isdecimal() and text.isascii() else float(text)
    except ValueError:
        return text


def format_rung(rung: FirstRung) -> str:
    """Return text such as "2", "1/3", "0.37", "60 s" or "27 min"."""
    if isinstance(rung, str):
        return format_seconds(read_seconds(rung))
    near = Fraction(rung).limit_denominator(20)
    return str(near) if abs(near - Fraction(rung)) < Fraction(1, 10**6) else f"{rung:.3g}"


def format_rungs(first: FirstRung, factor: int) -> str:
    """Return when trials are judged, such as "after 1/3, 1, 3, 9, 27, ... epochs"."""
    if seconds := read_seconds(first):
        times = [format_seconds(seconds * factor**step) for step in range(NUM_SHOWN)]
        return f"after {', '.join(times)}, ... of training"
    rungs = islice(rungs_in_epochs(float(first), factor), NUM_SHOWN)
    return f"after {', '.join(map(format_rung, rungs))}, ... epochs"


def rungs_in_epochs(first: float, factor: int) -> Iterator[float]:
    """Yield the epochs after which trials are judged, without end; after a part of the first epoch comes 1."""
    while True:
        yield first
        first = first * factor if first >= 1 else 1.0
