"""Sessions of workers with trials that train nothing: one, two on one study, with a pruner."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import pytest
from helpers.command_line import wait_for
from helpers.schedulers import Asked
from helpers.sessions import Bench, chosen, chosen_or_none, epochs_of, opened_bench, row, taken, written
from optuna.trial import TrialState

from tuner.errors import FailureKind, StudyError, TrialLost
from tuner.search.samplers import make_sampler
from tuner.search.scheduling import make_scheduler
from tuner.search.session import Session
from tuner.study import claims
from tuner.study.claims import WorkerRemoved


@pytest.fixture
def bench(prepared_url: str) -> Iterator[Bench]:
    with opened_bench(prepared_url) as made:
        yield made


# One worker


def test_what_a_worker_does_stands_in_the_database_when_its_desk_is_left(bench: Bench) -> None:
    bench.set(num_trials=3)
    done: list[int] = []
    with bench.session("w") as session:
        while held := session.take_trial():
            number = held.number
            trial = session.optuna_trial(held)
            trial.suggest_float("lr", 0.0, 1.0)
            trial.set_user_attr("recipe", {"number": number})
            session.confirm_params(held)
            for epoch in (1, 2, 3):
                assert session.check_signal(held) == ""
                session.record_epoch(held, row(epoch, epoch / 10 + number))
            session.end_trial(held, "COMPLETE", 0.3 + number, lambda number=number: done.append(number))
    assert done == [0, 1, 2] and bench.workers() == []
    for number, trial in enumerate(bench.trials()):
        assert (trial.number, trial.state, trial.value) == (number, TrialState.COMPLETE, 0.3 + number)
        assert trial.user_attrs == {"recipe": {"number": number}} and set(trial.params) == {"lr"}
        assert trial.intermediate_values == {epoch: epoch / 10 + number for epoch in (1, 2, 3)}
        assert epochs_of(bench, number) == [1, 2, 3]


def test_an_epoch_without_a_value_is_recorded_and_not_reported(bench: Bench) -> None:
    with bench.session("w") as session:
        held = chosen(session)
        session.record_epoch(held, row(1, None))
        session.record_epoch(held, row(2, 0.5))
        session.end_trial(held, "COMPLETE", 0.5)
    assert epochs_of(bench, 0) == [1, 2] and bench.trials()[0].intermediate_values == {2: 0.5}


def test_what_is_in_hand_when_an_error_ends_the_worker_is_put_back_with_all_that_was_said(bench: Bench) -> None:
    with pytest.raises(OSError, match="disk"), bench.session("w") as session:
        held = chosen(session)
        session.record_epoch(held, row(1))
        raise OSError("the disk is full")
    assert bench.states() == {0: "WAITING"} and epochs_of(bench, 0) == [1]
    assert (bench.claim(0).worker, bench.claim(0).deaths, bench.workers()) == (None, 0, [])


def test_a_trial_put_back_goes_on_with_all_that_stood_of_it(bench: Bench) -> None:
    with bench.session("a") as session:
        held = chosen(session)
        params = dict(held.frozen.params)
        session.record_epoch(held, row(1))
        session.put_back_trial(held)
        assert bench.states() == {0: "WAITING"} and epochs_of(bench, 0) == [1]
    with opened_bench(bench.url) as again, again.session("b") as session:
        held = taken(session)
        assert (held.number, held.attempt, held.frozen.params) == (0, 2, params)
        assert session.optuna_trial(held).suggest_float("lr", 0.0, 1.0) == params["lr"]
        session.record_epoch(held, row(1))
        session.record_epoch(held, row(2))
        session.end_trial(held, "COMPLETE", 0.5)
    assert epochs_of(bench, 0) == [1, 2] and bench.trials()[0].params == params


def test_parameters_are_written_when_they_are_chosen_and_not_before(bench: Bench) -> None:
    """Before that, they may be drawn again."""
    bench.enter("w")
    session = bench.session("w")
    held = taken(session)
    trial = session.optuna_trial(held)
    first = trial.suggest_float("lr", 0.0, 1.0)
    session.sync.write_all()
    assert bench.trials()[0].params == {}
    session.storage.forget_params(held.id)
    second = session.optuna_trial(held).suggest_float("lr", 0.0, 1.0)
    session.confirm_params(held)
    session.sync.write_all()
    assert first != second and bench.trials()[0].params == {"lr": second}
    session.release_trial()


def test_the_next_trial_is_drawn_knowing_the_end_of_the_last_one(bench: Bench) -> None:
    """The end counts before it is written: otherwise a single worker would draw differently each time."""
    bench.enter("w")
    session = bench.session("w")
    held = chosen(session)
    session.record_epoch(held, row(1, 0.75))
    session.end_trial(held, "COMPLETE", 0.75)
    following = taken(session)
    seen = session.joined.study.get_trials()
    assert [(trial.number, trial.state, trial.value) for trial in seen] == [
        (0, TrialState.COMPLETE, 0.75),
        (1, TrialState.RUNNING, None),
    ]
    assert seen[0].params and seen[0].intermediate_values == {1: 0.75}
    assert bench.states() == {0: "RUNNING", 1: "RUNNING"}
    assert session.joined.study.get_trials(states=(TrialState.COMPLETE,))[0].number == 0
    session.sync.write_all()
    assert bench.states() == {0: "COMPLETE", 1: "RUNNING"}
    assert [trial.value for trial in session.joined.study.get_trials()] == [0.75, None]
    session.drop_trial(following)


def draw(url: str, number: int) -> list[dict[str, Any]]:
    """Return all parameters that a single worker draws in a new study."""
    with opened_bench(url, "drawn", seed=3) as bench:
        bench.set(num_trials=number)
        with bench.session("w") as session:
            session.joined.study.sampler = make_sampler(session.joined.info, session.ordinal)
            while held := session.take_trial():
                x = session.optuna_trial(held).suggest_float("x", 0.0, 1.0)
                session.confirm_params(held)
                session.end_trial(held, "COMPLETE", -((x - 0.3) ** 2))
        return [trial.params for trial in bench.trials()]


def test_one_worker_with_one_seed_draws_the_same_study_twice(tmp_path: Path) -> None:
    """After the random trials, each draw depends on the ends of the trials before."""
    one, other = (draw(f"sqlite:///{tmp_path / name}.db", 16) for name in ("one", "other"))
    assert one == other and len({trial["x"] for trial in one}) == 16


@pytest.mark.parametrize("value", [math.nan, None])
def test_a_value_that_is_no_number_fails_its_trial_and_the_study_goes_on(
    bench: Bench, value: float | None
) -> None:
    bench.set(num_trials=13)
    with bench.session("w") as session:
        session.joined.study.sampler = make_sampler(session.joined.info, session.ordinal)
        while held := chosen_or_none(session):
            session.record_epoch(held, row(1, value if held.number == 0 else held.number / 10))
            session.end_trial(held, "COMPLETE", value if held.number == 0 else held.number / 10)
    first, *others = bench.trials()
    assert first.state is TrialState.FAIL and "not a number" in first.user_attrs["failure"]
    assert first.user_attrs["failure_kind"] == FailureKind.VALUE_NOT_A_NUMBER
    assert {trial.state for trial in others} == {TrialState.COMPLETE}
    assert bench.joined.study.best_trial.number == 12


# Two workers


@contextmanager
def two(bench: Bench) -> Iterator[tuple[Session, Session]]:
    """Yield the sessions of two workers with separate Optuna studies, as in two processes."""
    with opened_bench(bench.url) as again, bench.session("a") as one, again.session("b") as other:
        yield one, other


def give(bench: Bench, number: int, worker: str) -> None:
    bench.execute(f"UPDATE tuner_claim SET worker = '{worker}' WHERE slot = {number + 1}")


def test_two_workers_share_a_study_and_meet_no_number_twice(bench: Bench) -> None:
    bench.set(num_trials=12)
    with two(bench) as sessions:

        def work(session: Session) -> None:
            while held := chosen_or_none(session):
                session.record_epoch(held, row(1, held.number / 10))
                session.end_trial(held, "COMPLETE", held.number / 10)

        threads = [threading.Thread(target=work, args=(session,)) for session in sessions]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
    assert [(t.number, t.state, t.value) for t in bench.trials()] == [
        (number, TrialState.COMPLETE, number / 10) for number in range(12)
    ]


def test_what_one_lost_to_the_other_is_dropped_quietly(bench: Bench) -> None:
    """The worker trains on, and notices at its next step."""
    with two(bench) as (slow, _):
        held = chosen(slow)
        written(held)
        give(bench, 0, "b")
        slow.record_epoch(held, row(1))
        wait_for(lambda: held.lost)
        with pytest.raises(TrialLost, match="another worker"):
            slow.check_signal(held)
        slow.drop_trial(held)
        assert epochs_of(bench, 0) == [] and bench.claim(0).worker == "b"
        again = chosen(slow)
        assert again.number == 1
        slow.end_trial(again, "COMPLETE", 0.5)
    assert bench.states()[1] == "COMPLETE"


def test_the_result_of_a_lost_trial_is_not_taken(
    bench: Bench, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The slow worker ends the trial without having noticed that it was lost."""
    monkeypatch.setattr(logging.getLogger("tuner"), "propagate", True)
    caplog.set_level("INFO", "tuner")
    done: list[str] = []
    with two(bench) as (slow, quick):
        held = written(chosen(slow))
        claims.put_back_trial(bench.engine, held.id, "a")
        mine = taken(quick)
        assert (mine.number, mine.attempt) == (0, 2)
        slow.end_trial(held, "COMPLETE", 0.1, lambda: done.append("slow"))
        wait_for(lambda: held.lost)
        quick.end_trial(mine, "COMPLETE", 0.9, lambda: done.append("quick"))
        following = chosen(slow)
        assert following.number == 1
        slow.end_trial(following, "COMPLETE", 0.5)
    assert [trial.value for trial in bench.trials()] == [0.9, 0.5] and done == ["quick"]
    assert "trial 0: dropped, it belongs to another worker" in caplog.text


