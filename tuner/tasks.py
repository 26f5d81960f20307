"""The table of tasks: what a target is, how many outputs a model has, how it is scored.

Free of torch, so that a goal can be checked without loading it.
"""

from __future__ import annotations

from dataclasses import dataclass

from tuner.errors import PartError, near


@dataclass(frozen=True)
class Task:
    """`targets` is what a dataset must hold; `metrics` are the names a goal may take.

    `counts` and `scores` name the two halves of scoring in "module:function" form: counts on the
    device for each batch, scores once from their sum.
    """

    name: str
    targets: str
    outputs: int
    metrics: tuple[str, ...]
    counts: str
    scores: str


TASKS = {
    "binary": Task(
        name="binary",
        targets="masks",
        outputs=1,
        metrics=("loss", "iou", "accuracy", "precision", "recall", "f1"),
        counts="tuner.metrics:binary_counts",
        scores="tuner.metrics:binary_scores",
    ),
}


def find_task(name: str) -> Task:
    """The task of that name, or a PartError with the near name."""
    if name not in TASKS:
        raise PartError(f"no task '{name}'.{near(name, TASKS)} Known: {', '.join(sorted(TASKS))}.")
    return TASKS[name]
