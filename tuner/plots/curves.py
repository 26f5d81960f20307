"""Charts of a trial's metrics over its epochs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from tuner.plots.charts import Chart, Series
from tuner.plots.colours import BLUE, GREY
from tuner.plots.scales import needs_log

COLOURS = {"train": GREY, "val": BLUE}
SPLIT_NAMES = {"train": "training", "val": "validation"}


def metric_charts(
    rows: Sequence[dict[str, Any]], goal: str, best_epoch: int, stages: Sequence[int] = ()
) -> list[Chart]:
    """Return a chart of training and validation for each metric, the goal and the loss first.

    `rows` are the recorded epochs, `stages` the number of epochs of each stage. The best epoch and the beginning
    of each stage are marked. Metrics with equal values in every epoch share a chart.
    """
    last = max((int(row["epoch"]) for row in rows), default=0)
    borders = [(end + 0.5, f"stage {at}") for at, end in enumerate(accumulate(stages), start=2) if end < last]
    marks = [*([(float(best_epoch), "best")] if best_epoch else []), *borders]
    drawn: dict[str, tuple[list[str], list[Series]]] = {}
    for name in metric_names(rows, goal):
        series = metric_series(rows, name)
        if not series:
            continue
        values = repr([(one.name, one.x, one.y) for one in series])
        drawn.setdefault(values, ([], series))[0].append(name)
    return [metric_chart(names, series, marks) for names, series in drawn.values()]


def metric_chart(names: Sequence[str], series: Sequence[Series], marks: Sequence[tuple[float, str]]) -> Chart:
    is_log = needs_log(names[0], [value for one in series for value in one.y])
    return Chart(" = ".join(names), "epoch", series=series, marks=marks, log_y=is_log)


def metric_names(rows: Sequence[dict[str, Any]], goal: str) -> list[str]:
    """Return the names of all metrics except those of single classes, the goal and the loss first."""
    keys = dict.fromkeys(key for row in rows for key in row)
    names = (key.partition("_")[2] for key in keys if key.startswith(("train_", "val_")) and ":" not in key)
    known = dict.fromkeys(names)
    return [name for name in dict.fromkeys((goal, "loss", *known)) if name in known]


def metric_series(rows: Sequence[dict[str, Any]], name: str) -> list[Series]:
    """Return the training and validation series of a metric, as far as they are recorded."""
    series = []
    for split, colour in COLOURS.items():
        points = [(row["epoch"], row[key]) for row in rows if row.get(key := f"{split}_{name}") is not None]
        if points:
            epochs, values = zip(*points, strict=True)
            series.append(Series(SPLIT_NAMES[split], epochs, values, colour=colour))
    return series