def test_putting_back_what_was_lost_leaves_the_others_trial_alone(bench: Bench) -> None:
    with two(bench) as (slow, _):
        held = written(chosen(slow))
        give(bench, 0, "b")
        slow.record_epoch(held, row(1))
        slow.put_back_trial(held)
        assert (bench.claim(0).state, bench.claim(0).worker) == ("RUNNING", "b")
        assert slow.storage.active is None


def test_a_trial_that_was_deleted_is_dropped_and_the_next_one_taken(bench: Bench) -> None:
    with bench.session("w") as session:
        held = written(chosen(session))
        bench.delete(0)
        session.record_epoch(held, row(1))
        wait_for(lambda: held.lost)
        with pytest.raises(TrialLost, match="deleted"):
            session.check_signal(held)
        session.drop_trial(held)
        following = chosen(session)
        session.end_trial(following, "COMPLETE", 0.5)
    assert list(bench.states().values()) == ["COMPLETE"]


def test_who_was_given_up_for_dead_hears_of_it_and_leaves(bench: Bench) -> None:
    with pytest.raises(WorkerRemoved), bench.session("w") as session:
        held = chosen(session)
        written(held)
        claims.release_worker(bench.engine, "w", died=True)
        wait_for(lambda: session.check_signal(held) == "never")
    assert (bench.claim(0).state, bench.claim(0).deaths) == ("WAITING", 1)


