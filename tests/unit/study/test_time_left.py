"""The time until a study ends, and its error, compared with values computed by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from helpers.trial_rows import put, work

from tuner.space.search_settings import SearchSettings
from tuner.study import budget
from tuner.study import queries as queries_module
from tuner.study.stats import read_stats
from tuner.study.study import JoinedStudy, write_info
from tuner.study.time_left import TimeLeft, spread

RECIPE = {"version": 2, "epochs": 10}


def estimate(joined: JoinedStudy) -> TimeLeft:
    return read_stats(joined.engine, queries_module.find_study(joined.engine, "made")).left


def test_the_error_follows_from_the_spread_of_the_trials(joined: JoinedStudy) -> None:
    budget.set_budget(joined.engine, joined.id, num_trials=6)
    for number, took in enumerate((60, 100, 140)):
        put(joined, number, "COMPLETE", [0.1] * 10, at=number, seconds=1, took=took)
    work(joined, None, state="idle")
    found = estimate(joined)
    assert found.seconds == 3 * 100
    assert found.error == pytest.approx(300 * 0.4 * math.sqrt(1 / 3 + 1 / 3))


def test_one_trial_tells_no_spread() -> None:
    assert spread([5.0], 3) == 0.0 and spread([], 3) == 0.0 and spread([0.0, 0.0], 3) == 0.0
    assert spread([5.0, 5.0], 3) == 0.0


def test_where_trials_pause_the_epochs_of_those_that_go_on_are_foreseen(joined: JoinedStudy) -> None:
    budget.set_budget(joined.engine, joined.id, num_trials=9)
    write_info(joined.study, replace(joined.info, search=SearchSettings("early", "promote")))
    for number in range(3):
        put(joined, number, "PRUNED", [0.1], seconds=20, recipe=RECIPE)
    work(joined, None, state="idle")
    # nine trials train 1 epoch, three of them 2 more, one 6 more and then 1 more: 22 epochs, of which 3 are done
    assert estimate(joined).seconds == pytest.approx((9 + 3 * 2 + 6 + 1 - 3) * 20)


def test_a_study_that_says_only_how_long_the_first_trials_took_is_not_guessed_at(joined: JoinedStudy) -> None:
    budget.set_budget(joined.engine, joined.id, num_trials=3)
    write_info(joined.study, replace(joined.info, search=SearchSettings("early", "promote")))
    put(joined, 0, "FAIL", [], failure="odd", took=0)
    work(joined, None, state="idle")
    assert estimate(joined).seconds == 0.0


def test_a_first_rung_within_the_first_epoch_counts_as_a_part_of_it(joined: JoinedStudy) -> None:
    budget.set_budget(joined.engine, joined.id, num_trials=4)
    write_info(joined.study, replace(joined.info, search=SearchSettings("early", "promote", 0.5, 2)))
    put(joined, 0, "COMPLETE", [0.1, 0.2], seconds=10, recipe={"epochs": 2})
    put(joined, 1, "PRUNED", [0.1], seconds=10, recipe={"epochs": 2})
    work(joined, None, state="idle")
    # four trials train half an epoch, two of them the other half, and one the second epoch: 4 epochs, 3 are done
    assert estimate(joined).seconds == pytest.approx(10)


def test_a_first_rung_by_seconds_counts_as_the_epochs_that_take_so_long(joined: JoinedStudy) -> None:
    budget.set_budget(joined.engine, joined.id, num_trials=4)
    write_info(joined.study, replace(joined.info, search=SearchSettings("early", "promote", "20s", 2)))
    put(joined, 0, "COMPLETE", [0.1, 0.2, 0.3], seconds=10, recipe={"epochs": 3})
    put(joined, 1, "PRUNED", [0.1, 0.2], seconds=10, recipe={"epochs": 3})
    work(joined, None, state="idle")
    # four trials train two epochs, two of them a third one: 10 epochs, of which 5 are done
    assert estimate(joined).seconds == pytest.approx((10 - 5) * 10)


def test_rungs_by_seconds_are_reached_with_whole_epochs(joined: JoinedStudy) -> None:
    """Of 3, 6, 12, 24 and 48 s, the first epoch of 10 s passes two, and epochs 2, 3 and 5 one each."""
    budget.set_budget(joined.engine, joined.id, num_trials=8)
    write_info(joined.study, replace(joined.info, search=SearchSettings("early", "promote", "3s", 2)))
    put(joined, 0, "PRUNED", [0.1], seconds=10, recipe={"epochs": 6})
    work(joined, None, state="idle")
    # eight trials train 1 epoch, four of them a second one, two of them a third one, and one three more
    assert estimate(joined).seconds == pytest.approx((8 + 4 + 2 + 3 - 1) * 10)
