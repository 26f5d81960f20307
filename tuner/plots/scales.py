"""The range of a metric, and whether its values are drawn on a logarithmic axis."""

from __future__ import annotations

import math
from collections.abc import Iterable

from tuner.tasks import is_share

LOG_FACTOR = 100.0  # values that span more than two decades would lie on one line of a linear axis


def metric_limits(metric: str, values: Iterable[float]) -> tuple[float, float]:
    """Return the smallest and largest value that a metric can have, as far as that is known.

    Shares, such as an IoU, lie between 0 and 1. A metric that was never below 0, such as a loss, stays above it.
    """
    if is_share(metric):
        return 0.0, 1.0
    return (0.0 if min(values, default=0.0) >= 0 else -math.inf), math.inf


def needs_log(metric: str, values: Iterable[float | None]) -> bool:
    """Return whether all values are positive and span more than two decades; shares are always drawn linearly."""
    known = [value for value in values if value is not None]
    return bool(known) and not is_share(metric) and min(known) > 0 and max(known) > LOG_FACTOR * min(known)
