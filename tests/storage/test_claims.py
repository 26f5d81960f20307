"""Claims by many workers at once: the budget stays exact when workers die; no trial is lost or claimed twice."""

from __future__ import annotations

import sys
import time
from ast import literal_eval
from collections.abc import Iterator
from pathlib import Path
from subprocess import PIPE

import optuna
import pytest
import sqlalchemy as sa
from helpers.command_line import environment, wait_for
from helpers.fork_server import start_python
from helpers.sessions import Bench, at_once, opened_bench, row, take_all

from tuner.errors import TrialLost
from tuner.search.sync import SyncThread
from tuner.study import budget, claims, control
from tuner.study.budget import SLICE_SECONDS
from tuner.study.claims import ClaimedTrial, StudyDeleted, WorkerRemoved
from tuner.study.optuna_tables import trials
from tuner.study.pending import PendingWrites
from tuner.study.tables import epoch_table, study_table


@pytest.fixture
def bench(prepared_url: str) -> Iterator[Bench]:
    with opened_bench(prepared_url) as made:
        yield made


# The budget


def test_many_who_take_at_once_get_exactly_the_budget(bench: Bench) -> None:
    bench.set(num_trials=7)
    bench.enter(*(f"w{at}" for at in range(6)))
    got = at_once(6, lambda at: [bench.try_to_take(f"w{at}") for _ in range(2)])
    taken = [each for pair in got for each in pair if isinstance(each, ClaimedTrial)]
    assert sorted(each.number for each in taken) == list(range(7))
    assert bench.num_claims() == len(bench.states()) == 7
    assert sum(each == "spent" for pair in got for each in pair) == 5


TAKE_ALL = """
import sys
from helpers.sessions import take_all
print(take_all(*sys.argv[1:]))
"""


def test_processes_share_one_budget_exactly(bench: Bench, tmp_path: Path) -> None:
    bench.set(num_trials=25)
    env = environment(tmp_path, PYTHONPATH=":".join(sys.path))
    claimants = [
        start_python("", bench.url, f"w{at}", code=TAKE_ALL, env=env, stdout=PIPE, text=True) for at in range(3)
    ]
    taken = [each for process in claimants for each in literal_eval(process.communicate(timeout=120)[0])]
    assert sorted(taken) == [(number, 1) for number in range(25)]
    assert bench.num_claims() == len(bench.states()) == 25


DYING = """
import sys
from helpers.sessions import opened_bench
with opened_bench(sys.argv[1]) as bench:
    bench.enter("dying")
    while True:
        bench.try_to_take("dying")
"""


def test_a_claimant_that_dies_in_the_middle_loses_nothing(bench: Bench, tmp_path: Path) -> None:
    """At whatever moment it is killed, each claim has its trial and each trial its claim."""
    bench.set(num_trials=2000)
    dying = start_python("", bench.url, code=DYING, env=environment(tmp_path, PYTHONPATH=":".join(sys.path)))
    try:
        wait_for(lambda: bench.num_claims() > 5)
    finally:
        dying.kill()
        dying.wait()
    begun = bench.num_claims()
    assert sorted(claims.release_worker(bench.engine, "dying", died=True)) == sorted(
        each.trial_id for each in bench.rows(sa.select(trials.c.trial_id))
    )
    bench.set(num_trials=begun + 2)
    again = take_all(bench.url, "next")
    assert sorted(again) == [(number, 2 if number < begun else 1) for number in range(begun + 2)]
    assert len(bench.states()) == begun + 2


def test_a_budget_is_raised_and_lowered_while_all_run(bench: Bench) -> None:
    bench.enter("w")
    bench.set(num_trials=1)
    assert bench.take("w").number == 0 and bench.try_to_take("w") == "spent"
    bench.set(num_trials=3)
    assert [bench.take("w").number, bench.take("w").number] == [1, 2]
    bench.set(num_trials=1)
    assert bench.try_to_take("w") == "spent"
    bench.set(num_trials=None)
    assert [bench.take("w").number for _ in range(3)] == [3, 4, 5]


def test_what_was_put_back_goes_on_also_beyond_a_lower_limit(bench: Bench) -> None:
    bench.enter("old", "new")
    bench.take("old"), bench.take("old")
    bench.set(num_trials=1)
    claims.release_worker(bench.engine, "old", died=False)
    assert not claims.is_finished(bench.engine, bench.id) and claims.has_waiting_trial(bench.engine, bench.id)
    assert [bench.take("new").number, bench.take("new").number] == [0, 1]
    assert bench.try_to_take("new") == "spent"
    assert claims.is_finished(bench.engine, bench.id) and not claims.has_waiting_trial(bench.engine, bench.id)


