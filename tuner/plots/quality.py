"""Charts of the quality of a trial's model, from its details: confusion, ROC, calibration, IoU, AP."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from tuner.plots.charts import GREY, Chart, HeatMap, Series, empty_chart

MOST_CURVES = 8  # classes drawn as curves: the worst half and the best half of them
MOST_TEXTS = 20  # classes up to which a confusion matrix has numbers in its cells
MOST_BARS = 24
UNIT = (0.0, 1.02)


def quality_charts(details: Mapping[str, Any]) -> list[Chart]:
    """Return the charts for which the content of details.json has numbers."""
    return [
        *confusion_charts(details.get("confusion") or [], details.get("classes") or []),
        *curve_charts(details.get("curves") or {}, details.get("left_out") or {}),
        *calibration_charts(details.get("calibration") or {}),
        *iou_charts(details.get("iou") or {}),
        *instance_charts(details.get("instances") or {}),
    ]


def confusion_charts(matrix: Sequence[Sequence[int]], classes: Sequence[str]) -> list[Chart]:
    """Return the confusion matrix as counts, and as shares of each true class."""
    if not matrix:
        return []
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
    if not curves:
        return []
    chosen = select_classes(curves)
    note = "; ".join(filter(None, (format_selection(len(curves)), format_left_out(left_out))))
    roc = [Series(f"{name} (area {one['auc']:.3f})", one["fpr"], one["tpr"]) for name, one in chosen]
    pr = [Series(f"{name} (AP {one['ap']:.3f})", one["recall"], one["precision"]) for name, one in chosen]
    chance = Series("", [0.0, 1.0], [0.0, 1.0], colour=GREY, dashed=True)
    unit: dict[str, Any] = {"x_range": (-0.02, 1.0), "y_range": UNIT, "note": note}
    return [
        Chart("ROC", "false positive rate", "true positive rate", [*roc, chance], **unit),
        Chart("precision and recall", "recall", "precision", pr, **unit),
    ]


def select_classes(curves: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, Mapping[str, Any]]]:
    """Return all classes in their order; of many, those with the worst and the best average precision."""
    if len(curves) <= MOST_CURVES:
        return list(curves.items())
    ranked = sorted(curves.items(), key=lambda pair: pair[1]["ap"])
    return ranked[: MOST_CURVES // 2] + ranked[-MOST_CURVES // 2 :]


def format_selection(number: int) -> str:
    """Return a note on which of the classes are drawn, "" if all are."""
    if number <= MOST_CURVES:
        return ""
    return f"{MOST_CURVES // 2} worst and {MOST_CURVES // 2} best of {number} classes by average precision"


def format_left_out(left_out: Mapping[str, str]) -> str:
    """Return a note on the classes without a curve and the reasons."""
    by_reason: dict[str, list[str]] = {}
    for name, why in left_out.items():
        by_reason.setdefault(why, []).append(name)
    return "; ".join(f"left out: {join_names(names)} ({why})" for why, names in by_reason.items())


def join_names(names: Sequence[str], most: int = 4) -> str:
    """Return the names as a list in one line, with the number of those beyond `most`."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def calibration_charts(calibration: Mapping[str, Any]) -> list[Chart]:
    """Return the reliability diagram: observed frequency over predicted probability."""
    if not calibration:
        return []
    texts = [f"{share:.1%} of all" for share in calibration["share"]]
    return [
        Chart(
            "calibration",
            "predicted probability",
            "observed frequency",
            [
                Series(
                    f"expected error {calibration['error']:.3f}",
                    calibration["predicted"],
                    calibration["observed"],
                    texts=texts,
                ),
                Series("", [0.0, 1.0], [0.0, 1.0], colour=GREY, dashed=True),
            ],
            x_range=(0.0, 1.0),
            y_range=UNIT,
            note="above the dashed line the model is underconfident, below it overconfident",
        )
    ]


def iou_charts(iou: Mapping[str, float]) -> list[Chart]:
    """Return a bar chart of the IoU of each class; of too many classes, the worst ones."""
    if not iou:
        return []
    worst = dict(sorted(iou.items(), key=lambda pair: pair[1])[:MOST_BARS]) if len(iou) > MOST_BARS else iou
    note = f"the {MOST_BARS} worst of {len(iou)} classes" if len(iou) > MOST_BARS else ""
    series = Series("", list(worst), list(worst.values()), kind="bars")
    return [Chart("IoU of each class", "", "IoU", [series], y_range=UNIT, note=note)]


# --- instance segmentation ---


def instance_charts(instances: Mapping[str, Any]) -> list[Chart]:
    """Return the charts of AP by IoU threshold, precision and recall, and the number of instances."""
    return (
        [threshold_chart(instances), precision_recall_chart(instances), count_chart(instances["numbers"])]
        if instances
        else []
    )


def threshold_chart(instances: Mapping[str, Any]) -> Chart:
    """Return AP by IoU threshold."""
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
    points = Series(
        "", [true for true, _ in images], [predicted for _, predicted in images], "points", texts=texts
    )
    same = Series("", [0, most], [0, most], colour=GREY, dashed=True)
    note = "above the dashed line an image has too many predicted instances, below it too few"
    return Chart("instances in each image", "true", "predicted", [same, points], note=note)
