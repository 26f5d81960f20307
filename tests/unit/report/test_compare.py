"""Trials and groups of trials beside each other, from real records."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from helpers.search_studies import add, details, open_study
from optuna.trial import TrialState

from tuner.artifacts.optuna_store import TrialArtifacts
from tuner.errors import StudyError
from tuner.paths import Home
from tuner.report.compare import (
    compare_groups,
    compare_trials,
    differing_params,
    group_charts,
    group_rows,
    text_rows,
    trial_charts,
    trial_rows,
)
from tuner.study.study import JoinedStudy

SAME = {"k": 8, "loss": "bce"}


@pytest.fixture
def studies(tmp_path: Path) -> Iterator[JoinedStudy]:
    other = open_study(tmp_path, "other")
    add(other, {"lr": 1e-2, **SAME}, [0.3, 0.9])
    other.engine.dispose()
    joined = open_study(tmp_path, "first")
    add(joined, {"lr": 1e-3, **SAME}, [0.2, 0.6, 0.5], files={"details.json": details([0.5, 0.6, 0.7, 0.8])})
    add(joined, {"lr": 1e-4, **SAME}, [0.1, 0.4], files={"details.json": details([0.6, 0.5, 0.6, 0.7])})
    add(joined, {"lr": 1e-4, "k": 8, "loss": "dice"}, [0.3], TrialState.PRUNED, files={"details.json": b"{"})
    add(joined, {"lr": 1e-4}, [], TrialState.FAIL)
    yield joined
    joined.engine.dispose()


def test_trials_are_told_by_what_differs(studies: JoinedStudy, tmp_path: Path) -> None:
    found = compare_trials(
        studies.engine, ["0", "1"], "first", None, TrialArtifacts(Home(tmp_path / "without files"))
    )
    assert differing_params(found.sides) == ["lr"] and found.metric == "val_iou"
    first, second = trial_rows(found)
    assert (first["val_iou"], first["best_epoch"], first["epochs"], first["seconds"]) == (0.6, 2, 3, 180)
    assert second["params"] == {"lr": 1e-4} and second["trial"] == "trial 1"
    shown = text_rows(trial_rows(found), ["lr"])
    assert "better_images" not in shown[0] and shown[1]["lr"] == "0.0001"


def test_images_are_judged_in_pairs_against_the_first(studies: JoinedStudy, tmp_path: Path) -> None:
    found = compare_trials(studies.engine, ["0", "1", "2"], "first", None, TrialArtifacts(Home(tmp_path)))
    none, win, damaged = found.wins
    assert none is None and damaged is None and win is not None
    few = "only 4 validation images, too few to say which trial others would prefer"
    assert win.images == 0.25 and win.ahead is None and win.unknown == few
    first, row, _ = trial_rows(found)
    assert (row["better_images"], row["ahead"], row["ahead_unknown"]) == (0.25, None, few)
    assert first["ahead_unknown"] is None and found.note == few
    assert "ahead" not in text_rows([first, row], [])[1]


def test_images_that_belong_together_are_drawn_together(tmp_path: Path) -> None:
    """Half of 16 films are better by 0.15, the others worse by 0.09; of two films nothing can be told."""
    rng, labels = np.random.default_rng(3), [at // 10 for at in range(160)]
    first = 0.5 + 0.002 * rng.normal(size=160)
    lead = np.tile([0.15, -0.09], 8)[labels]
    joined = open_study(tmp_path)
    for scores, groups in (
        (first, {"names": labels}), (first + lead, {}), (first, {}), (first, {"likeness": [0] * 80 + [1] * 80}),
    ):  # fmt: skip
        add(joined, {"lr": 1e-3, **SAME}, [0.5], files={"details.json": details(scores, groups=groups)})
    artifacts = TrialArtifacts(Home(tmp_path))
    (_, by_film), (_, by_frame), (_, two) = (
        compare_trials(joined.engine, [number, "1"], None, None, artifacts).wins for number in ("0", "2", "3")
    )
    joined.engine.dispose()
    assert by_film and by_frame and two and by_film.images == by_frame.images == two.images
    assert (
        by_frame.ahead is not None
        and by_film.ahead is not None
        and by_frame.ahead > 0.99
        and 0.75 < by_film.ahead < 0.9
    )
    assert two.ahead is None
    assert two.unknown.startswith("the validation images form 2 groups by their likeness, too few to say")


def test_trials_of_other_studies_are_named_with_them(studies: JoinedStudy, tmp_path: Path) -> None:
    found = compare_trials(studies.engine, ["first#0", "other#0"], None, "iou", TrialArtifacts(Home(tmp_path)))
    assert [side.name for side in found.sides] == ["first#0", "other#0"]
    metric, loss = trial_charts(found)
    assert [one.name for one in metric.series] == ["first#0", "other#0"]
    assert [(one.name, one.dashed) for one in loss.series] == [
        ("first#0 train", True), ("first#0 val", False), ("other#0 train", True), ("other#0 val", False),
    ]  # fmt: skip
    assert loss.series[0].colour == loss.series[1].colour != loss.series[2].colour


@pytest.mark.parametrize(
    ("names", "metric", "says"),
    [
        (["0"], None, "two trials or more"),
        (["0", "0"], None, "two trials or more"),
        (["0", "x"], None, "'x' is not a trial"),
        (["0", "-1"], None, "'-1' is not a trial"),
        (["0", "9"], None, "has no trial 9. It has: 0, 1, 2, 3"),
        (["0", "3"], None, "trial 3 has no epoch yet (fail)"),
        (["0", "othr#0"], None, "Did you mean 'other'?"),
        (["0", "1"], "iuo", "Did you mean 'iou'?"),
    ],
)
def test_what_is_not_there_is_named_with_what_is(
    studies: JoinedStudy, tmp_path: Path, names: list[str], metric: str | None, says: str
) -> None:
    with pytest.raises(StudyError) as error:
        compare_trials(studies.engine, names, "first", metric, TrialArtifacts(Home(tmp_path)))
    assert says in str(error.value) and "\n" not in str(error.value)


def test_groups_have_a_band_of_the_trials_that_finished(studies: JoinedStudy) -> None:
    add(studies, {"lr": 5e-4, **SAME}, [0.4, 0.8])
    found = compare_groups(studies.engine, "loss", "first", None)
    line, pruned = group_rows(found)
    assert line["group"] == "loss=bce" and line["trials"] == 3 and line["mean"] == pytest.approx(0.6)
    assert line["best"] == 0.8 and line["numbers"] == [0, 1, 4] and line["not_finished"] is None
    assert (pruned["group"], pruned["trials"], pruned["finished"]) == ("loss=dice", 1, 0)
    assert pruned["mean"] is None and pruned["best"] is None and pruned["not_finished"] == "1 pruned"
    assert line["at_epoch"] == pruned["at_epoch"] == 1 and pruned["mean_at_epoch"] == 0.3
    assert line["mean_at_epoch"] == pytest.approx(0.7 / 3)  # of all at the same epoch
    shown = text_rows([line, pruned], [])
    assert shown[1]["mean at epoch 1"] == "0.3" and shown[1]["mean"] == "-" and "at_epoch" not in shown[1]
    band, *losses = group_charts(found)
    assert [round(value or 0, 4) for value in band.series[0].y] == [0.2333, 0.6] and len(losses) == 2
    assert band.series[0].low[0] < 0.2333 < band.series[0].high[0]
    assert [(one.name, one.dashed) for one in band.series] == [
        ("loss=bce (3 trials)", False), ("loss=dice, not finished (1 trial)", True),
    ]  # fmt: skip
    assert "Dashed: trials that did not finish (pruned), as far as they came." in band.note
    loss = group_rows(compare_groups(studies.engine, "loss", "first", "loss"))
    assert loss[0]["best"] == pytest.approx(0.55)


def test_where_all_finished_nothing_is_said_of_others(tmp_path: Path) -> None:
    joined = open_study(tmp_path)
    for loss in ("bce", "dice"):
        add(joined, {"lr": 1e-3, "k": 8, "loss": loss}, [0.2, 0.6])
    found = compare_groups(joined.engine, "loss", None, None)
    lines = group_rows(found)
    assert [line["mean"] for line in lines] == [0.6, 0.6]
    assert text_rows(lines, [])[0].keys() == {"group", "trials", "mean", "best", "epochs run", "seconds"}
    assert "Dashed" not in group_charts(found)[0].note
    joined.engine.dispose()


def test_an_unknown_parameter_or_metric_gets_the_near_name(studies: JoinedStudy) -> None:
    with pytest.raises(StudyError, match=r"no parameter 'los'\. Did you mean 'loss'"):
        compare_groups(studies.engine, "los", "first", None)
    with pytest.raises(StudyError, match="no metric 'dce'"):
        compare_groups(studies.engine, "loss", "first", "dce")
