"""Curves of a trial's metrics over its epochs, as a PNG.

Drawn with matplotlib: plotly writes a PNG only by way of a browser, which a worker need not have.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

COLOURS = {"train": "#8a94a6", "val": "#2563eb"}


def draw_curves(rows: Sequence[dict[str, Any]], path: Path, goal: str, best_epoch: int) -> None:
    """One panel for the loss and one for the goal, training against validation, the best epoch marked."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    names = ["loss", goal] if goal != "loss" else ["loss"]
    figure = Figure(figsize=(4.2 * len(names), 3), dpi=110)
    figure.subplots_adjust(left=0.16 / len(names), right=0.98, bottom=0.16, top=0.9, wspace=0.22)
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        for split, colour in COLOURS.items():
            points = [(row["epoch"], row[f"{split}_{name}"]) for row in rows if f"{split}_{name}" in row]
            axes.plot(*zip(*points, strict=True), color=colour, label=split, marker="o", markersize=2.5)
        axes.axvline(best_epoch, color="#16a34a", linewidth=0.8, linestyle="--")
        axes.set_title(name, fontsize=10)
        axes.set_xlabel("epoch", fontsize=8)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.25)
        axes.legend(fontsize=8, frameon=False)
    FigureCanvasAgg(figure).print_png(path)
