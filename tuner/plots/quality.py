"""How right a trial's model is, and where it errs: charts from its details, as plain data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from tuner.plots.charts import GREY, Chart, HeatMap, Series, empty_chart

MOST_CURVES = 8  # classes drawn as curves: half of them the worst, half the best
MOST_TEXTS = 20  # classes of a confusion matrix with numbers in its cells
MOST_BARS = 24
UNIT = (0.0, 1.02)


def quality_charts(details: Mapping[str, Any]) -> list[Chart]:
    """Every chart that there are numbers for, from the content of details.json."""
    found = [
        *confusion_charts(details.get("confusion") or [], details.get("classes") or []),
        *curve_charts(details.get("curves") or {}, details.get("left_out") or {}),
        *calibration_charts(details.get("calibration") or {}),
        *iou_charts(details.get("iou") or {}),
        *instance_charts(details.get("instances") or {}),
    ]
    return found


def confusion_charts(matrix: Sequence[Sequence[int]], classes: Sequence[str]) -> list[Chart]:
    """The counts, and each row as shares of what is truly of that class."""
    if not matrix:
        return []
    shares = [[one / sum(row) if sum(row) else None for one in row] for row in matrix]
    select_classes = len(classes) <= MOST_TEXTS
    counted = [[format_count(one) for one in row] for row in matrix] if select_classes else []
    parts = [["" if one is None else f"{one:.2f}" for one in row] for row in shares] if select_classes else []
    return [
        Chart("confusion: counts", "said", "true", heat=HeatMap(classes, classes, matrix, counted)),
        Chart("confusion: share of each row", "said", "true", heat=HeatMap(classes, classes, shares, parts)),
    ]


def format_count(number: int) -> str:
    """12345 as '12k'."""
    for size, letter in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if number >= size:
            return f"{number / size:.3g}{letter}"
    return str(number)


def curve_charts(found: Mapping[str, Mapping[str, Any]], left_out: Mapping[str, str]) -> list[Chart]:
    """ROC and precision-recall, a line for each class that has them."""
    if not found:
        return []
    chosen = select_classes(found)
    note = "; ".join(filter(None, (chosen_note(len(found)), absent_note(left_out))))
    roc = [Series(f"{name} (area {one['auc']:.3f})", one["fpr"], one["tpr"]) for name, one in chosen]
    pr = [Series(f"{name} (AP {one['ap']:.3f})", one["recall"], one["precision"]) for name, one in chosen]
    chance = Series("", [0.0, 1.0], [0.0, 1.0], colour=GREY, dashed=True)
    unit: dict[str, Any] = {"x_range": (-0.02, 1.0), "y_range": UNIT, "note": note}
    return [
        Chart(
            "ROC", "false alarms: share of what is not it", "found: share of what is it", [*roc, chance], **unit
        ),
        Chart("precision and recall", "recall", "precision", pr, **unit),
    ]


def select_classes(found: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, Mapping[str, Any]]]:
    """All classes in their order, or those with the worst and the best average precision."""
    if len(found) <= MOST_CURVES:
        return list(found.items())
    precision_recall_chart = sorted(found.items(), key=lambda pair: pair[1]["ap"])
    return precision_recall_chart[: MOST_CURVES // 2] + precision_recall_chart[-MOST_CURVES // 2 :]


def chosen_note(number: int) -> str:
    if number <= MOST_CURVES:
        return ""
    return f"{MOST_CURVES // 2} worst and {MOST_CURVES // 2} best of {number} classes by average precision"


def absent_note(left_out: Mapping[str, str]) -> str:
    """Which classes have no curve, and why."""
    by_reason: dict[str, list[str]] = {}
    for name, why in left_out.items():
        by_reason.setdefault(why, []).append(name)
    return "; ".join(f"left out: {join_names(names)} ({why})" for why, names in by_reason.items())


def join_names(names: Sequence[str], most: int = 4) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def calibration_charts(found: Mapping[str, Any]) -> list[Chart]:
    """What came true of what was said with a probability; on the diagonal both are the same."""
    if not found:
        return []
    texts = [f"{share:.1%} of all" for share in found["share"]]
    return [
        Chart(
            "calibration",
            "probability given",
            "share that came true",
            [
                Series(f"expected error {found['error']:.3f}", found["predicted"], found["observed"], texts=texts),
                Series("", [0.0, 1.0], [0.0, 1.0], colour=GREY, dashed=True),
            ],
            x_range=(0.0, 1.0),
            y_range=UNIT,
            note="above the dashed line it is too modest, below it too sure",
        )
    ]


def iou_charts(found: Mapping[str, float]) -> list[Chart]:
    """The IoU of each class, the worst first where they are too many."""
    if not found:
        return []
    shown = dict(sorted(found.items(), key=lambda pair: pair[1])[:MOST_BARS]) if len(found) > MOST_BARS else found
    note = f"the {MOST_BARS} worst of {len(found)} classes" if len(found) > MOST_BARS else ""
    series = Series("", list(shown), list(shown.values()), kind="bars")
    return [Chart("IoU of each class", "", "IoU", [series], y_range=UNIT, note=note)]


# --- of found instances ---


def instance_charts(found: Mapping[str, Any]) -> list[Chart]:
    """How strict a match may be, what finding more costs, and whether as many are found as there are."""
    return [threshold_chart(found), precision_recall_chart(found), count_chart(found["numbers"])] if found else []


def threshold_chart(found: Mapping[str, Any]) -> Chart:
    line = Series(f"mean {found['ap']:.3f}", found["thresholds"], found["aps"])
    note = "how far AP falls to the right says how well outlines fit"
    return Chart("AP by IoU threshold", "IoU that counts as found", "AP", [line], y_range=UNIT, note=note)


def precision_recall_chart(found: Mapping[str, Any]) -> Chart:
    """Precision by recall, the surest instances first."""
    title, known = "precision and recall", dict(zip(found["thresholds"], found["aps"], strict=True))
    if not found["precision"]:
        return empty_chart(title, "nothing was found, or nothing is there")
    lines = [
        Series(f"IoU {at}{ap_of(known, at)}", found["recall"], line) for at, line in found["precision"].items()
    ]
    return Chart(title, "recall", "precision", lines, x_range=(-0.02, 1.0), y_range=UNIT)


def ap_of(known: Mapping[float, float], threshold: str) -> str:
    near = next((ap for at, ap in known.items() if f"{at:.2f}" == threshold), None)
    return "" if near is None else f" (AP {near:.3f})"


def count_chart(pairs: Sequence[Sequence[int]]) -> Chart:
    """A point for each image, those in one place together; on the diagonal as many are found as are there."""
    images = Counter((true, said) for true, said in pairs)
    most = max((max(pair) for pair in images), default=1)
    texts = [f"{number} image{'s' * (number > 1)}" for number in images.values()]
    points = Series("", [true for true, _ in images], [said for _, said in images], "points", texts=texts)
    same = Series("", [0, most], [0, most], colour=GREY, dashed=True)
    note = "above the dashed line too many are found in an image, below it too few"
    return Chart("instances in each image", "there", "found", [same, points], note=note)
