"""The charts of a trial's quality: from details alone, as many lines as can be read."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tuner.plots.charts import Chart
from tuner.plots.quality import format_count, quality_charts
from tuner.plots.render_png import write_charts
from tuner.train.details import make_details, make_instance_details


def details(number: int, absent: int = 0, pixels: bool = True) -> dict[str, Any]:
    """Of so many classes, the last of them with the best curves; the first few never there."""
    rng = np.random.default_rng(0)
    odds = np.arange(64)
    rows = []
    for at in range(number):
        apart = 2 + 10 * at / number
        wrong, right = (np.exp(-((odds - 32 - side * apart) ** 2) / 60) * 1000 for side in (-1, 1))
        rows.append([wrong, right * (at >= absent)])
    histogram = np.array([*rows, rows[-1]]).round().astype(np.int64)
    matrix = rng.integers(0, 90, (number, number))
    matrix[:absent] = 0
    names = [f"class {at}" for at in range(number)]
    scores = list(rng.random(12))
    return make_details(3, "mean IoU", names, scores, matrix.tolist(), histogram, pixels).to_json()


def by_title(found: dict[str, Any]) -> dict[str, Chart]:
    return {chart.title: chart for chart in quality_charts(found)}


def test_every_chart_is_there_and_drawn(tmp_path: Path) -> None:
    charts = by_title(details(4))
    assert list(charts) == [
        *("confusion: counts", "confusion: share of each row", "ROC", "precision and recall", "calibration"),
        "IoU of each class",
    ]
    write_charts(list(charts.values()), tmp_path / "quality.png")
    picture = np.asarray(Image.open(tmp_path / "quality.png").convert("RGB"))
    assert picture.shape[1] > 1000 and len(np.unique(picture.reshape(-1, 3), axis=0)) > 100
    assert "IoU of each class" not in by_title(details(4, pixels=False))


def test_the_shares_of_a_row_are_of_what_is_truly_of_that_class() -> None:
    found = details(3, absent=1)
    heat = by_title(found)["confusion: share of each row"].heat
    assert heat is not None and list(heat.values[0]) == [None] * 3 and list(heat.texts[0]) == [""] * 3
    for shares, counts in zip(heat.values[1:], found["confusion"][1:], strict=True):
        assert list(shares) == [count / sum(counts) for count in counts]


def test_a_large_matrix_shows_the_worst_best_and_most_confused_classes_and_says_so() -> None:
    found = details(100)
    matrix = np.full((100, 100), 1)
    np.fill_diagonal(matrix, 50)
    matrix[7, 7], matrix[9, 9], matrix[40, 60] = 0, 900, 800
    chart = quality_charts(found | {"confusion": matrix.tolist()})[0]
    assert chart.title == "confusion: counts (12 of 100 classes)" and chart.note
    assert chart.heat is not None and len(chart.heat.x) == len(chart.heat.values) <= 12
    assert {"class 7", "class 9", "class 40", "class 60"} <= set(chart.heat.x)
    assert len(quality_charts(details(12))[0].heat.values) == 12  # type: ignore[union-attr]


@pytest.mark.parametrize("number", [6, 100])
def test_points_lie_within_the_axes(number: int) -> None:
    for chart in quality_charts(details(number)):
        for series in chart.series if chart.x_range and chart.y_range else ():
            for values, (low, high) in ((series.x, chart.x_range), (series.y, chart.y_range)):
                assert all(low < value < high for value in values if isinstance(value, float))


def test_each_class_has_a_line_with_its_area() -> None:
    found = details(8)
    charts = by_title(found)
    roc = [series.name for series in charts["ROC"].series if series.name]
    assert roc == [f"class {at} (area {found['curves'][f'class {at}']['auc']:.3f})" for at in range(8)]
    assert charts["precision and recall"].series[7].name.startswith("class 7 (AP 0.9") and not charts["ROC"].note


def test_of_many_classes_the_worst_and_the_best_are_drawn_and_it_is_said() -> None:
    chart = by_title(details(30))["precision and recall (4 worst, 4 best classes)"]
    ranked = [f"class {at}" for at in (0, 1, 2, 3, 26, 27, 28, 29)]
    assert [series.name.partition(" (")[0] for series in chart.series] == ranked
    assert chart.note == "4 worst and 4 best of 30 classes by average precision"


def test_an_absent_class_is_left_out_and_named() -> None:
    for title in ("ROC", "precision and recall"):
        chart = by_title(details(4, absent=1))[title]
        assert "class 0" not in " ".join(series.name for series in chart.series)
        assert chart.note == "left out: class 0 (absent from validation)"
    many = by_title(details(30, absent=6))["ROC (4 worst, 4 best classes)"].note
    assert many.endswith("left out: class 0, class 1, class 2, class 3 and 2 more (absent from validation)")


def test_where_there_are_no_numbers_there_is_no_chart() -> None:
    assert quality_charts({}) == []
    everything = details(4)
    for part, missing in (("confusion", 2), ("curves", 2), ("calibration", 1), ("iou", 1)):
        assert len(quality_charts({**everything, part: type(everything[part])()})) == 6 - missing


@pytest.mark.parametrize(("number", "text"), [(0, "0"), (999, "999"), (1500, "1.5k"), (2_340_000, "2.34M")])
def test_large_numbers_are_short(number: int, text: str) -> None:
    assert format_count(number) == text


# --- found instances ---


def ranking(**changed: Any) -> dict[str, Any]:
    curves = {"0.50": [1.0, 0.9, 0.5], "0.75": [1.0, 0.4, 0.0]}
    plain = {"ap": 0.4, "aps": [0.8] * 5 + [0.3] * 5, "recall": [0.0, 0.5, 1.0], "precision": curves}
    numbers = [[3, 2], [3, 2], [5, 5], [0, 1]]
    return make_instance_details(2, "PQ", [0.5] * 4, {**plain, "numbers": numbers, **changed}).to_json()


def test_instances_have_charts_of_thresholds_ranking_and_numbers(tmp_path: Path) -> None:
    charts = by_title(ranking())
    assert list(charts) == ["AP by IoU threshold", "precision and recall", "instances in each image"]
    strict, ranked, numbers = charts.values()
    assert (strict.series[0].x[0], strict.series[0].y[0], strict.series[0].name) == (0.5, 0.8, "mean 0.400")
    assert [one.name for one in ranked.series] == ["IoU 0.50 (AP 0.800)", "IoU 0.75 (AP 0.300)"]
    assert [list(one.y) for one in ranked.series] == [[1.0, 0.9, 0.5], [1.0, 0.4, 0.0]]
    same, points = numbers.series
    assert list(zip(points.x, points.y, points.texts, strict=True)) == [
        (3, 2, "2 images"), (5, 5, "1 image"), (0, 1, "1 image"),
    ]  # fmt: skip
    assert (same.x, same.y, same.dashed) == ([0, 5], [0, 5], True)
    write_charts(list(charts.values()), tmp_path / "quality.png")
    assert (tmp_path / "quality.png").stat().st_size > 1000


def test_where_no_instance_was_found_the_curve_says_so(tmp_path: Path) -> None:
    nothing = ranking(ap=0.0, aps=[0.0] * 10, recall=[], precision={}, numbers=[[0, 0]])
    charts = by_title(nothing)
    assert (
        charts["precision and recall"].is_empty
        and "no instance was predicted" in charts["precision and recall"].note
    )
    write_charts(list(charts.values()), tmp_path / "quality.png")
    assert by_title({"instances": {}}) == {}


def test_neither_charts_nor_details_load_torch() -> None:
    modules = "tuner.train.details, tuner.plots.quality, tuner.plots.curves"
    code = f"import sys, {modules}; print({chr(39)}torch{chr(39)} in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
