"""Figures of a study: from a real database to plain charts, and by either renderer to something seen."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from helpers.search_studies import EVIL, add, search, study_data
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from optuna.trial import TrialState
from PIL import Image

from tuner.goal import maximize, minimize
from tuner.plots.charts import Chart, HeatMap, ParallelAxis, ParallelPlot, Series, empty_chart
from tuner.plots.colours import STATE_MARKS
from tuner.plots.render_plotly import plotly_figure
from tuner.plots.render_png import draw_chart, has_legend_below, write_charts
from tuner.report.figures import format_mean, make_figures
from tuner.report.group_curves import group_curves, group_trials
from tuner.report.importance import param_importances
from tuner.report.study_data import StudyData, TrialData, read_study
from tuner.report.study_figure import StudyFigure
from tuner.report.time_figures import group_failures
from tuner.study import queries
from tuner.study.decisions import Decision, write_decision
from tuner.study.info import StudyInfo
from tuner.study.stats import read_stats
from tuner.study.study import JoinedStudy

GOLDEN = Path(__file__).parents[2] / "golden" / "charts.png"
CHARTS = [
    Chart(
        "lines",
        "epoch",
        "iou",
        [
            Series(
                "mean", [1, 2, 3, 4], [0.2, 0.5, None, 0.7], low=[0.1, 0.4, 0.5, 0.6], high=[0.3, 0.6, 0.7, 0.8]
            ),
            Series("other", [1, 2, 3, 4], [0.3, 0.3, 0.4, 0.4], dashed=True),
        ],
        marks=[(2.0, "best")],
    ),
    Chart(
        "points", "lr", "iou", [Series("", [1e-4, 1e-3, 1e-2], [1, 3, 2], "points", shades=[0, 1, 2])], log_x=True
    ),
    Chart("bars", "", "n", [Series("", ["a", "b", "c"], [3, 1, 2], "bars", low=[2, 1, 1], high=[4, 2, 3])]),
    Chart("heat", "x", "y", heat=HeatMap(["a", "b"], ["c", "d"], [[1, None], [0, 2]], [["1", ""], ["0", "2"]])),
    Chart(
        "parallel",
        parallel=ParallelPlot(
            [ParallelAxis("lr", [-4, -3], is_log=True), ParallelAxis("loss", [0, 1], ["bce", "dice"])], [0.1, 0.9]
        ),
        shade="iou",
    ),
    empty_chart("nothing", "there is nothing to draw"),
]


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JoinedStudy]:
    joined = search(tmp_path_factory.mktemp("searched"))
    yield joined
    joined.engine.dispose()


@pytest.fixture(scope="module")
def story(searched: JoinedStudy) -> StudyData:
    return read_study(searched.engine, queries.find_study(searched.engine, None))


def by_name(made: list[StudyFigure]) -> dict[str, Chart]:
    return {one.name: one.chart for one in made}


def test_a_study_is_read_as_it_was_written(story: StudyData) -> None:
    assert [trial.number for trial in story.trials] == list(range(40))
    states = {state: len(story.of(state)) for state in ("COMPLETE", "PRUNED", "FAIL")}
    assert states == {"COMPLETE": 23, "PRUNED": 14, "FAIL": 3}
    best = story.best
    assert best and best.value == max(t.value for t in story.finished if t.value is not None)
    assert len(best.epochs) == best.planned == 20 and best.at_best["val_iou"] == best.value
    assert set(best.files) == {"strip.png", "predictions.png", "quality.png", "explanation.png", "details.json"}
    assert best.seconds == 20 * (20 + best.params["k"])


def test_every_figure_of_a_search_has_something_to_show(story: StudyData) -> None:
    made = make_figures(story)
    assert [one.name for one in made] == [
        "history", "parallel", "importance", "slice-lr", "slice-loss", "slice-k", "contour", "curves", "by-choice",
        "cost", "epochs", "failures",
    ]  # fmt: skip
    assert not [one.name for one in made if one.chart.is_empty or not one.says]


def test_history_has_a_mark_for_each_state_and_the_best_so_far(story: StudyData) -> None:
    chart = by_name(make_figures(story))["history"]
    assert [(one.name, len(one.x)) for one in chart.series] == [
        ("finished", 23), ("pruned", 14), ("failed (no value)", 3), ("best so far", 23),
    ]  # fmt: skip
    best = [value for value in chart.series[3].y if value is not None]
    assert best == sorted(best) and story.best and best[-1] == story.best.value


def test_a_searched_power_is_drawn_on_powers_and_a_choice_as_strips_in_its_order(story: StudyData) -> None:
    made = by_name(make_figures(story))
    assert made["slice-lr"].log_x and not made["slice-k"].log_x
    strips = list(dict.fromkeys(made["slice-loss"].series[0].x))
    assert strips == ["bce", "dice", "focal"]


def test_what_matters_is_found(story: StudyData) -> None:
    found = param_importances(story)
    assert (found.finished, found.pruned, found.names[0], found.rivals) == (23, 14, "lr", ())
    assert found.told[0].share > 0.5


def test_thousands_of_trials_are_drawn_in_seconds() -> None:
    """Whatever looks at every trial once for each of them takes a minute here."""
    kinds = {"lr": {"kind": "float", "low": 1e-5, "high": 1e-2, "log": True}, "k": {"kind": "int"}}
    rng = np.random.default_rng(0)
    some = tuple(
        TrialData(at, "COMPLETE", float(rng.random()), {"lr": float(10 ** rng.uniform(-5, -2)), "k": at % 97}, {})
        for at in range(4000)
    )
    info = StudyInfo("s", "s", maximize("iou"), "shapes")
    assert len(make_figures(StudyData(info, None, some, kinds))) > 8


def test_what_pruning_saved_and_what_failed_is_counted(story: StudyData) -> None:
    made = {one.name: one for one in make_figures(story)}
    assert f"Pruning saved {14 * 17} of {37 * 20} planned epochs" in made["epochs"].says
    assert made["failures"].says == "3 x out of memory"
    assert [trial.number for trial in group_failures(story)["out of memory"]] == [12, 25, 38]


def test_failures_are_called_as_in_the_terminal(study: JoinedStudy) -> None:
    """An error of the program by its name, which stands in the traceback; no reason is none of a kind."""
    bug = "Traceback (most recent call last):\n  File 'x.py', line 1, in f\nKeyError: 'lr'"
    info = queries.find_study(study.engine, None)
    for notes in ({"failure": bug}, {}, {"failure": "set aside: 3 workers died on it\nthe last on host a"}):
        add(study, {"lr": 1e-3}, [], TrialState.FAIL, planned=4, notes=notes)
    kinds = {kind: len(trials) for kind, trials in group_failures(study_data(study)).items()}
    assert kinds == {"KeyError": 1, "unknown": 1, "workers died on it": 1} == read_stats(study.engine, info).kinds


def test_what_a_person_ended_is_not_saved_by_pruning(study: JoinedStudy) -> None:
    add(study, {"lr": 1e-3}, [0.1], TrialState.PRUNED, planned=20)
    add(study, {"lr": 1e-2}, [0.1], TrialState.PRUNED, planned=20, notes={"stopped": "by hand"})
    assert (
        "Pruning saved 19 of 20 planned epochs"
        in {f.name: f.says for f in make_figures(study_data(study))}["epochs"]
    )


def test_what_was_trained_after_a_pause_is_drawn_apart(study: JoinedStudy) -> None:
    for number, curve in enumerate(([0.1], [0.1, 0.2, 0.3], [0.2])):
        add(study, {"lr": 1e-3}, curve, TrialState.PRUNED, planned=9)
        if number < 2:
            with study.engine.begin() as db:
                write_decision(db, study.id, "w", number + 1, Decision("pause", number, 1))
    made = {figure.name: figure for figure in make_figures(study_data(study))}["epochs"]
    assert isinstance(made.chart, Chart)
    bars = {series.name: dict(zip(series.x, series.y, strict=True)) for series in made.chart.series}
    assert bars == {
        "planned": {0: 9, 1: 9, 2: 9},
        "trained after a pause": {1: 3},
        "trained before": {0: 1, 1: 1, 2: 1},
    }
    assert made.says.endswith("2 of 3 trials paused, and 1 of these went on later.")


def test_a_number_with_many_values_is_compared_by_thirds_and_a_list_by_choice(story: StudyData) -> None:
    thirds = group_trials(story, "lr")
    assert len(thirds) == 3 and sum(len(trials) for _, trials in thirds) == 40
    assert [label for label, _ in group_trials(story, "loss")] == ["loss=bce", "loss=dice", "loss=focal"]


def test_a_value_whose_trials_were_all_pruned_is_shown_and_marked(study: JoinedStudy) -> None:
    for k in (8, 16):
        add(study, {"lr": k / 1e4, "k": k, "loss": "bce"}, [0.2, 0.5])
    plain = by_name(make_figures(study_data(study)))
    assert [one.name for one in plain["slice-k"].series] == [""]
    assert plain["parallel"].parallel and [axis.name for axis in plain["parallel"].parallel.axes][-1] == "iou"
    add(study, {"lr": 1e-3, "k": 32, "loss": "dice"}, [0.1], TrialState.PRUNED, planned=2)
    made = {figure.name: figure for figure in make_figures(study_data(study))}
    finished, pruned = made["slice-k"].chart.series
    assert list(finished.x) == [8, 16] and list(pruned.x) == [32] and list(pruned.y) == [0.1]
    assert pruned.name.startswith("pruned") and "not final" in made["slice-k"].says
    assert list(made["slice-loss"].chart.series[1].x) == ["dice"]
    assert made["parallel"].chart.parallel
    *_, value, end = made["parallel"].chart.parallel.axes
    assert list(value.at) == [0.1, 0.5, 0.5] and list(end.at) == [1, 0, 0] and end.names == ["finished", "pruned"]


def test_choices_that_python_calls_equal_stay_apart(tmp_path: Path) -> None:
    from helpers.made_studies import add_trial, make_study

    joined = make_study(tmp_path)
    for value in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8):
        add_trial(joined, [value / 2, value])
    found = study_data(joined)
    assert len(make_figures(found)) >= 10 and set(param_importances(found).names) == set(found.varied)
    joined.engine.dispose()


def test_studies_with_hardly_anything_say_so(study: JoinedStudy) -> None:
    def says() -> list[str]:
        return [one.chart.note for one in make_figures(study_data(study)) if one.chart.is_empty]

    assert len(says()) == len(make_figures(study_data(study)))  # no trial at all
    add(study, {"lr": 1e-3}, [], TrialState.FAIL, planned=4, notes={"failure": "out of memory"})
    assert [one.name for one in make_figures(study_data(study)) if not one.chart.is_empty] == [
        "history",
        "failures",
    ]
    add(study, {"lr": 1e-3, "k": 8, "loss": "bce"}, [0.1, 0.5])
    made = by_name(make_figures(study_data(study)))
    assert not made["history"].is_empty and not made["curves"].is_empty and made["importance"].is_empty
    assert all(says())


def test_what_is_no_number_is_a_gap(study: JoinedStudy, tmp_path: Path) -> None:
    add(study, {"lr": 1e-3, "k": 8, "loss": "bce"}, [0.1, 0.5], loss=[math.nan, math.inf])
    add(study, {"lr": 1e-2, "k": 8, "loss": "dice"}, [0.2, 0.4])
    made = make_figures(study_data(study))
    assert study_data(study).trials[0].curve("val_loss") == ([1, 2], [None, None])
    write_charts([one.chart for one in made if one.name in ("slice-lr", "curves", "cost")], tmp_path / "all.png")
    assert all("NaN" not in plotly_figure(one.chart).to_json() for one in made)


def test_figures_are_the_same_each_time(story: StudyData, searched: JoinedStudy) -> None:
    again = read_study(searched.engine, queries.find_study(searched.engine, None))
    assert make_figures(again) == make_figures(story)


@pytest.mark.parametrize("kind", ["png", pytest.param("svg", marks=pytest.mark.slow)])
def test_files_are_the_same_each_time(story: StudyData, tmp_path: Path, kind: str) -> None:
    charts = [one.chart for one in make_figures(story)][:3]
    write_charts(charts, tmp_path / f"a.{kind}")
    write_charts(charts, tmp_path / f"b.{kind}")
    assert (tmp_path / f"a.{kind}").read_bytes() == (tmp_path / f"b.{kind}").read_bytes()


def test_drawn_charts_look_as_they_looked(tmp_path: Path) -> None:
    """Small, since hair lines and letters move by a pixel from one version of matplotlib to the next."""
    write_charts(CHARTS, tmp_path / "charts.png")

    def small(path: Path) -> np.ndarray:
        with Image.open(path) as found:
            return np.asarray(found.convert("RGB").resize((252, 120), Image.Resampling.BOX), float)

    if not GOLDEN.exists():  # taken away to be drawn anew
        GOLDEN.parent.mkdir(exist_ok=True)
        shutil.copy(tmp_path / "charts.png", GOLDEN)
        pytest.fail(f"{GOLDEN} was not there; look at the one drawn now")
    apart = np.abs(small(tmp_path / "charts.png") - small(GOLDEN))
    assert apart.mean() < 2 and np.quantile(apart, 0.99) < 40


def test_both_renderers_show_the_same_numbers() -> None:
    lines, points, bars, heat, parallel, nothing = (plotly_figure(chart) for chart in CHARTS)
    assert [trace.name for trace in lines.data if trace.name] == ["mean", "other"]
    assert list(lines.data[1].y) == [0.2, 0.5, None, 0.7] and lines.layout.shapes[0].x0 == 2
    assert points.layout.xaxis.type == "log" and list(points.data[0].marker.color) == [0, 1, 2]
    assert list(bars.data[0].error_y.array) == [1, 1, 1] and bars.layout.xaxis.type == "category"
    assert heat.layout.yaxis.autorange == "reversed" and list(heat.data[0].z[0]) == [1, None]
    assert [one.label for one in parallel.data[0].dimensions] == ["lr", "loss"]
    assert list(parallel.data[0].dimensions[0].ticktext)[:1] == ["0.0001"]
    assert nothing.layout.annotations[0].text == "there is nothing to draw"


def test_text_of_users_stays_text(tmp_path: Path) -> None:
    """Neither HTML for plotly nor a formula for matplotlib: an odd number of dollars, and an unknown command."""
    for words in (EVIL, r"$\nothing{ $", "a $ b", "猫"):
        series = Series(words, [words, "b"], [1, 2], "bars", texts=[words, words])
        charts = [
            Chart(words, words, words, [series], marks=[(0.0, words)]),
            Chart(words, heat=HeatMap([words], [words], [[1.0]], [[words]])),
            Chart(words, parallel=ParallelPlot([ParallelAxis(words, [0, 1], [words, "b"])], [0, 1]), shade=words),
            empty_chart(words, words),
        ]
        write_charts(charts, tmp_path / "words.svg")
        assert "<script" not in (tmp_path / "words.svg").read_text()
        for chart in charts:
            assert "<img" not in plotly_figure(chart).to_json() and "<script" not in plotly_figure(chart).to_json()


def test_names_of_choices_and_legends_of_points_do_not_overprint() -> None:
    names = [f"encoder_{at}_of_a_long_name" for at in range(12)]
    chart = Chart("slice", "arch", "iou", [Series("finished", names, [0.5] * 12, "points")])
    axes = Figure(figsize=(5.4, 3.8), layout="constrained").subplots()
    draw_chart(chart, axes)
    assert has_legend_below(chart)
    assert all(text.get_rotation() and len(text.get_text()) <= 18 for text in axes.get_xticklabels())


def test_long_choices_with_one_beginning_stay_apart_in_pictures() -> None:
    """Cut at the end, two of three models had one name, and their points one place."""
    names = [f"my_company.segmentation.models.unet_family:resnet{n}_unet" for n in (18, 34, 50)]
    chart = Chart("slice", "model", "iou", [Series("", names, [0.1, 0.2, 0.3], "points")])
    axes = Figure(figsize=(5.4, 3.8), layout="constrained").subplots()
    draw_chart(chart, axes)
    labels = [text.get_text() for text in axes.get_xticklabels()]
    assert len(set(labels)) == 3 and axes.collections[0].get_offsets()[:, 0].tolist() == [0, 1, 2]
    assert all(name in axes.get_xlabel().replace("\n", " ") for name in names)
    drawn = plotly_figure(chart)
    assert list(drawn.layout.xaxis.tickvals) == names == list(drawn.data[0].hovertext)
    assert len(set(drawn.layout.xaxis.ticktext)) == 3


def test_many_points_of_a_choice_have_a_lane_for_each_state() -> None:
    """On one line, those drawn last covered all others."""
    names = ["bce", "dice"] * 400
    series = [Series(state, names, [0.5] * 800, "points") for state in ("finished", "pruned")]
    finished, pruned = (plotly_figure(Chart("slice", "loss", "iou", series)).data[at].x for at in (0, 1))
    for category in (0, 1):
        left, right = ([x for x in some if abs(x - category) < 0.5] for some in (finished, pruned))
        assert len(left) == len(right) == 400 and max(left) < min(right)
    few = Chart("slice", "loss", "iou", [Series("", names[:8], [0.5] * 8, "points")])
    assert list(plotly_figure(few).data[0].x) == names[:8] and few.places(0) == [0, 1] * 4


def test_states_have_their_colours_and_markers_in_both_renderers(story: StudyData) -> None:
    history = by_name(make_figures(story))["history"]
    marks = {trace.name: (trace.marker.symbol, trace.marker.color) for trace in plotly_figure(history).data}
    assert len({symbol for symbol, _ in list(marks.values())[:3]}) == 3
    assert marks["pruned"] == ("triangle-down", STATE_MARKS["PRUNED"].colour)
    assert marks["failed (no value)"] == ("x", STATE_MARKS["FAIL"].colour)


def test_a_band_ends_at_the_largest_value_of_its_metric() -> None:
    def trial(number: int, top: float) -> TrialData:
        rows = tuple({"epoch": at, "val_iou": top, "val_loss": top} for at in (1, 2))
        return TrialData(number, "COMPLETE", top, {}, {}, epochs=rows)

    trials = [trial(at, top) for at, top in enumerate((0.99, 0.98, 0.6))]
    share, loss = (group_curves([("all", trials)], metric).series[0] for metric in ("iou", "loss"))
    assert max(share.high) == 1 and max(loss.high) > 1 and share.low == loss.low


def test_losses_of_many_decades_are_drawn_on_powers_and_say_so(tmp_path: Path) -> None:
    def trial(number: int, start: float) -> TrialData:
        curve = [start / 10**at for at in range(6)]
        rows = tuple({"epoch": at, "seconds": 1.0, "val_loss": one} for at, one in enumerate(curve, start=1))
        params = {"lr": (number + 1) / 100, "k": number}
        notes = {"result": {"best_value": curve[-1], "best_epoch": 6}}
        return TrialData(number, "COMPLETE", curve[-1], params, notes, epochs=rows)

    trials = tuple(trial(at, 10.0**at) for at in range(1, 8))
    study = StudyData(StudyInfo("s", "s", minimize("loss"), "shapes"), None, trials)
    made = by_name(make_figures(study))
    for name in ("history", "slice-lr", "curves", "by-choice", "cost"):
        assert made[name].log_y and made[name].axis_titles[1].endswith("(log scale)"), name
        assert plotly_figure(made[name]).layout.yaxis.type == "log"
        low = [value for series in made[name].series for value in series.low]
        assert all(value > 0 for value in low), name
    assert made["parallel"].parallel and made["parallel"].parallel.axes[-1].is_log
    write_charts([made["curves"], made["by-choice"]], tmp_path / "loss.png")


def test_of_thousands_of_trials_lines_are_picked_and_bars_are_means() -> None:
    rng = np.random.default_rng(0)
    trials = []
    for at in range(3000):
        epochs = tuple({"epoch": n, "seconds": 1.0} for n in range(1, 21 if at % 2 else 6))
        state = "COMPLETE" if at % 2 else "PRUNED"
        value = float(rng.random())
        notes = {"recipe": {"epochs": 20}, "result": {"best_value": value}}
        trials.append(
            TrialData(at, state, value if at % 2 else None, {"lr": value, "k": at}, notes, epochs=epochs)
        )
    study = StudyData(StudyInfo("s", "s", maximize("iou"), "shapes"), None, tuple(trials))
    made = {figure.name: figure for figure in make_figures(study)}
    lines = made["parallel"].chart.parallel
    assert lines and len(lines.shades) <= 400 and lines.shades[-1] == max(lines.shades)
    assert study.best and lines.shades[-1] >= study.best.final_value and "Of 3000 trials" in made["parallel"].says
    planned, trained = made["epochs"].chart.series
    assert len(planned.x) == len(trained.x) == 150 and set(planned.y) == {20.0} and set(trained.y) == {12.5}
    assert (
        "A bar is the mean of 20 trials in a row." in made["epochs"].says and made["epochs"].chart.bar_width == 16
    )


def test_bars_of_one_chart_have_one_width() -> None:
    bars = [Series("planned", [0, 1, 2], [9, 9, 9], "bars"), Series("trained after a pause", [1], [5], "bars")]
    axes = Figure().subplots()
    draw_chart(Chart("epochs", "trial", "epochs", bars), axes)
    assert len({round(bar.get_width(), 6) for bar in axes.patches if isinstance(bar, Rectangle)}) == 1
    assert {trace.width for trace in plotly_figure(Chart("epochs", series=bars)).data} == {0.8}


def test_large_means_fit_into_cells() -> None:
    assert [format_mean(value) for value in (0.12345, 453.2, 5827.1, 2e7)] == ["0.123", "453", "5827", "2e+07"]


def test_groups_of_alike_long_names_have_different_names_in_the_legend() -> None:
    trials = tuple(
        TrialData(at, "COMPLETE", 0.5, {}, {}, epochs=({"epoch": 1, "val_iou": 0.5},)) for at in range(4)
    )
    names = [f"model=my_company.models:resnet{size}_unet_with_attention" for size in (34, 50)]
    chart = group_curves([(names[0], list(trials[:3])), (names[1], list(trials[3:]))], "iou")
    shown = [one.name.partition(" (")[0] for one in chart.series]
    assert len(set(shown)) == 2 and "34" in shown[0] and "50" in shown[1] and max(map(len, shown)) <= 22
    assert all(f"{short} is {full}" in chart.note for short, full in zip(shown, names, strict=True))