def test_a_deleted_study_is_told(bench: Bench) -> None:
    with pytest.raises(StudyError, match="'s' was deleted"), bench.session("w") as session:
        optuna.delete_study(study_name="s", storage=bench.joined.storage)
        session.take_trial()


# The scheduler


def test_each_epoch_is_judged_as_it_stood_then_and_the_first_is_number_1(bench: Bench) -> None:
    """Also when three epochs end before the database has answered once."""
    bench.enter("w")
    session = bench.session("w")
    session.sync.scheduler = asked = Asked()
    held = chosen(session)
    for epoch in (1, 2, 3):
        session.record_epoch(held, row(epoch, epoch / 10))
    session.record_epoch(held, row(4, None))
    session.record_epoch(held, row(5, 0.5), judge=False)
    session.sync.write_all()
    assert asked.seen == [{1: 0.1}, {1: 0.1, 2: 0.2}, {1: 0.1, 2: 0.2, 3: 0.3}]
    assert session.check_signal(held) == ""
    session.release_trial()


def test_a_trial_worse_than_its_rung_is_told_so_and_its_value_is_its_last(bench: Bench) -> None:
    """The study's own scheduler stops a bad trial after its first epoch."""
    with bench.session("w") as session:
        session.sync.scheduler = make_scheduler(session.joined.info)
        good = chosen(session)
        for epoch in (1, 2, 3):
            session.record_epoch(good, row(epoch, 0.9))
        wait_for(lambda: not good.unjudged)
        assert session.check_signal(good) == ""
        session.end_trial(good, "COMPLETE", 0.9)
        bad = chosen(session)
        session.record_epoch(bad, row(1, 0.2))
        wait_for(lambda: session.check_signal(bad) == "pruned")
        session.record_epoch(bad, row(2, 0.1))
        session.end_trial(bad, "PRUNED")
    trial = bench.trials()[1]
    assert (trial.state, trial.value, trial.user_attrs) == (TrialState.PRUNED, 0.1, {"pruned_at": 1})


def test_a_verdict_outlives_the_worker_that_heard_it(bench: Bench) -> None:
    """The decision to prune is stored, because a full disk may delay the trial's files."""
    with bench.session("a") as session:
        session.sync.scheduler = Asked(answer_at=1)
        held = chosen(session)
        session.record_epoch(held, row(1))
        wait_for(lambda: session.check_signal(held) == "pruned")
        session.put_back_trial(held)
    with opened_bench(bench.url) as again, again.session("b") as session:
        held = taken(session)
        assert held.attempt == 2 and session.check_signal(held) == "pruned"


def test_ended_at_once_after_each_epoch_nothing_trips(bench: Bench) -> None:
    """The main thread releases a trial while the sync thread uses it."""
    bench.set(num_trials=60)
    with bench.session("w") as session:
        session.sync.scheduler = make_scheduler(session.joined.info)
        while held := chosen_or_none(session):
            for epoch in range(1, 1 + held.number % 5):
                session.record_epoch(held, row(epoch, held.number / 100))
            state = "PRUNED" if session.check_signal(held) == "pruned" else "COMPLETE"
            session.end_trial(held, state, held.number / 100)  # type: ignore[arg-type]
    assert session.sync.failure is None and not session.storage.unwritten
    assert set(bench.states().values()) <= {"COMPLETE", "PRUNED"} and len(bench.states()) == 60
    for number in range(60):
        assert epochs_of(bench, number) == list(range(1, 1 + number % 5))