def test_a_paused_study_gives_no_trial(bench: Bench) -> None:
    bench.enter("w")
    control.set_paused(bench.engine, bench.id, True)
    assert bench.try_to_take("w") == "paused" and bench.states() == {}
    control.set_paused(bench.engine, bench.id, False)
    assert bench.take("w").number == 0


# Which trial


def test_a_paused_study_with_nothing_left_is_done(bench: Bench) -> None:
    bench.set(num_trials=0, paused=1)
    bench.enter("w")
    assert bench.try_to_take("w") == "spent"


def test_a_trial_put_back_keeps_its_number_and_raises_its_attempt(bench: Bench) -> None:
    bench.enter("a", "b", "c")
    first = bench.take("a")
    bench.take("b")
    assert (first.number, first.attempt, first.deaths, first.is_new) == (0, 1, 0, True)
    claims.release_worker(bench.engine, "a", died=True)
    assert (bench.claim(0).state, bench.claim(0).worker) == ("WAITING", None)
    again = bench.take("c")
    assert (again.trial_id, again.number, again.attempt, again.deaths) == (first.trial_id, 0, 2, 1)
    assert not again.is_new and bench.claim(0).slot == 1
    claims.put_back_trial(bench.engine, again.trial_id, "c")
    third = bench.take("c")
    assert (third.number, third.attempt, third.deaths) == (0, 3, 1)


def test_a_trial_put_back_is_taken_by_one_worker_only(bench: Bench) -> None:
    bench.set(num_trials=3)
    bench.enter("old", *(f"new{at}" for at in range(8)))
    held = [bench.take("old").trial_id for _ in range(3)]
    claims.release_worker(bench.engine, "old", died=True)
    taken = at_once(8, lambda at: bench.try_to_take(f"new{at}"))
    assert sorted(each.trial_id for each in taken if isinstance(each, ClaimedTrial)) == held


def test_a_trial_whose_taking_was_never_heard_of_is_taken_again_and_fills_one_slot(bench: Bench) -> None:
    """The connection is cut after the commit and before its answer."""
    bench.set(num_trials=2)
    bench.enter("w", "other")
    bench.take("other")
    unheard = bench.take("w")
    name = bench.joined.study.study_name
    again = claims.claim_trial(bench.engine, bench.id, name, "w", False)
    assert isinstance(again, ClaimedTrial)
    assert (again.trial_id, again.number, again.attempt) == (unheard.trial_id, 1, 1)
    assert bench.num_claims() == 2 and bench.try_to_take("w") == "spent"


def test_a_trial_whose_end_is_not_written_yet_is_not_taken_again(bench: Bench) -> None:
    bench.enter("w")
    ended = bench.take("w")
    next_one = claims.claim_trial(bench.engine, bench.id, "s", "w", False, [ended.trial_id])
    assert isinstance(next_one, ClaimedTrial) and next_one.number == 1


def test_the_start_of_a_trial_is_kept_when_it_goes_on(bench: Bench) -> None:
    bench.enter("w")
    taken = bench.take("w")
    began = bench.trials()[0].datetime_start
    claims.put_back_trial(bench.engine, taken.trial_id, "w")
    bench.take("w")
    assert began is not None and bench.trials()[0].datetime_start == began


def test_numbers_have_no_gap_and_no_double_while_others_enqueue(bench: Bench) -> None:
    """Optuna counts the trials of a study and we read the last number: both must agree."""
    bench.enter(*(f"w{at}" for at in range(4)))

    def go(at: int) -> None:
        for _ in range(5):
            if at < 4:
                bench.take(f"w{at}")
            else:
                bench.joined.study.enqueue_trial({"x": at})

    at_once(6, go)
    numbers = [each.number for each in bench.rows("SELECT number FROM trials ORDER BY number")]
    assert numbers == list(range(len(numbers))) and len(numbers) >= 20


def test_an_enqueued_trial_is_taken_once_and_before_a_new_one(bench: Bench) -> None:
    bench.set(num_trials=4)
    bench.enter(*(f"w{at}" for at in range(6)))
    for at in range(2):
        bench.joined.study.enqueue_trial({"x": at})
    taken = [each for each in at_once(6, lambda at: bench.try_to_take(f"w{at}")) if isinstance(each, ClaimedTrial)]
    assert sorted((each.number, each.is_new) for each in taken) == [(0, False), (1, False), (2, True), (3, True)]


