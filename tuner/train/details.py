"""The numbers behind a trial's pictures: computed from counts, written to details.json, validated when read.

{"version": 1, "epoch": 7, "metric": "IoU", "classes": [...],
 "images": {"scores": [...], "shown": {"worst": [...], "median": [...], "best": [...], "random": [...]},
  "groups": {"names": [...], "likeness": [...]}},
 "confusion": [[...]], "iou": {class: x},
 "curves": {class: {"fpr", "tpr", "auc", "recall", "precision", "ap"}},
 "calibration": {"predicted", "observed", "share", "error"}, "left_out": {class: why},
 "instances": {"ap", "aps", "thresholds", "recall", "precision": {threshold: [...]}, "numbers": [[true, found]]}}
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tuner.errors import atomic_write
from tuner.paths import format_json
from tuner.recipe import is_number

VERSION = 1
OBJECT = "object"  # the class of a mask
MAX_LOG_ODDS = 16.0  # range of the bins; beyond it, a 32-bit probability is 0 or 1
MAX_POINTS, MAX_POINTS_IN_ALL = 128, 8192  # per curve, and of all curves together
CALIBRATION_BINS = 15  # of equal width
MAX_FILE_BYTES = 50_000_000
THRESHOLDS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))  # of IoU, as in COCO
Row = NDArray[np.float64]


@dataclass(frozen=True)
class Details:
    """The contents of details.json; all fields but the first two may be empty."""

    epoch: int
    classes: list[str]
    metric: str = ""
    images: dict[str, Any] = field(default_factory=dict)
    confusion: list[list[int]] = field(default_factory=list)
    iou: dict[str, float] = field(default_factory=dict)
    curves: dict[str, dict[str, Any]] = field(default_factory=dict)
    calibration: dict[str, Any] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    instances: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {"version": VERSION, **asdict(self)}

    @property
    def scores(self) -> list[float | None]:
        """The score of each validation image."""
        return list(self.images.get("scores", []))


def make_details(
    epoch: int,
    metric: str,
    classes: Sequence[str],
    scores: Sequence[float | None],
    confusion: Sequence[Sequence[int]],
    histogram: NDArray[np.int64],
    has_pixels: bool,
    groups: Mapping[str, Sequence[int]] | None = None,
) -> Details:
    """Return the details from the counts of the best epoch; `histogram` is that of `metrics.reduce_histogram`."""
    bins = np.asarray(histogram, np.float64)
    named = {OBJECT: bins[0]} if len(bins) == 1 else dict(zip(classes, bins[:-1], strict=True))
    left_out = {name: why for name, rows in named.items() if (why := curve_problem(rows))}
    drawn = {name: rows for name, rows in named.items() if name not in left_out}
    points = max(16, min(MAX_POINTS, MAX_POINTS_IN_ALL // max(len(drawn), 1)))
    return Details(
        epoch=epoch,
        classes=list(classes),
        metric=metric,
        images=score_images(scores, groups),
        confusion=[list(map(int, row)) for row in confusion],
        iou=class_ious(confusion, classes) if has_pixels else {},
        curves={name: make_curves(rows, points) for name, rows in drawn.items()},
        calibration=make_calibration(bins[-1]),
        left_out=left_out,
    )


def make_instance_details(
    epoch: int,
    metric: str,
    scores: Sequence[float | None],
    ranking: Mapping[str, Any],
    groups: Mapping[str, Sequence[int]] | None = None,
) -> Details:
    """Return the details from the ranking of the best epoch; instances have no confusion or calibration."""
    instances = round_numbers({**ranking, "thresholds": THRESHOLDS})
    return Details(epoch, [OBJECT], metric, score_images(scores, groups), instances=instances)


def score_images(
    scores: Sequence[float | None], groups: Mapping[str, Sequence[int]] | None = None
) -> dict[str, Any]:
    """Return the scores, which examples are shown, and the groups of images that belong together if known."""
    recorded = {} if groups is None else {"groups": {name: list(labels) for name, labels in groups.items()}}
    return {"scores": round_numbers(scores), "shown": choose_examples(scores), **recorded}


def curve_problem(rows: Row) -> str:
    """Return why a class has no curve, or ""."""
    wrong, right = rows.sum(1)
    if not right:
        return "absent from validation"
    return "" if wrong else "nothing else in validation"


def make_curves(rows: Row, points: int) -> dict[str, Any]:
    """Return ROC and precision-recall of a class, from the highest bin down; areas use all bins."""
    wrong, right = rows[:, ::-1]
    filled = wrong + right > 0
    misses, hits = np.cumsum(wrong[filled]), np.cumsum(right[filled])
    fpr, recall = misses / misses[-1], hits / hits[-1]
    precision = hits / (hits + misses)
    gained = np.diff(recall, prepend=0.0)
    across, up = np.concatenate([[0.0], fpr]), np.concatenate([[0.0], recall])
    height = np.concatenate([precision[:1], precision])
    roc, pr = thin_points(across, up, points), thin_points(up, height, points)
    curves = {
        "fpr": across[roc],
        "tpr": up[roc],
        "auc": np.trapezoid(up, across),
        "recall": up[pr],
        "precision": height[pr],
        "ap": (precision * gained).sum(),
    }
    return round_numbers(curves)


def thin_points(x: Row, y: Row, most: int) -> NDArray[np.int64]:
    """Return the indices of points to keep, spread evenly along the curve, with both ends."""
    if len(x) <= most:
        return np.arange(len(x))
    along = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(x)) + np.abs(np.diff(y)))])
    wanted = np.searchsorted(along, np.linspace(0, along[-1], most))
    return np.unique(np.concatenate([[0, len(x) - 1], np.minimum(wanted, len(x) - 1)]))


def make_calibration(rows: Row) -> dict[str, Any]:
    """Return how often predictions of a probability were right, in equal intervals that have any."""
    wrong, right = rows
    number = len(wrong)
    odds = (np.arange(number) + 0.5) * (2 * MAX_LOG_ODDS / number) - MAX_LOG_ODDS
    probability = 1 / (1 + np.exp(-odds))
    part = np.minimum((probability * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    every, true, sums = (
        np.bincount(part, weights, CALIBRATION_BINS)
        for weights in (wrong + right, right, (wrong + right) * probability)
    )
    there, whole = every > 0, max(every.sum(), 1.0)
    predicted, observed, share = sums[there] / every[there], true[there] / every[there], every[there] / whole
    error = (share * np.abs(predicted - observed)).sum()
    return round_numbers({"predicted": predicted, "observed": observed, "share": share, "error": error})


def class_ious(confusion: Sequence[Sequence[int]], classes: Sequence[str]) -> dict[str, float]:
    """Return the IoU over all pixels of each class that occurs in truth or prediction."""
    matrix = np.asarray(confusion, np.float64)
    right, union = matrix.diagonal(), matrix.sum(0) + matrix.sum(1) - matrix.diagonal()
    return round_numbers({name: right[at] / union[at] for at, name in enumerate(classes) if union[at]})


def round_numbers(found: Any) -> Any:
    """Return plain lists, dicts and numbers, with six decimals."""
    if isinstance(found, Mapping):
        return {name: round_numbers(one) for name, one in found.items()}
    if isinstance(found, list | tuple | np.ndarray):
        return [round_numbers(one) for one in found]
    return round(float(found), 6) if isinstance(found, float) else found


def write_details(details: Details, path: Path) -> None:
    with atomic_write(path) as beside:
        beside.write_text(format_json(details.to_json()) + "\n", encoding="utf-8")


def read_details(source: Path | bytes) -> Details | None:
    """Return the contents of the file; None if it is missing or damaged, with damaged fields empty."""
    try:
        if isinstance(source, Path):
            source = source.read_bytes() if source.stat().st_size <= MAX_FILE_BYTES else b""
        plain = json.loads(source)
        if not isinstance(plain, dict) or plain.get("version") != VERSION:
            return None
        epoch, classes = plain["epoch"], plain["classes"]
    except (OSError, ValueError, KeyError, RecursionError):
        return None
    has_names = isinstance(classes, list) and all(isinstance(name, str) for name in classes)
    if type(epoch) is not int or not has_names:
        return None
    get: Callable[[str], Any] = plain.get
    metric, confusion, calibration, instances = map(get, ("metric", "confusion", "calibration", "instances"))
    is_square = is_count_table(confusion, len(classes)) and len(confusion) == len(classes)
    is_calibrated = has_fields(calibration, ["error"], ["predicted", "observed", "share"])
    return Details(
        epoch=epoch,
        classes=classes,
        metric=metric if isinstance(metric, str) else "",
        images=read_images(get("images")),
        confusion=confusion if is_square else [],
        iou={name: x for name, x in items_of(get("iou")) if is_number(x)},
        curves={
            name: curve
            for name, curve in items_of(get("curves"))
            if has_fields(curve, ["auc", "ap"], ["fpr", "tpr"], ["recall", "precision"])
        },
        calibration=calibration if is_calibrated else {},
        left_out={name: why for name, why in items_of(get("left_out")) if isinstance(why, str)},
        instances=instances if is_ranking(instances) else {},
    )


def read_images(found: Any) -> dict[str, Any]:
    scores: Any = found.get("scores") if isinstance(found, dict) else None
    good = isinstance(scores, list) and all(one is None or is_number(one) for one in scores)
    return score_images(scores, read_groups(found.get("groups"), len(scores))) if good else {}


def read_groups(found: Any, number: int) -> dict[str, list[int]] | None:
    """Return the groups with a number of at least 0 for each image; None if none were recorded."""
    if not isinstance(found, dict):
        return None
    return {name: labels for name, labels in found.items() if is_count_table([labels], number)}


def is_ranking(found: Any) -> bool:
    """Return whether all fields of the instances are valid."""
    if not has_fields(found, ["ap"], ["thresholds", "aps"]) or not is_count_table(found.get("numbers"), 2):
        return False
    recall = found.get("recall")
    lines = [{"recall": recall, "precision": line} for _, line in items_of(found.get("precision"))]
    return all(has_fields(line, [], ["recall", "precision"]) for line in lines)


def is_count_table(found: Any, columns: int) -> bool:
    """Return whether this is a list of rows of so many whole numbers of at least 0."""
    rows: list[Any] = found if isinstance(found, list) else [None]
    if not all(isinstance(row, list) and len(row) == columns for row in rows):
        return False
    return all(type(one) is int and one >= 0 for row in rows for one in row)


def has_fields(found: Any, numbers: Sequence[str], *groups: Sequence[str]) -> bool:
    """Return whether this has these numbers, and lists of numbers that are equally long within each group."""
    if not isinstance(found, dict) or not all(is_number(found.get(name)) for name in numbers):
        return False
    for group in groups:
        columns: list[Any] = [found.get(name) for name in group]
        if not all(isinstance(column, list) and all(map(is_number, column)) for column in columns):
            return False
        if len(set(map(len, columns))) > 1:
            return False
    return True


def items_of(found: Any) -> list[tuple[str, Any]]:
    return list(found.items()) if isinstance(found, dict) else []


EXAMPLES_PER_KIND = 3  # images per kind
NUM_RANDOM = 5  # random images
MAX_FRAMES = 24  # epochs shown in a strip


def choose_examples(scores: Sequence[float | None]) -> dict[str, list[int]]:
    """Return the positions of a few of the worst, median and best scores, all different; None is not a score.

    If there are others, also those of random images. They depend only on which images have a score: all trials of
    a study show the same ones.
    """
    ranked = [at for _, at in sorted((score, at) for at, score in enumerate(scores) if score is not None)]
    number = min(len(ranked), 3 * EXAMPLES_PER_KIND)
    worst, best = (number + 2) // 3, (number + 1) // 3
    median = number - worst - best
    middle = ranked[worst : len(ranked) - best]
    begin = (len(middle) - median) // 2
    known = sorted(ranked) if len(ranked) > number else []
    sample = [known[at] for at in choose_sample(len(known), NUM_RANDOM)]
    return {
        "worst": ranked[:worst],
        "median": middle[begin : begin + median],
        "best": ranked[len(ranked) - best :][::-1],
        **({"random": sample} if sample else {}),
    }


def choose_sample(count: int, number: int, seed: int = 0) -> list[int]:
    """Return `number` different random positions below `count`, in order; all of them if there are fewer.

    Those of a smaller number are among those of a larger one.
    """
    chosen = np.random.default_rng(seed).permutation(count)[:number]
    return sorted(map(int, chosen))


def unique_positions(chosen: Mapping[str, Sequence[int]]) -> list[int]:
    """Return the positions of all kinds, each once."""
    return list(dict.fromkeys(at for some in chosen.values() for at in some))


def choose_epochs(known: Sequence[int], best: int, most: int = MAX_FRAMES) -> list[int]:
    """Return at most so many of these epochs, evenly spread, with the first, the best and the last."""
    known = sorted(known)
    if len(known) <= most:
        return known
    chosen = [known[round(at * (len(known) - 1) / (most - 1))] for at in range(most)]
    if best in known and best not in chosen:
        nearest = min(range(1, most - 1), key=lambda at: abs(chosen[at] - best))
        chosen[nearest] = best
    return sorted(chosen)
