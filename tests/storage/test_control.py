"""Stop, pause and resume are stored in the database and leave other studies alone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from helpers.sessions import Bench, opened_bench

from tuner.errors import StudyError
from tuner.study import budget, claims, control
from tuner.study.budget import Budget, BudgetUse
from tuner.study.control import ControlState
from tuner.study.pending import PendingWrites


@pytest.fixture
def bench(prepared_url: str) -> Iterator[Bench]:
    with opened_bench(prepared_url) as made:
        yield made


def standing(bench: Bench) -> ControlState:
    return control.read_control_state(bench.engine, bench.id)


def test_to_begin_with_nothing_is_asked(bench: Bench) -> None:
    assert standing(bench) == ControlState(0, False)
    assert control.read_control_state(bench.engine, bench.id + 99) == ControlState(0, False)


def test_a_stop_is_counted_and_ends_a_pause(bench: Bench) -> None:
    bench.enter("a", "b")
    control.set_paused(bench.engine, bench.id, True)
    assert control.stop_workers(bench.engine, bench.id) == 2
    assert standing(bench) == ControlState(1, False)
    claims.release_worker(bench.engine, "a", died=False)
    assert control.stop_workers(bench.engine, bench.id) == 1
    assert standing(bench) == ControlState(2, False)


def test_a_pause_lasts_until_it_is_ended(bench: Bench) -> None:
    bench.enter("a")
    assert control.set_paused(bench.engine, bench.id, True) == 1
    assert control.set_paused(bench.engine, bench.id, True) == 1
    assert standing(bench) == ControlState(0, True)
    assert control.set_paused(bench.engine, bench.id, False) == 1
    assert standing(bench) == ControlState(0, False)


def test_another_study_is_left_alone(bench: Bench) -> None:
    with opened_bench(bench.url, "other") as other:
        other.enter("w")
        taken = other.take("w")
        assert control.stop_workers(bench.engine, bench.id) == 0
        assert control.set_paused(bench.engine, bench.id, True) == 0
        budget.set_budget(bench.engine, bench.id, num_trials=1)
        assert standing(other) == ControlState(0, False)
        assert budget.read_budget(other.engine, other.id).budget == Budget()
        with pytest.raises(StudyError, match="none yet"):
            control.stop_trial(bench.engine, bench.id, taken.number)
        assert other.claim(taken.number).wanted == ""


# One trial


def test_a_trial_that_runs_is_wanted_to_stop_and_no_other(bench: Bench) -> None:
    bench.enter("a", "b")
    bench.take("a"), bench.take("b")
    control.stop_trial(bench.engine, bench.id, 1)
    assert [bench.claim(number).wanted for number in (0, 1)] == ["", "stop"]


def test_a_trial_that_was_put_back_tells_the_next_who_takes_it(bench: Bench) -> None:
    bench.enter("a", "b")
    bench.take("a")
    claims.release_worker(bench.engine, "a", died=False)
    control.stop_trial(bench.engine, bench.id, 0)
    assert bench.take("b").wanted == "stop"


def test_what_cannot_be_stopped_is_told(bench: Bench) -> None:
    def refusal(number: int) -> str:
        with pytest.raises(StudyError) as told:
            control.stop_trial(bench.engine, bench.id, number)
        return str(told.value)

    assert "no trial 0: it has none yet" in refusal(0)
    bench.enter("w")
    bench.write(bench.take("w"), "w", PendingWrites(end=("COMPLETE", 0.5)))
    bench.joined.study.enqueue_trial({"x": 1})
    assert "trial 0 has already ended (complete)" in refusal(0)
    assert "trial 1 has not started yet" in refusal(1)
    assert "no trial 7: it has trials 0 to 1" in refusal(7)


# The budget


def test_limits_that_are_not_given_stay(bench: Bench) -> None:
    assert budget.read_budget(bench.engine, bench.id).budget == Budget() and not Budget().is_limited
    budget.set_budget(bench.engine, bench.id, num_trials=5, hours=None)
    budget.set_budget(bench.engine, bench.id, hours=1.5)
    budget.set_budget(bench.engine, bench.id, gpu_hours=0.25, num_trials=None)
    budget.set_budget(bench.engine, bench.id)
    assert budget.read_budget(bench.engine, bench.id).budget == Budget(5, 1.5, 0.25)
    budget.set_budget(bench.engine, bench.id, num_trials=3)
    found = budget.read_budget(bench.engine, bench.id).budget
    assert found == Budget(3, 1.5, 0.25) and found.is_limited
    assert budget.read_budget(bench.engine, bench.id + 99).budget == Budget()


def test_what_was_taken_is_counted_from_what_has_begun(bench: Bench) -> None:
    assert budget.read_budget(bench.engine, bench.id).spent == BudgetUse(0, 0.0, 0.0)
    bench.enter("w")
    bench.take("w"), bench.take("w")
    bench.joined.study.enqueue_trial({"x": 1})
    bench.set(clock_seconds=1800.0, gpu_seconds=3600.0)
    assert budget.read_budget(bench.engine, bench.id).spent == BudgetUse(2, 0.5, 1.0)
    claims.release_worker(bench.engine, "w", died=True)
    assert budget.read_budget(bench.engine, bench.id).spent.num_trials == 2
    assert budget.read_budget(bench.engine, bench.id + 99).spent == BudgetUse(0, 0.0, 0.0)
