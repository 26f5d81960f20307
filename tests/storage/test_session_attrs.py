"""Sessions: control from outside, attributes, and errors."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.command_line import environment, wait_for
from helpers.fork_server import run_code
from helpers.schedulers import Asked
from helpers.sessions import Bench, chosen, epochs_of, opened_bench, row, taken

from tuner.fleet.config import EXIT_GIVEN_UP
from tuner.search.samplers import make_sampler
from tuner.search.scheduler import Decision
from tuner.search.session import Session
from tuner.study import control, queries
from tuner.study.pending import ActiveTrial


@pytest.fixture
def bench(prepared_url: str) -> Iterator[Bench]:
    with opened_bench(prepared_url) as made:
        yield made


# Told from outside


def test_a_pause_puts_the_trial_back_and_lasts_until_it_is_ended(bench: Bench) -> None:
    with bench.session("w") as session:
        held = chosen(session)
        control.set_paused(bench.engine, bench.id, True)
        wait_for(lambda: session.check_signal(held) == "stopped")
        session.put_back_trial(held)
        got: list[ActiveTrial | None] = []
        waiting = threading.Thread(target=lambda: got.append(session.take_trial()))
        waiting.start()
        wait_for(lambda: bench.rows("SELECT state FROM tuner_worker") == [("paused",)])
        assert got == [] and bench.states() == {0: "WAITING"}
        control.set_paused(bench.engine, bench.id, False)
        waiting.join()
        (again,) = got
        assert again is not None and (again.number, again.attempt) == (0, 2)


def test_a_study_that_is_stopped_while_it_is_paused_lets_its_workers_go(bench: Bench) -> None:
    control.set_paused(bench.engine, bench.id, True)
    with bench.session("w") as session:
        got: list[ActiveTrial | None] = []
        waiting = threading.Thread(target=lambda: got.append(session.take_trial()))
        waiting.start()
        wait_for(lambda: bench.rows("SELECT state FROM tuner_worker") == [("paused",)])
        control.stop_workers(bench.engine, bench.id)
        waiting.join()
    assert got == [None] and bench.states() == {}


def test_a_stop_reaches_who_works_and_nobody_who_comes_later(bench: Bench) -> None:
    with bench.session("w") as session:
        held = chosen(session)
        assert control.stop_workers(bench.engine, bench.id) == 1
        wait_for(lambda: session.check_signal(held) == "stopped")
        session.put_back_trial(held)
        assert session.take_trial() is None
    with opened_bench(bench.url) as again, again.session("later") as session:
        held = taken(session)
        assert held.number == 0 and session.check_signal(held) == ""


def test_one_trial_is_ended_and_its_worker_goes_on(bench: Bench) -> None:
    with bench.session("w") as session:
        held = chosen(session)
        session.record_epoch(held, row(1, 0.25))
        control.stop_trial(bench.engine, bench.id, 0)
        wait_for(lambda: session.check_signal(held) == "pruned")
        assert held.wanted == "stop"
        session.end_trial(held, "PRUNED")
        following = chosen(session)
        assert following.number == 1 and session.check_signal(following) == ""
        session.end_trial(following, "COMPLETE", 0.5)
    assert bench.states() == {0: "PRUNED", 1: "COMPLETE"} and bench.trials()[0].value == 0.25


def test_a_trial_that_is_to_end_while_nobody_has_it_ends_with_the_next_who_takes_it(bench: Bench) -> None:
    with bench.session("a") as session:
        session.put_back_trial(chosen(session))
    control.stop_trial(bench.engine, bench.id, 0)
    with opened_bench(bench.url) as again, again.session("b") as session:
        assert session.check_signal(taken(session)) == "pruned"


def test_a_signal_to_one_worker_stops_it_alone(bench: Bench) -> None:
    told = threading.Event()
    session = Session(bench.joined, bench.session("w").identity, is_stopped=told.is_set)
    with session:
        held = chosen(session)
        assert session.check_signal(held) == ""
        told.set()
        assert session.check_signal(held) == "stopped"
        session.put_back_trial(held)
        assert session.take_trial() is None
    assert control.read_control_state(bench.engine, bench.id).stops == 0


def test_hours_that_are_spent_stop_the_worker_and_put_its_trial_back(bench: Bench) -> None:
    with bench.session("w") as session:
        held = chosen(session)
        bench.set(hours=1.0, clock_seconds=3600.0)
        wait_for(lambda: session.check_signal(held) == "stopped")
        session.put_back_trial(held)
        assert session.take_trial() is None
    assert bench.states() == {0: "WAITING"}


# The beat


def test_a_beat_says_where_the_worker_is(bench: Bench) -> None:
    with bench.session("w") as session:
        held = chosen(session)
        session.update_status(
            state="training", step=3, steps=9, value=0.5, params={"lr": 0.1}, peak_memory=3 * 2**40
        )
        info = queries.find_study(bench.engine, "s")
        worker = wait_for(lambda: [w for w in queries.read_summary(bench.engine, info).workers if w.step == 3])[0]
        assert (worker.worker, worker.number, worker.steps, worker.value) == ("w", held.number, 9, 0.5)
        assert (worker.state, worker.params, worker.peak_memory) == ("training", {"lr": 0.1}, 3 * 2**40)
        before = worker.beats
        wait_for(lambda: queries.read_summary(bench.engine, info).workers[0].beats > before)


# What goes wrong


class Broken(Asked):
    def judge(self, *_: object) -> Decision:
        raise ZeroDivisionError("a bug in a scheduler")


@pytest.mark.parametrize("ask", ["check", "take"])
def test_what_breaks_in_the_background_is_raised_where_the_work_is(bench: Bench, ask: str) -> None:
    with pytest.raises(ZeroDivisionError, match="a bug in a scheduler"), bench.session("w") as session:
        session.sync.scheduler = Broken()
        held = chosen(session)
        session.record_epoch(held, row(1))
        wait_for(lambda: session.sync.failure)
        if ask == "check":
            session.check_signal(held)
        session.put_back_trial(held)
        session.take_trial()
    assert bench.states() == {0: "WAITING"} and epochs_of(bench, 0) == [1]


def test_choices_that_changed_under_the_study_are_refused(bench: Bench) -> None:
    bench.set(num_trials=2)
    with bench.session("a") as session:
        held = taken(session)
        session.optuna_trial(held).suggest_categorical("loss", ["bce", "dice"])
        session.end_trial(held, "COMPLETE", 0.5)
    with opened_bench(bench.url) as again, again.session("b") as session:
        session.joined.study.sampler = make_sampler(session.joined.info, 1)
        held = taken(session)
        with pytest.raises(ValueError, match="dynamic value space"):
            session.optuna_trial(held).suggest_categorical("loss", ["bce", "focal"])


HANGING = """
import sys, time
from helpers.sessions import opened_bench, row
from tuner.fleet.config import WorkerSettings
terms = WorkerSettings(heartbeat_timeout=2.0, hang_timeout=2.0)
with opened_bench(sys.argv[1]) as bench, bench.session("w", terms) as session:
    held = session.take_trial()
    session.confirm_params(held)
    session.record_epoch(held, row(1))
    print("hangs", flush=True)
    def code_that_never_comes_back():
        time.sleep(120)
    code_that_never_comes_back()
"""


def test_a_worker_that_hangs_ends_itself_says_where_and_its_trial_is_put_back(
    bench: Bench, tmp_path: Path
) -> None:
    done = run_code(HANGING, bench.url, env=environment(tmp_path, PYTHONPATH=":".join(sys.path)))
    assert done.returncode == EXIT_GIVEN_UP, done.stderr
    assert "code_that_never_comes_back" in done.stderr
    assert (bench.claim(0).state, bench.claim(0).worker, bench.claim(0).deaths) == ("WAITING", None, 1)
    assert epochs_of(bench, 0) == [1] and bench.workers() == []
