"""The statistics of a study are the same on every database."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from helpers.trial_rows import put, work

from tuner.errors import FailureKind
from tuner.goal import maximize
from tuner.study import budget, epoch_queries, queries
from tuner.study.failures import failure_attrs
from tuner.study.info import StudyInfo
from tuner.study.stats import Cost, StatsReader, read_stats
from tuner.study.study import JoinedStudy, join_study

RECIPE = {"version": 2, "epochs": 10}
LONG = "Traceback (most recent call last):\n" + "  größe\n" * 1000 + "ValueError: größer als 3 €\n"


@pytest.fixture
def joined(prepared_url: str) -> Iterator[JoinedStudy]:
    made = join_study(prepared_url, StudyInfo("made", "made", maximize("iou"), "shapes"))
    budget.set_budget(made.engine, made.id, num_trials=6)
    put(made, 0, "COMPLETE", [0.1, 0.3, None], seconds=10)
    put(made, 1, "PRUNED", [0.2], seconds=10, at=40, recipe=RECIPE)
    put(made, 2, "FAIL", [], at=60, failure=LONG)
    nan = failure_attrs(FailureKind.LOSS_NOT_FINITE, "train_loss is nan at epoch 1 with adam")
    put(made, 3, "FAIL", [], at=50, **nan)
    put(made, 4, "RUNNING", [0.2, None, 0.4], seconds=1)
    work(made, 4, step=3, steps=10)
    yield made
    made.engine.dispose()


def test_cost_failures_and_time_left(joined: JoinedStudy) -> None:
    found = read_stats(joined.engine, queries.find_study(joined.engine, "made"))
    assert found.cost == Cost(trials=4, epochs=7, seconds=43.0, saved=9, planned=10)
    assert [(failure.number, failure.label) for failure in found.failures] == [
        (3, "loss not finite"),
        (2, "ValueError"),
    ]
    assert found.failures[0].reason == "train_loss is nan at epoch 1 with adam"
    assert found.failures[1].reason == "ValueError: größer als 3 €"
    # the four took 30, 10, 0 and 0 s; one has trained 3 s, one has not begun
    assert (found.left.seconds, found.left.by) == (7.0 + 10.0, "trials")


def test_looking_again_gives_the_same_and_sees_what_ended(joined: JoinedStudy) -> None:
    info = queries.find_study(joined.engine, "made")
    ledger = StatsReader(joined.engine, info)
    first = ledger.read(queries.read_summary(joined.engine, info))
    assert ledger.read(queries.read_summary(joined.engine, info)) == first
    put(joined, 5, "PRUNED", [0.2, 0.2], recipe=RECIPE)
    again = ledger.read(queries.read_summary(joined.engine, info))
    assert again == read_stats(joined.engine, info) and again.cost.saved == 9 + 8


def test_the_trials_of_another_study_do_not_count(joined: JoinedStudy, prepared_url: str) -> None:
    other = join_study(prepared_url, StudyInfo("other", "other", maximize("iou"), "shapes"))
    assert read_stats(other.engine, queries.find_study(other.engine, "other")).cost == Cost()
    assert queries.study_exists(other.engine, queries.find_study(other.engine, "other"))
    other.engine.dispose()


def test_curves_are_those_of_the_trials_named_without_epochs_that_were_not_validated(joined: JoinedStudy) -> None:
    with joined.engine.connect() as db:
        found = epoch_queries.read_curves(db, joined.id, [0, 4, 99])
    assert found == {0: [(1, 0.1), (2, 0.3)], 4: [(1, 0.2), (3, 0.4)]}