def test_a_list_ends_when_its_trials_do(bench: Bench) -> None:
    bench.enter("w")
    bench.joined.study.enqueue_trial({"x": 1})
    assert bench.take("w", has_given_trials=True).number == 0
    assert bench.try_to_take("w", has_given_trials=True) == "spent" and len(bench.states()) == 1
    bench.joined.study.enqueue_trial({"x": 2})
    assert bench.take("w", has_given_trials=True).number == 1


# Who


def test_a_worker_that_nobody_knows_takes_nothing(bench: Bench) -> None:
    bench.set(num_trials=1)
    with pytest.raises(WorkerRemoved):
        bench.try_to_take("stranger")
    bench.enter("w")
    claims.release_worker(bench.engine, "w", died=True)
    with pytest.raises(WorkerRemoved):
        bench.try_to_take("w")
    assert bench.states() == {} and bench.num_claims() == 0


def test_a_deleted_study_gives_nothing_even_when_another_has_its_number(bench: Bench) -> None:
    bench.enter("w")
    bench.joined.storage.delete_study(bench.id)
    with pytest.raises(StudyDeleted):
        bench.try_to_take("w")
    with opened_bench(bench.url, "other") as other:  # SQLite gives it the same number
        with pytest.raises(StudyDeleted):
            bench.try_to_take("w")
        assert other.states() == {}


def test_two_hosts_that_release_one_worker_count_one_death(bench: Bench) -> None:
    bench.enter("slow")
    held = bench.take("slow").trial_id
    released = at_once(6, lambda at: claims.release_worker(bench.engine, "slow", died=True))
    assert sorted(released) == [[]] * 5 + [[held]]
    assert (bench.claim(0).deaths, bench.claim(0).worker, bench.claim(0).state) == (1, None, "WAITING")
    assert bench.workers() == []


def test_a_late_release_does_not_touch_the_next_owner(bench: Bench) -> None:
    bench.enter("slow", "next")
    held = bench.take("slow")
    claims.release_worker(bench.engine, "slow", died=True)
    bench.take("next")
    assert claims.release_worker(bench.engine, "slow", died=True) == []
    claims.put_back_trial(bench.engine, held.trial_id, "slow")
    assert (bench.claim(0).state, bench.claim(0).worker, bench.claim(0).deaths) == ("RUNNING", "next", 1)


def test_a_finished_trial_stays_with_the_worker_that_made_it(bench: Bench) -> None:
    bench.enter("w")
    bench.write(bench.take("w"), "w", PendingWrites(end=("COMPLETE", 0.5)))
    assert claims.release_worker(bench.engine, "w", died=True) == []
    assert (bench.claim(0).state, bench.claim(0).worker) == ("COMPLETE", "w")


def test_why_a_trial_is_lost_is_said(bench: Bench) -> None:
    bench.enter("w", "other")
    held = bench.take("w").trial_id
    claims.check_claim(bench.engine, held, "w")
    with pytest.raises(TrialLost, match="another worker"):
        claims.check_claim(bench.engine, held, "other")
    bench.joined.storage.set_trial_state_values(held, optuna.trial.TrialState.FAIL)
    with pytest.raises(TrialLost, match="FAIL"):
        claims.check_claim(bench.engine, held, "w")
    bench.joined.storage.delete_study(bench.id)
    with pytest.raises(TrialLost, match="deleted"):
        claims.check_claim(bench.engine, held, "w")


def test_workers_are_numbered_in_the_order_they_joined(bench: Bench) -> None:
    sessions = [bench.session(f"w{at}") for at in range(8)]
    assert sorted(at_once(8, lambda at: sessions[at].register())) == list(range(8))
    assert bench.workers() == [f"w{at}" for at in range(8)]


# What was deleted


def test_a_deleted_trial_frees_its_slot_and_its_number_of_rows_may_come_back(bench: Bench) -> None:
    bench.set(num_trials=1)
    bench.enter("w")
    taken = bench.take("w")
    bench.write(taken, "w", PendingWrites(epochs={1: row(1)}))
    assert bench.try_to_take("w") == "spent" and claims.is_finished(bench.engine, bench.id)
    bench.delete(taken.number)
    assert not claims.is_finished(bench.engine, bench.id)
    again = bench.take("w")  # SQLite gives it the id of the deleted trial
    assert (again.number, again.attempt) == (0, 1)
    mine = sa.select(epoch_table).where(epoch_table.c.trial_id == again.trial_id)
    assert bench.rows(mine) == [] and bench.try_to_take("w") == "spent"
    claims.delete_orphaned_claims(bench.engine, bench.id)
    assert bench.num_claims() == 1


