"""Short forms of long names, such as module:function, for places with little room."""

from __future__ import annotations

from collections.abc import Sequence

ELLIPSIS = "…"
LONGEST_LABEL = 16  # characters of a category beside an axis
MOST_EXPLAINED = 6  # short forms that a note explains


def shorten_middle(text: str, longest: int) -> str:
    """Return the text; of a longer one the beginning and the end, which tell names of modules apart."""
    if len(text) <= longest:
        return text
    head = longest // 2
    return f"{text[:head]}{ELLIPSIS}{text[len(text) - (longest - 1 - head) :]}"


def shorten_names(names: Sequence[str], longest: int = LONGEST_LABEL) -> dict[str, str]:
    """Return a short form of each name, by name: different names have different ones.

    Names with the same beginning and end are shown from where they begin to differ.
    """
    unique = list(dict.fromkeys(names))
    short = {name: shorten_middle(name, longest) for name in unique}
    for alike in group_by_short(short):
        start = max(0, common_prefix(alike) - 2)
        short |= {name: ELLIPSIS + shorten_middle(name[start:], longest - 1) for name in alike}
    for alike in group_by_short(short):
        short |= {name: f"{short[name][: longest - 4]}{ELLIPSIS}#{at}" for at, name in enumerate(alike, start=1)}
    return short


def group_by_short(short: dict[str, str]) -> list[list[str]]:
    """Return the groups of different names with the same short form."""
    groups: dict[str, list[str]] = {}
    for name, form in short.items():
        groups.setdefault(form, []).append(name)
    return [group for group in groups.values() if len(group) > 1]


def common_prefix(names: Sequence[str]) -> int:
    """Return how many characters at the beginning are the same in all names."""
    first, last = min(names), max(names)
    return next((at for at, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))


def explain_short(short: dict[str, str]) -> str:
    """Return what the short forms stand for, "" if no name was shortened."""
    told = [f"{form} is {name}" for name, form in short.items() if form != name]
    more = f"; {len(told) - MOST_EXPLAINED} more are short" if len(told) > MOST_EXPLAINED else ""
    return "; ".join(told[:MOST_EXPLAINED]) + more


def spaced_labels(number: int, most: int) -> set[int]:
    """Return the indices of at most `most` evenly spaced labels, which do not overprint each other."""
    step = -(-number // most)
    return set(range(0, number, step))
