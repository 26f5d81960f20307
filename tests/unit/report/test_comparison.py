"""Published beside ours: from records as trials leave them, without any training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from helpers.made_studies import record
from helpers.optuna_revisions import prepare_file
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState, create_trial

from tuner.errors import StudyError
from tuner.goal import maximize
from tuner.report.table_comparison import (
    RowResult,
    TableComparison,
    compare_table,
    comparison_title,
    text_columns,
    to_json,
    to_markdown,
)
from tuner.space.published import PublishedRow, PublishedTable
from tuner.study import queries
from tuner.study.info import StudyInfo, StudyKind
from tuner.study.study import JoinedStudy, join_study

ROWS = tuple(
    PublishedRow({"lr": lr, "k": 8}, {}, place=place) for lr, place in ((0.1, 2), (0.2, 1), (0.3, 3), (0.4, 4))
)
ORDER = PublishedTable("t", Path("t.toml"), "s", "val_iou", ROWS, data="shapes", compare="order")


def study(folder: Path, name: str = "t", **changes: object) -> JoinedStudy:
    info = StudyInfo(name, "s", maximize("iou"), "shapes", kind=StudyKind.TABLE, subject="t")
    prepare_file(folder / "tuner.db")
    return join_study(f"sqlite:///{folder / 'tuner.db'}", replace(info, **changes))  # type: ignore[arg-type]


def add(
    joined: JoinedStudy,
    row: PublishedRow,
    curve: list[float],
    state: TrialState = TrialState.COMPLETE,
    repeat: int = 1,
    **test: float,
) -> None:
    result = {"best_epoch": curve.index(max(curve)) + 1, "epochs": len(curve), "test": test} if curve else {}
    joined.study.add_trial(
        create_trial(
            state=state,
            value=max(curve) if state is TrialState.COMPLETE else None,
            params={"lr": row.params["lr"]},
            distributions={"lr": FloatDistribution(0, 1)},
            user_attrs={"row": row.key, "repeat": repeat, "result": result},
        )
    )
    trial = joined.study.get_trials(deepcopy=False)[-1]
    for epoch, value in enumerate(curve, start=1):
        record(joined, trial._trial_id, epoch, value)


def test_places_are_ours_beside_theirs_and_states_where_there_is_no_number(tmp_path: Path) -> None:
    joined = study(tmp_path)
    add(joined, ROWS[0], [0.3, 0.7, 0.1])
    add(joined, ROWS[1], [0.5])
    add(joined, ROWS[2], [], TrialState.FAIL)
    found = compare_table(joined.engine, ORDER, None)
    told = to_json(found)["rows"]
    assert [(row["place"], row["our_place"], row["state"]) for row in told] == [
        (2, 1, "done"), (1, 2, "done"), (3, None, "failed"), (4, None, "not run yet"),
    ]  # fmt: skip
    assert [row["ours"] for row in told] == [0.7, 0.5, None, None] and told[0]["published"] is None
    assert (told[0]["epochs"], told[0]["seconds"]) == (3, 4.5)
    made = dict(text_columns(found))
    assert made["val iou ours"] == ["0.7000", "0.5000", "failed", "not run yet"]
    assert "difference" not in made and "k" not in made and "k=8" in comparison_title(found)
    joined.engine.dispose()


def test_train_and_test_metrics_are_those_of_the_best_epoch(tmp_path: Path) -> None:
    rows = (PublishedRow({"lr": 0.1}, {"test_iou": 0.5, "train_iou": 0.6}),)
    table = replace(ORDER, rows=rows, compare="number")
    joined = study(tmp_path)
    add(joined, rows[0], [0.2, 0.8], iou=0.9)
    add(joined, rows[0], [0.6, 0.4], repeat=2)  # on data without a test split
    add(joined, rows[0], [], TrialState.FAIL, repeat=2)  # tried before
    add(joined, rows[0], [], TrialState.FAIL, repeat=3)
    (row,) = to_json(compare_table(joined.engine, table, None))["rows"]
    assert row["ours"] == {"test_iou": 0.9, "train_iou": pytest.approx((0.81 + 0.61) / 2)}
    assert row["difference"]["test_iou"] == pytest.approx(0.4) and row["deviation"]["test_iou"] is None
    shown = to_markdown(compare_table(joined.engine, table, None))
    assert (
        "| 0.5000 | 0.9000 (1 failed) | +0.4000 | 0.6000 | 0.7100 ± 0.1414 (2 seeds, 1 failed) | +0.1100 |"
        in shown
    )
    joined.engine.dispose()


def test_the_study_at_full_size_stands_for_the_table_and_others_by_name(tmp_path: Path) -> None:
    names = ("t-rehearsal", "t-shrink8", "t@mine", "t")
    changes = ({"rehearsal": True}, {"shrink": 8}, {"data": "mine"}, {})
    for name, change in zip(names, changes, strict=True):
        joined = study(tmp_path, name, **change)
        shown = compare_table(joined.engine, ORDER, None)
        assert shown.study and shown.study.name == name
        joined.engine.dispose()
    for name, change in (
        ("t-9-epochs", {"kind": StudyKind.EXTENSION, "subject": "t"}),
        ("other", {"subject": "u"}),
    ):
        joined = study(tmp_path, name, **change)
        assert queries.find_study(joined.engine, name)
        joined.engine.dispose()
    joined = study(tmp_path)
    for name in ("t-9-epochs", "t-shrink8"):
        found = compare_table(joined.engine, ORDER, name)
        assert found.study and found.study.name == name
    assert "1/8 of the size" in comparison_title(found)
    with pytest.raises(StudyError, match="no study 'other' of the table 't'"):
        compare_table(joined.engine, ORDER, "other")
    with pytest.raises(StudyError, match=r"the table 'u2' has no study yet.* tuner run --table u2$"):
        compare_table(joined.engine, replace(ORDER, name="u2"), "other")
    joined.engine.dispose()


def test_without_a_database_the_published_numbers_stand_alone() -> None:
    table = replace(
        ORDER,
        rows=(PublishedRow({"lr": 0.1}, {"val_iou": 0.5}, where="page 3", note="rounded"),),
        compare="number",
    )
    found = compare_table(None, table, None)
    assert to_json(found)["study"] is None and to_json(found)["rows"][0]["state"] == "not run yet"
    assert to_markdown(found).splitlines()[-1] == "| 0.1 | 0.5000 | not run yet | - |  |  | page 3 | rounded |"


def test_a_row_without_a_published_place_is_not_ranked_among_ours() -> None:
    """A count of classes beside three models whose losses were printed: the order of the three is compared."""
    given = [{}, {"val_loss": 15.6}, {"val_loss": 14.8}]
    rows = tuple(PublishedRow({"model": name}, published) for name, published in zip("abc", given, strict=True))
    table = PublishedTable("t", Path("t.toml"), "s", "val_loss", rows, compare="order")
    ours = [
        RowResult(row, {"val_loss": [loss]}, [1], [1.0], {})
        for row, loss in zip(rows, (1.5, 2.0, 1.0), strict=True)
    ]
    assert table.places == [0, 2, 1] and TableComparison(table, None, tuple(ours)).places == [0, 2, 1]
