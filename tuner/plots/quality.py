"""Charts of the quality of a trial's model, from its details: confusion, ROC, calibration, IoU, AP."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from tuner.errors import format_names
from tuner.plots.charts import GREY, Chart, HeatMap, Series, empty_chart

MOST_CURVES = 8  # classes drawn as curves: the worst half and the best half of them
MOST_TEXTS = 20  # classes up to which a confusion matrix has numbers in its cells
MOST_BARS = 24
UNIT = (0.0, 1.02)


def quality_charts(details: Mapping[str, Any]) -> list[Chart]:
    """Return the charts for which the content of details.json has numbers."""
    charts: list[Chart] = []
    if matrix := details.get("confusion"):
        charts += confusion_charts(matrix, details.get("classes") or [])
    if curves := details.get("curves"):
        charts += curve_charts(curves, details.get("left_out") or {})
    if calibration := details.get("calibration"):
        charts.append(calibration_chart(calibration))
    if iou := details.get("iou"):
        charts.append(iou_chart(iou))
    if numbers := details.get("instances"):
        charts += [threshold_chart(numbers), precision_recall_chart(numbers), count_chart(numbers["numbers"])]
    return charts


def confusion_charts(matrix: Sequence[Sequence[int]], classes: Sequence[str]) -> list[Chart]:
    """Return the confusion matrix as counts, and as shares of each true class."""
    shares = [[one / sum(row) if sum(row) else None for one in row] for row in matrix]
    has_texts = len(classes) <= MOST_TEXTS
    counted = [[format_count(one) for one in row] for row in matrix] if has_texts else []
    parts = [["" if one is None else f"{one:.2f}" for one in row] for row in shares] if has_texts else []
    return [
        Chart("confusion: counts", "predicted", "true", heat=HeatMap(classes, classes, matrix, counted)),
        Chart("confusion: share of each row", "predicted", "true", heat=HeatMap(classes, classes, shares, parts)),
    ]


def format_count(number: int) -> str:
    """Return a count in short form: 12345 as '12.3k'."""
    for size, letter in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if number >= size:
            return f"{number / size:.3g}{letter}"
    return str(number)


def curve_charts(curves: Mapping[str, Mapping[str, Any]], left_out: Mapping[str, str]) -> list[Chart]:
    """Return the ROC chart and the precision-recall chart, with a line for each class that has a curve."""
    chosen, notes = list(curves.items()), format_left_out(left_out)
    if len(curves) > MOST_CURVES:
        half = MOST_CURVES // 2
        ranked = sorted(chosen, key=lambda pair: pair[1]["ap"])
        chosen = ranked[:half] + ranked[-half:]
        notes.insert(0, f"{half} worst and {half} best of {len(curves)} classes by average precision")
    roc = [Series(f"{name} (area {one['auc']:.3f})", one["fpr"], one["tpr"]) for name, one in chosen]
    pr = [Series(f"{name} (AP {one['ap']:.3f})", one["recall"], one["precision"]) for name, one in chosen]
    unit: dict[str, Any] = {"x_range": (-0.02, 1.0), "y_range": UNIT, "note": "; ".join(notes)}
    return [
        Chart("ROC", "false positive rate", "true positive rate", [*roc, diagonal()], **unit),
        Chart("precision and recall", "recall", "precision", pr, **unit),
    ]


def diagonal(end: float = 1.0) -> Series:
    """Return the dashed line of equal x and y."""
    return Series("", [0.0, end], [0.0, end], colour=GREY, dashed=True)


def format_left_out(left_out: Mapping[str, str]) -> list[str]:
    """Return a note for each reason why classes have no curve."""
    by_reason: dict[str, list[str]] = {}
    for name, why in left_out.items():
        by_reason.setdefault(why, []).append(name)
    return [f"left out: {format_names(names, 4)} ({why})" for why, names in by_reason.items()]


def calibration_chart(calibration: Mapping[str, Any]) -> Chart:
    """Return the reliability diagram: observed frequency over predicted probability."""
    texts = [f"{share:.1%} of all" for share in calibration["share"]]
    name = f"expected error {calibration['error']:.3f}"
    observed = Series(name, calibration["predicted"], calibration["observed"], texts=texts)
    return Chart(
        "calibration",
        "predicted probability",
        "observed frequency",
        [observed, diagonal()],
        x_range=(0.0, 1.0),
        y_range=UNIT,
        note="above the dashed line the model is underconfident, below it overconfident",
    )


def iou_chart(iou: Mapping[str, float]) -> Chart:
    """Return a bar chart of the IoU of each class; of too many classes, the worst ones."""
    note = ""
    if len(iou) > MOST_BARS:
        note = f"the {MOST_BARS} worst of {len(iou)} classes"
        iou = dict(sorted(iou.items(), key=lambda pair: pair[1])[:MOST_BARS])
    series = Series("", list(iou), list(iou.values()), kind="bars")
    return Chart("IoU of each class", "", "IoU", [series], y_range=UNIT, note=note)


# --- instance segmentation ---


def threshold_chart(instances: Mapping[str, Any]) -> Chart:
    line = Series(f"mean {instances['ap']:.3f}", instances["thresholds"], instances["aps"])
    note = "the less AP falls to the right, the better the outlines fit"
    return Chart("AP by IoU threshold", "IoU threshold of a match", "AP", [line], y_range=UNIT, note=note)


def precision_recall_chart(instances: Mapping[str, Any]) -> Chart:
    """Return precision by recall, with the instances in order of decreasing score."""
    title, known = "precision and recall", dict(zip(instances["thresholds"], instances["aps"], strict=True))
    if not instances["precision"]:
        return empty_chart(title, "no instance was predicted, or the images have none")
    lines = [
        Series(f"IoU {at}{format_ap(known, at)}", instances["recall"], line)
        for at, line in instances["precision"].items()
    ]
    return Chart(title, "recall", "precision", lines, x_range=(-0.02, 1.0), y_range=UNIT)


def format_ap(known: Mapping[float, float], threshold: str) -> str:
    """Return " (AP 0.123)" for a threshold, "" if its AP is not known."""
    near = next((ap for at, ap in known.items() if f"{at:.2f}" == threshold), None)
    return "" if near is None else f" (AP {near:.3f})"


def count_chart(pairs: Sequence[Sequence[int]]) -> Chart:
    """Return predicted over true number of instances, a point for each pair that occurs in the images."""
    images = Counter((true, predicted) for true, predicted in pairs)
    most = max((max(pair) for pair in images), default=1)
    texts = [f"{number} image{'s' * (number > 1)}" for number in images.values()]
    x, y = [true for true, _ in images], [predicted for _, predicted in images]
    points = Series("", x, y, "points", texts=texts)
    note = "above the dashed line an image has too many predicted instances, below it too few"
    return Chart("instances in each image", "true", "predicted", [diagonal(most), points], note=note)