def test_a_new_study_inherits_nothing_of_a_deleted_one(bench: Bench) -> None:
    bench.enter("w")
    bench.write(bench.take("w"), "w", PendingWrites(epochs={1: row(1)}))
    bench.set(num_trials=1, stops=3, paused=1, gpu_seconds=5.0, clock_seconds=5.0)
    bench.joined.storage.delete_study(bench.id)
    with opened_bench(bench.url) as again:
        study = again.study()
        assert (study.num_trials, study.stops, study.paused) == (None, 0, 0)
        assert (study.gpu_seconds, study.clock_seconds, study.num_workers) == (0, 0, 0)
        again.enter("w")
        assert again.take("w").number == 0 and again.rows(sa.select(epoch_table)) == []
        assert len(again.rows(sa.select(study_table))) == 1


# Hours


def test_the_clock_counts_once_however_many_work_and_stands_still_when_nobody_does(bench: Bench) -> None:
    bench.set(hours=1.0)
    threads = [bench.session(name).sync for name in bench.enter("a", "b", "c")]
    threads[0].send_heartbeat()
    first = bench.study().clock_at
    for _ in range(3):
        for sync in threads:
            sync.send_heartbeat()
    now = bench.study()
    assert now.clock_seconds == pytest.approx(now.clock_at - first, abs=1e-3)
    bench.set(clock_at=now.clock_at - 3600)  # all were away for an hour
    (restarted,) = bench.enter("d")
    sync = bench.session(restarted).sync
    sync.send_heartbeat()
    assert bench.study().clock_seconds == now.clock_seconds and not sync.budget.is_spent


def test_when_the_hours_are_spent_nothing_goes_on_until_there_are_more(bench: Bench) -> None:
    bench.set(hours=2.0, clock_seconds=7200.0)
    bench.enter("w")
    session = bench.session("w")
    assert bench.try_to_take("w") == "spent" and claims.is_finished(bench.engine, bench.id)
    session.sync.send_heartbeat()
    assert session.should_leave()
    budget.set_budget(bench.engine, bench.id, hours=3.0)
    bench.take("w")
    assert not claims.is_finished(bench.engine, bench.id)


def test_gpu_hours_are_granted_exactly_and_never_beyond(bench: Bench) -> None:
    limit = 5.5 * SLICE_SECONDS
    bench.set(gpu_hours=limit / 3600)
    hours = [bench.session(name).sync.budget for name in bench.enter(*(f"w{at}" for at in range(9)))]
    at_once(9, lambda at: hours[at].take_slice())
    granted = sorted(each.granted for each in hours)
    assert granted == pytest.approx([0, 0, 0, SLICE_SECONDS / 2, *[SLICE_SECONDS] * 5])
    assert bench.study().gpu_seconds == pytest.approx(limit)
    assert bench.try_to_take("w0") == "spent"


def test_a_worker_with_a_part_of_a_gpu_is_granted_that_part(bench: Bench) -> None:
    bench.set(gpu_hours=1.0)
    bench.enter("w")
    half = bench.session("w", gpu_share=0.5).sync.budget
    half.take_slice()
    assert half.granted == SLICE_SECONDS / 2


def granted(bench: Bench, name: str, used: float) -> SyncThread:
    """A worker with a granted slice of which so much is used."""
    bench.enter(name)
    sync = bench.session(name).sync
    sync.budget.take_slice()
    sync.budget.used = used
    sync.send_heartbeat()
    return sync


def test_what_was_granted_and_not_used_goes_back_also_of_the_dead(bench: Bench) -> None:
    bench.set(gpu_hours=1.0)
    granted(bench, "left", 5.0), granted(bench, "died", 12.5)
    assert budget.read_budget(bench.engine, bench.id).spent.gpu_hours == pytest.approx(17.5 / 3600)
    assert bench.study().gpu_seconds == 2 * SLICE_SECONDS
    claims.release_worker(bench.engine, "left", died=False)
    claims.release_worker(bench.engine, "died", died=True)
    claims.release_worker(bench.engine, "died", died=True)
    assert bench.study().gpu_seconds == pytest.approx(17.5)
    assert budget.read_budget(bench.engine, bench.id).spent.gpu_hours == pytest.approx(17.5 / 3600)


