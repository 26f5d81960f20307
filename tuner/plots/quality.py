"""Charts of the quality of a trial's model, from its details: confusion, ROC, calibration, IoU, AP."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from tuner.errors import format_names
from tuner.plots.charts import Chart, HeatMap, Series, empty_chart
from tuner.plots.colours import GREY

MOST_CURVES = 8  # classes drawn as curves: the worst half and the best half of them
MOST_TEXTS = 12  # classes that a confusion matrix shows
MOST_BARS = 12
UNIT = (-0.02, 1.02)  # points at 0 and 1 are drawn whole


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
    chosen = choose_confused(matrix)
    names = [classes[at] for at in chosen]
    counts = [[matrix[true][at] for at in chosen] for true in chosen]
    totals = [sum(matrix[true]) for true in chosen]
    shares = [[n / total if total else None for n in row] for row, total in zip(counts, totals, strict=True)]
    counted = [[format_count(one) for one in row] for row in counts]
    parts = [["" if one is None else f"{one:.2f}" for one in row] for row in shares]
    few, note = "", ""
    if len(chosen) < len(matrix):
        few = f" ({len(chosen)} of {len(matrix)} classes)"
        note = "the most confused pairs of classes, and the classes that are found least and most"
    return [
        Chart(
            f"confusion: counts{few}", "predicted", "true", heat=HeatMap(names, names, counts, counted), note=note
        ),
        Chart(
            f"confusion: share of each row{few}",
            "predicted",
            "true",
            heat=HeatMap(names, names, shares, parts),
            note=note,
        ),
    ]


def choose_confused(matrix: Sequence[Sequence[int]]) -> list[int]:
    """Return the classes to draw, in their order: all, or of many the most confused, the worst and the best."""
    number = len(matrix)
    if number <= MOST_TEXTS:
        return list(range(number))
    totals = [sum(row) for row in matrix]
    known = [at for at in range(number) if totals[at]]
    ranked = sorted(known, key=lambda at: matrix[at][at] / totals[at])
    quarter = MOST_TEXTS // 4
    chosen = {*ranked[:quarter], *ranked[-quarter:]}
    pairs = [(n, true, at) for true, row in enumerate(matrix) for at, n in enumerate(row) if at != true and n]
    for _, true, at in sorted(pairs, reverse=True):
        if len(chosen | {true, at}) > MOST_TEXTS:
            break
        chosen |= {true, at}
    return sorted(chosen)


def format_count(number: int) -> str:
    """Return a count in short form: 12345 as '12.3k'."""
    for size, letter in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if number >= size:
            return f"{number / size:.3g}{letter}"
    return str(number)


def curve_charts(curves: Mapping[str, Mapping[str, Any]], left_out: Mapping[str, str]) -> list[Chart]:
    """Return the ROC chart and the precision-recall chart, with a line for each class that has a curve."""
    chosen, notes, few = list(curves.items()), format_left_out(left_out), ""
    if len(curves) > MOST_CURVES:
        half = MOST_CURVES // 2
        ranked = sorted(chosen, key=lambda pair: pair[1]["ap"])
        chosen = ranked[:half] + ranked[-half:]
        few = f" ({half} worst, {half} best classes)"
        notes.insert(0, f"{half} worst and {half} best of {len(curves)} classes by average precision")
    roc = [Series(f"{name} (area {one['auc']:.3f})", one["fpr"], one["tpr"]) for name, one in chosen]
    pr = [Series(f"{name} (AP {one['ap']:.3f})", one["recall"], one["precision"]) for name, one in chosen]
    unit: dict[str, Any] = {"x_range": UNIT, "y_range": UNIT, "note": "; ".join(notes)}
    return [
        Chart(f"ROC{few}", "false positive rate", "true positive rate", [*roc, diagonal()], **unit),
        Chart(f"precision and recall{few}", "recall", "precision", pr, **unit),
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
        x_range=UNIT,
        y_range=UNIT,
        note="above the dashed line the model is underconfident, below it overconfident",
    )


def iou_chart(iou: Mapping[str, float]) -> Chart:
    """Return a bar chart of the IoU of each class; of too many classes, the worst ones."""
    title, note = "IoU of each class", ""
    if len(iou) > MOST_BARS:
        title = f"IoU of the {MOST_BARS} worst of {len(iou)} classes"
        note = f"the {MOST_BARS} worst of {len(iou)} classes"
        iou = dict(sorted(iou.items(), key=lambda pair: pair[1])[:MOST_BARS])
    series = Series("", list(iou), list(iou.values()), kind="bars")
    return Chart(title, "", "IoU", [series], y_range=(0.0, 1.02), note=note)


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
    return Chart(title, "recall", "precision", lines, x_range=UNIT, y_range=UNIT)


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
