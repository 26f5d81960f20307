"""Which validation images and which epochs are shown of a trial."""

from __future__ import annotations

from collections.abc import Sequence

KINDS = ("worst", "median", "best")
MOST_EACH = 3  # images of each kind
MOST_FRAMES = 24  # epochs in a strip


def examples(scores: Sequence[float | None]) -> dict[str, list[int]]:
    """The positions of a few of the worst, median and best scores, none of them twice; None is no score."""
    ranked = [at for _, at in sorted((score, at) for at, score in enumerate(scores) if score is not None)]
    number = min(len(ranked), MOST_EACH * len(KINDS))
    worst, best = (number + 2) // 3, (number + 1) // 3
    median = number - worst - best
    middle = ranked[worst : len(ranked) - best]
    begin = (len(middle) - median) // 2
    return {
        "worst": ranked[:worst],
        "median": middle[begin : begin + median],
        "best": ranked[len(ranked) - best :][::-1],
    }


def epochs(known: Sequence[int], best: int, most: int = MOST_FRAMES) -> list[int]:
    """At most so many of these epochs, spread evenly; the first, the best and the last always."""
    known = sorted(known)
    if len(known) <= most:
        return known
    chosen = [known[round(at * (len(known) - 1) / (most - 1))] for at in range(most)]
    if best in known and best not in chosen:
        nearest = min(range(1, most - 1), key=lambda at: abs(chosen[at] - best))
        chosen[nearest] = best
    return sorted(chosen)