def test_two_hosts_that_release_one_worker_give_its_grant_back_once(bench: Bench) -> None:
    bench.set(gpu_hours=1.0)
    for at in range(6):
        granted(bench, f"w{at}", 12.5)
        at_once(4, lambda _, name=f"w{at}": claims.release_worker(bench.engine, name, died=True))
        assert bench.study().gpu_seconds == pytest.approx(12.5 * (at + 1))


def test_a_worker_beside_the_first_on_a_gpu_leaves_when_the_gpu_hours_are_spent(bench: Bench) -> None:
    bench.set(gpu_hours=1.0)
    bench.enter("w")
    session = bench.session("w", gpu_share=0.0)
    session.sync.send_heartbeat()
    assert not session.should_leave()
    bench.set(gpu_seconds=3600.0)
    session.sync.send_heartbeat()
    assert session.should_leave()


def test_hours_pass_before_they_are_limited(bench: Bench) -> None:
    syncs = [bench.session(name).sync for name in bench.enter("a", "b")]
    syncs[0].send_heartbeat()
    bench.set(clock_at=bench.study().clock_at - 4)
    for sync in syncs:
        sync.send_heartbeat()
    assert 4 <= bench.study().clock_seconds < 6 and not any(sync.budget.is_spent for sync in syncs)
    budget.set_budget(bench.engine, bench.id, hours=3 / 3600)
    assert budget.read_budget(bench.engine, bench.id).spent.hours == pytest.approx(4 / 3600, rel=0.5)
    for sync in syncs:
        sync.send_heartbeat()
    assert all(sync.budget.is_spent for sync in syncs)


def test_a_pause_spends_no_hours(bench: Bench) -> None:
    bench.set(hours=1.0, paused=1)
    bench.enter("w")
    sync = bench.session("w").sync
    sync.send_heartbeat()
    bench.set(clock_at=bench.study().clock_at - 3)
    sync.send_heartbeat()
    assert bench.study().clock_seconds == 0
    bench.set(paused=0, clock_at=bench.study().clock_at - 3)
    sync.send_heartbeat()
    assert bench.study().clock_seconds == pytest.approx(3, abs=1)


def test_what_was_used_beyond_the_grant_is_charged(bench: Bench) -> None:
    """The database is away for a while, and training continues."""
    bench.set(gpu_hours=1.0)
    granted(bench, "w", 3 * SLICE_SECONDS)
    assert budget.read_budget(bench.engine, bench.id).spent.gpu_hours == pytest.approx(3 * SLICE_SECONDS / 3600)
    claims.release_worker(bench.engine, "w", died=False)
    assert bench.study().gpu_seconds == pytest.approx(3 * SLICE_SECONDS)


def test_a_limit_set_on_workers_that_have_run_for_long_counts_what_they_used(bench: Bench) -> None:
    bench.enter("w")
    session = bench.session("w")
    hours = session.sync.budget
    session.update_status(number=0)
    hours.used, hours.counted_at = 600.0, time.monotonic()
    bench.set(gpu_hours=1.0)
    session.sync.send_heartbeat()
    assert not hours.is_spent and hours.left == pytest.approx(SLICE_SECONDS) and hours.granted > 600
    bench.set(gpu_hours=0.1)
    hours.used = hours.granted
    session.sync.send_heartbeat()
    assert hours.is_spent and session.should_leave()


def test_time_is_used_only_while_a_trial_is_in_hand(bench: Bench) -> None:
    hours = bench.session("w").sync.budget
    hours.count_time(busy=False), hours.count_time(busy=False)
    assert hours.used == 0
    hours.count_time(busy=True)
    assert hours.used == 0
    hours.count_time(busy=False)
    used = hours.used
    assert used > 0
    hours.count_time(busy=True)
    assert hours.used == used


def test_both_kinds_of_hours_are_kept_over_a_restart(bench: Bench) -> None:
    bench.set(hours=1.0, gpu_hours=1.0, clock_seconds=10.0, gpu_seconds=20.0)
    with opened_bench(bench.url) as again:
        spent = budget.read_budget(again.engine, again.id).spent
        assert (spent.hours, spent.gpu_hours) == pytest.approx((10 / 3600, 20 / 3600))
        assert budget.read_budget(again.engine, again.id).budget == budget.Budget(None, 1.0, 1.0)
