"""Statistics of a study, compared with values computed by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from helpers.made_studies import make_study
from helpers.trial_rows import put, work

from tuner.report.study_data import read_study
from tuner.study import budget as budget_module
from tuner.study import control
from tuner.study import queries as queries_module
from tuner.study.budget import spent_to_json
from tuner.study.format import format_budget, format_spent
from tuner.study.info import StudyKind
from tuner.study.optuna_tables import trials
from tuner.study.stats import Cost, StatsReader, StudyStats, read_stats
from tuner.study.study import JoinedStudy
from tuner.study.tables import study_table, worker_table
from tuner.study.time_left import TimeLeft

RECIPE = {"version": 2, "epochs": 10}


def count(joined: JoinedStudy) -> StudyStats:
    return read_stats(joined.engine, queries_module.find_study(joined.engine, "made"))


def budget(joined: JoinedStudy, **values: object) -> None:
    with joined.engine.begin() as db:
        db.execute(sa.update(study_table).values(**values))


def test_a_study_without_trials_has_cost_nothing(joined: JoinedStudy) -> None:
    found = count(joined)
    assert found.cost == Cost() and found.failures == () and found.kinds == {}
    assert found.cost.saved_share == found.cost.hours == 0.0
    assert found.left == TimeLeft(None, "no workers")
    assert (found.device, found.unit) == ("", "worker-hours")


def test_epochs_and_hours_of_all_trials_and_what_pruning_saved(joined: JoinedStudy) -> None:
    put(joined, 0, "COMPLETE", [0.1] * 10, seconds=100, recipe=RECIPE)
    put(joined, 1, "PRUNED", [0.1] * 3, seconds=100, recipe=RECIPE)
    put(joined, 2, "PRUNED", [0.1] * 1, seconds=100, recipe={**RECIPE, "epochs": 20})
    put(joined, 3, "FAIL", [0.1] * 2, seconds=100, recipe=RECIPE, failure="odd")
    put(joined, 4, "RUNNING", [0.1] * 4, seconds=100, recipe=RECIPE)
    put(joined, 5, "WAITING", [], recipe=RECIPE)
    cost = count(joined).cost
    assert cost == Cost(trials=4, epochs=20, seconds=2000.0, saved=7 + 19, planned=30)
    assert cost.hours == pytest.approx(2000 / 3600)
    assert cost.saved_share == pytest.approx(26 / 46)


def test_a_trial_that_a_person_ended_was_not_saved_by_pruning(joined: JoinedStudy) -> None:
    put(joined, 0, "PRUNED", [0.1] * 3, recipe=RECIPE, stopped="by hand")
    put(joined, 1, "PRUNED", [0.1] * 3, recipe="damaged")
    put(joined, 2, "PRUNED", [0.1] * 3)
    assert count(joined).cost.saved == 0


def test_longer_runs_do_not_count_what_they_took_over(joined: JoinedStudy, tmp_path: Path) -> None:
    put(joined, 3, "COMPLETE", [0.1] * 10, seconds=2)
    longer = make_study(tmp_path, "made-longer")
    origin = {"study": "made", "key": "", "number": 3}
    put(longer, 0, "COMPLETE", [0.1] * 15, seconds=2, goes_on_from=origin)
    put(longer, 1, "RUNNING", [], goes_on_from=origin)
    info = replace(
        queries_module.find_study(longer.engine, "made-longer"), kind=StudyKind.EXTENSION, subject="made"
    )
    cost = read_stats(longer.engine, info).cost
    told = read_study(longer.engine, info).trials[0]
    assert (told.trained, told.seconds) == (cost.epochs, cost.seconds) and len(told.epochs) == 15
    assert (cost.epochs, cost.seconds) == (5, 10.0)
    longer.engine.dispose()


def test_failures_come_in_the_order_of_their_ends_and_are_counted_by_kind(joined: JoinedStudy) -> None:
    put(joined, 0, "FAIL", [], at=50, failure="train_loss is nan at epoch 1 with adam")
    put(joined, 1, "FAIL", [], at=10, failure="Traceback (most recent call last):\n  x\nValueError: odd\n")
    put(joined, 2, "FAIL", [], at=70, failure="val_loss is inf at epoch 2 with adam")
    put(joined, 3, "FAIL", [], at=60)
    put(joined, 4, "COMPLETE", [0.5])
    found = count(joined)
    assert [failure.number for failure in found.failures] == [1, 0, 3, 2]
    assert found.failures[0].reason == "ValueError: odd"
    assert found.failures[2].reason == "unknown reason"
    assert found.kinds == {"loss not finite": 2, "ValueError": 1, "unknown": 1}
    assert next(iter(found.kinds)) == "loss not finite"


# Time left


def test_unknown_while_nothing_has_ended(joined: JoinedStudy) -> None:
    budget_module.set_budget(joined.engine, joined.id, num_trials=5)
    put(joined, 0, "RUNNING", [0.1])
    work(joined, 0, step=1, steps=10)
    assert count(joined).left == TimeLeft(None, "unknown")


def test_the_trials_left_are_shared_by_the_workers(joined: JoinedStudy) -> None:
    budget_module.set_budget(joined.engine, joined.id, num_trials=10)
    put(joined, 0, "COMPLETE", [0.1] * 10, seconds=10, took=120)
    put(joined, 1, "PRUNED", [0.1] * 5, seconds=10, took=60, recipe=RECIPE)
    put(joined, 2, "RUNNING", [0.1] * 4, seconds=10)
    put(joined, 3, "RUNNING", [0.1] * 1, seconds=10)
    work(joined, 2, step=4, steps=10)
    work(joined, 3, step=1, steps=10)
    # a trial takes 90 s; two have 50 s and 80 s left, six have not begun; two workers
    assert count(joined).left.seconds == (50 + 80 + 6 * 90) / 2


def test_more_workers_than_trials_do_not_help(joined: JoinedStudy) -> None:
    budget_module.set_budget(joined.engine, joined.id, num_trials=2)
    put(joined, 0, "COMPLETE", [0.1] * 10, seconds=10, took=100)
    put(joined, 1, "RUNNING", [0.1] * 4, seconds=10)
    work(joined, 1, step=4, steps=10)
    for idle in (7, 8):
        work(joined, None, worker=f"idle{idle}", state="idle")
    assert count(joined).left == TimeLeft(60.0, "trials")


def test_a_trial_that_takes_longer_than_the_others_goes_by_its_own_pace(joined: JoinedStudy) -> None:
    budget_module.set_budget(joined.engine, joined.id, num_trials=2)
    put(joined, 0, "PRUNED", [0.1], seconds=10, took=10, recipe=RECIPE)
    put(joined, 1, "RUNNING", [0.1] * 4, seconds=10)
    work(joined, 1, step=4, steps=10)
    assert count(joined).left == TimeLeft(60.0, "trials")


def test_a_trial_that_was_put_back_meanwhile_took_its_epochs_alone(joined: JoinedStudy) -> None:
    budget_module.set_budget(joined.engine, joined.id, num_trials=2)
    put(joined, 0, "COMPLETE", [0.1] * 10, seconds=10, took=9999, attempt=2)
    put(joined, 1, "RUNNING", [], seconds=10)
    work(joined, 1, steps=10)
    assert count(joined).left == TimeLeft(100.0, "trials")


def test_the_pace_is_that_of_the_last_trials(joined: JoinedStudy) -> None:
    budget_module.set_budget(joined.engine, joined.id, num_trials=32)
    for number in range(10):
        put(joined, number, "COMPLETE", [0.1], at=number, took=5000)
    for number in range(10, 31):
        put(joined, number, "COMPLETE", [0.1], at=10_000 + number, took=30)
    work(joined, None, state="idle")
    assert count(joined).left == TimeLeft(30.0, "trials")


def test_without_a_limit_there_is_no_end(joined: JoinedStudy) -> None:
    put(joined, 0, "COMPLETE", [0.1])
    work(joined, None, state="idle")
    assert count(joined).left == TimeLeft(None, "no limit")


def test_the_hours_may_end_before_the_trials(joined: JoinedStudy) -> None:
    budget_module.set_budget(joined.engine, joined.id, num_trials=1001, hours=2.0)
    budget(joined, clock_seconds=5400.0)
    put(joined, 0, "COMPLETE", [0.1] * 10, seconds=10)
    work(joined, None, state="idle")
    assert count(joined).left == TimeLeft(1800.0, "hours")
    budget_module.set_budget(joined.engine, joined.id, num_trials=2)
    assert count(joined).left == TimeLeft(100.0, "trials")


def test_gpu_hours_are_spent_by_all_that_hold_some(joined: JoinedStudy) -> None:
    budget_module.set_budget(joined.engine, joined.id, gpu_hours=2.0)
    budget(joined, gpu_seconds=3600.0 + 40.0)
    for number in (0, 1):
        work(joined, number, granted=20.0, used=0.0, device="NVIDIA H100")
    work(joined, 2, granted=0.0, device="NVIDIA H100")  # shares the GPU of another
    found = count(joined)
    assert found.spent.gpu_hours == pytest.approx(1.0)
    assert found.left == TimeLeft(1800.0, "GPU-hours")
    assert found.unit == "GPU-hours"
    assert format_budget(found.budget, found.spent, found.device).endswith("GPU time 1 h of 2 h")
    assert spent_to_json(found.spent, found.device)["gpu_hours"] == pytest.approx(1.0)


def test_where_there_is_no_gpu_the_same_limit_is_one_of_worker_hours(joined: JoinedStudy) -> None:
    budget_module.set_budget(joined.engine, joined.id, gpu_hours=2.0)
    budget(joined, gpu_seconds=3600.0)
    work(joined, 0, granted=0.0, device="cpu (2 cores)")
    found = count(joined)
    assert (found.left, found.unit) == (TimeLeft(3600.0, "worker-hours"), "worker-hours")
    assert format_budget(found.budget, found.spent, found.device).endswith(", worker time 1 h of 2 h")
    assert format_spent(found) == "worker time 1 h of 2 h"
    plain = spent_to_json(found.spent, found.device)
    assert plain["gpu_hours"] == 0 and plain["worker_hours"] == pytest.approx(1.0)
    work(joined, 1, granted=20.0, used=0.0, device="NVIDIA H100")  # of another host
    assert count(joined).unit == "GPU-hours"


def test_hours_that_are_spent_leave_nothing(joined: JoinedStudy) -> None:
    budget_module.set_budget(joined.engine, joined.id, hours=1.0)
    budget(joined, clock_seconds=3700.0)
    work(joined, None, state="idle")
    assert count(joined).left == TimeLeft(0.0, "hours")


def test_paused_done_and_left_alone_are_said(joined: JoinedStudy) -> None:
    budget_module.set_budget(joined.engine, joined.id, num_trials=2)
    put(joined, 0, "COMPLETE", [0.1])
    assert count(joined).left == TimeLeft(None, "no workers")
    work(joined, None, state="idle")
    control.set_paused(joined.engine, joined.id, True)
    assert count(joined).left == TimeLeft(None, "paused") and count(joined).paused
    put(joined, 1, "FAIL", [])
    assert count(joined).left == TimeLeft(0.0, "done")


# Looking again


def test_what_ended_is_read_once(joined: JoinedStudy) -> None:
    info = queries_module.find_study(joined.engine, "made")
    for number in range(5):
        put(joined, number, "PRUNED", [0.1], recipe=RECIPE)
    ledger, said = StatsReader(joined.engine, info), []
    sa.event.listen(joined.engine, "before_cursor_execute", lambda *told: said.append(told[2]))

    def read() -> tuple[StudyStats, int]:
        before = len(said)
        found = ledger.read(queries_module.read_summary(joined.engine, info))
        return found, sum("tuner_epoch" in query or "trial_user_attributes" in query for query in said[before:])

    first, queries = read()
    again, fewer = read()
    assert first == again == count(joined)
    assert fewer == 1 < queries  # of the trials that have not ended, their sums
    put(joined, 5, "PRUNED", [0.1] * 2, recipe=RECIPE)
    assert read()[0] == count(joined)
    assert read()[0].cost.epochs == 7


def test_a_trial_that_was_deleted_is_forgotten(joined: JoinedStudy) -> None:
    info = queries_module.find_study(joined.engine, "made")
    gone = put(joined, 0, "COMPLETE", [0.1] * 5)
    put(joined, 1, "COMPLETE", [0.1] * 2)
    ledger = StatsReader(joined.engine, info)
    assert ledger.read(queries_module.read_summary(joined.engine, info)).cost.epochs == 7
    with joined.engine.begin() as db:
        db.execute(sa.delete(trials).where(trials.c.trial_id == gone))
    assert ledger.read(queries_module.read_summary(joined.engine, info)).cost.epochs == 2


def test_of_very_many_trials_none_is_named_in_a_query(
    joined: JoinedStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4):
        put(joined, number, "PRUNED", [0.1], recipe=RECIPE)
    put(joined, 4, "FAIL", [], failure="odd")
    expected = count(joined)
    monkeypatch.setattr("tuner.study.stats.MOST_IDS", 3)
    assert count(joined) == expected and expected.cost.saved == 36


def test_where_it_was_trained_is_known_from_the_best_when_nobody_works(joined: JoinedStudy) -> None:
    put(joined, 0, "COMPLETE", [0.1], result={"device": "NVIDIA A100"})
    assert (count(joined).device, count(joined).unit) == ("NVIDIA A100", "GPU-hours")
    work(joined, None)
    assert count(joined).unit == "worker-hours"
    with joined.engine.begin() as db:
        db.execute(sa.delete(worker_table))
    assert count(joined).unit == "GPU-hours"
