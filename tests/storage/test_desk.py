"""Workers at their desks, with trials that train nothing: two on one study, told from outside, no database."""

from __future__ import annotations

import logging
import math
import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy as sa
from desks import Bench, opened_bench, row
from optuna.trial import TrialState
from proxy import Proxy
from servers import Postgres
from tiny import environment, wait_for

from tuner import claims, control, database, overview
from tuner.claims import WorkerUnknown
from tuner.clerk import Terms
from tuner.desk import Desk
from tuner.errors import StudyError, TrialLost
from tuner.orders import GIVEN_UP
from tuner.sampling import pruner, sampler
from tuner.storage import Held


@pytest.fixture
def bench(storage_url: str) -> Iterator[Bench]:
    with opened_bench(storage_url) as made:
        yield made


def taken(desk: Desk) -> Held:
    held = desk.take()
    assert held is not None
    return held


def chosen(desk: Desk, **changes: object) -> Held:
    """A trial in hand with its parameters."""
    held = taken(desk)
    desk.trial(held).suggest_float("lr", 0.0, 1.0)
    desk.chosen(held)
    return held


def written(held: Held) -> Held:
    """Wait until the clerk has written all that was said of it."""
    wait_for(lambda: not held.page and held.pen.acquire(blocking=False) and held.pen.release() is None)
    return held


def epochs_of(bench: Bench, number: int) -> list[int]:
    query = "SELECT e.epoch FROM tuner_epoch e JOIN trials t ON t.trial_id = e.trial_id WHERE t.number = "
    return [each.epoch for each in bench.rows(f"{query} {number} ORDER BY e.epoch")]


# One worker


def test_what_a_worker_does_stands_in_the_database_when_its_desk_is_left(bench: Bench) -> None:
    bench.set(num_trials=3)
    done: list[int] = []
    with bench.desk("w") as desk:
        while held := desk.take():
            number = held.number
            trial = desk.trial(held)
            trial.suggest_float("lr", 0.0, 1.0)
            trial.set_user_attr("recipe", {"number": number})
            desk.chosen(held)
            for epoch in (1, 2, 3):
                assert desk.says(held) == ""
                desk.epoch(held, row(epoch, epoch / 10 + number))
            desk.end(held, "COMPLETE", 0.3 + number, lambda number=number: done.append(number))
    assert done == [0, 1, 2] and bench.workers() == []
    for number, trial in enumerate(bench.trials()):
        assert (trial.number, trial.state, trial.value) == (number, TrialState.COMPLETE, 0.3 + number)
        assert trial.user_attrs == {"recipe": {"number": number}} and set(trial.params) == {"lr"}
        assert trial.intermediate_values == {epoch: epoch / 10 + number for epoch in (1, 2, 3)}
        assert epochs_of(bench, number) == [1, 2, 3]


def test_an_epoch_without_a_value_is_recorded_and_not_reported(bench: Bench) -> None:
    with bench.desk("w") as desk:
        held = chosen(desk)
        desk.epoch(held, row(1, None))
        desk.epoch(held, row(2, 0.5))
        desk.end(held, "COMPLETE", 0.5)
    assert epochs_of(bench, 0) == [1, 2] and bench.trials()[0].intermediate_values == {2: 0.5}


def test_what_is_in_hand_when_an_error_ends_the_worker_is_put_back_with_all_that_was_said(bench: Bench) -> None:
    with pytest.raises(OSError, match="disk"), bench.desk("w") as desk:
        held = chosen(desk)
        desk.epoch(held, row(1))
        raise OSError("the disk is full")
    assert bench.states() == {0: "WAITING"} and epochs_of(bench, 0) == [1]
    assert (bench.claim(0).worker, bench.claim(0).deaths, bench.workers()) == (None, 0, [])


def test_a_trial_put_back_goes_on_with_all_that_stood_of_it(bench: Bench) -> None:
    with bench.desk("a") as desk:
        held = chosen(desk)
        params = dict(held.frozen.params)
        desk.epoch(held, row(1))
        desk.put_back(held)
        assert bench.states() == {0: "WAITING"} and epochs_of(bench, 0) == [1]
    with opened_bench(bench.url) as again, again.desk("b") as desk:
        held = taken(desk)
        assert (held.number, held.attempt, held.frozen.params) == (0, 2, params)
        assert desk.trial(held).suggest_float("lr", 0.0, 1.0) == params["lr"]
        desk.epoch(held, row(1))
        desk.epoch(held, row(2))
        desk.end(held, "COMPLETE", 0.5)
    assert epochs_of(bench, 0) == [1, 2] and bench.trials()[0].params == params


def test_parameters_are_written_when_they_are_chosen_and_not_before(bench: Bench) -> None:
    """Until then they may be drawn anew."""
    bench.enter("w")
    desk = bench.desk("w")
    held = taken(desk)
    trial = desk.trial(held)
    first = trial.suggest_float("lr", 0.0, 1.0)
    desk.clerk.write_pages()
    assert bench.trials()[0].params == {}
    desk.storage.forget_params(held.id)
    second = desk.trial(held).suggest_float("lr", 0.0, 1.0)
    desk.chosen(held)
    desk.clerk.write_pages()
    assert first != second and bench.trials()[0].params == {"lr": second}
    desk.let_go()


def test_the_next_trial_is_drawn_knowing_the_end_of_the_last_one(bench: Bench) -> None:
    """Before it is written: else a worker alone would draw differently each time."""
    bench.enter("w")
    desk = bench.desk("w")
    held = chosen(desk)
    desk.epoch(held, row(1, 0.75))
    desk.end(held, "COMPLETE", 0.75)
    following = taken(desk)
    seen = desk.joined.study.get_trials()
    assert [(trial.number, trial.state, trial.value) for trial in seen] == [
        (0, TrialState.COMPLETE, 0.75),
        (1, TrialState.RUNNING, None),
    ]
    assert seen[0].params and seen[0].intermediate_values == {1: 0.75}
    assert bench.states() == {0: "RUNNING", 1: "RUNNING"}
    assert desk.joined.study.get_trials(states=(TrialState.COMPLETE,))[0].number == 0
    desk.clerk.write_pages()
    assert bench.states() == {0: "COMPLETE", 1: "RUNNING"}
    assert [trial.value for trial in desk.joined.study.get_trials()] == [0.75, None]
    desk.drop(following)


def draw(url: str, number: int) -> list[dict[str, Any]]:
    """The parameters of a whole study that one worker drew."""
    with opened_bench(url, "drawn", seed=3) as bench:
        bench.set(num_trials=number)
        with bench.desk("w") as desk:
            desk.joined.study.sampler = sampler(desk.joined.plan, desk.ordinal)
            while held := desk.take():
                x = desk.trial(held).suggest_float("x", 0.0, 1.0)
                desk.chosen(held)
                desk.end(held, "COMPLETE", -((x - 0.3) ** 2))
        return [trial.params for trial in bench.trials()]


def test_one_worker_with_one_seed_draws_the_same_study_twice(tmp_path: Path) -> None:
    """Beyond the random ones, where each trial hangs on the ends of those before."""
    one, other = (draw(f"sqlite:///{tmp_path / name}.db", 16) for name in ("one", "other"))
    assert one == other and len({trial["x"] for trial in one}) == 16


@pytest.mark.parametrize("value", [math.nan, None])
def test_a_value_that_is_no_number_fails_its_trial_and_the_study_goes_on(
    bench: Bench, value: float | None
) -> None:
    bench.set(num_trials=13)
    with bench.desk("w") as desk:
        desk.joined.study.sampler = sampler(desk.joined.plan, desk.ordinal)
        while held := chosen_or_none(desk):
            desk.epoch(held, row(1, value if held.number == 0 else held.number / 10))
            desk.end(held, "COMPLETE", value if held.number == 0 else held.number / 10)
    first, *others = bench.trials()
    assert first.state is TrialState.FAIL and "not a number" in first.user_attrs["failure"]
    assert {trial.state for trial in others} == {TrialState.COMPLETE}
    assert bench.joined.study.best_trial.number == 12


def chosen_or_none(desk: Desk) -> Held | None:
    held = desk.take()
    if held:
        desk.trial(held).suggest_float("lr", 0.0, 1.0)
        desk.chosen(held)
    return held


# Two workers


@contextmanager
def two(bench: Bench) -> Iterator[tuple[Desk, Desk]]:
    """Two workers of two processes, as far as Optuna knows."""
    with opened_bench(bench.url) as again, bench.desk("a") as one, again.desk("b") as other:
        yield one, other


def give(bench: Bench, number: int, worker: str) -> None:
    bench.execute(f"UPDATE tuner_claim SET worker = '{worker}' WHERE slot = {number + 1}")


def test_two_workers_share_a_study_and_meet_no_number_twice(bench: Bench) -> None:
    bench.set(num_trials=12)
    with two(bench) as desks:

        def work(desk: Desk) -> None:
            while held := chosen_or_none(desk):
                desk.epoch(held, row(1, held.number / 10))
                desk.end(held, "COMPLETE", held.number / 10)

        threads = [threading.Thread(target=work, args=(desk,)) for desk in desks]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
    assert [(t.number, t.state, t.value) for t in bench.trials()] == [
        (number, TrialState.COMPLETE, number / 10) for number in range(12)
    ]


def test_what_one_lost_to_the_other_is_dropped_quietly(bench: Bench) -> None:
    """It trains on, and hears of it at its next step."""
    with two(bench) as (slow, _):
        held = chosen(slow)
        written(held)
        give(bench, 0, "b")
        slow.epoch(held, row(1))
        wait_for(lambda: held.lost)
        with pytest.raises(TrialLost, match="another worker"):
            slow.says(held)
        slow.drop(held)
        assert epochs_of(bench, 0) == [] and bench.claim(0).worker == "b"
        again = chosen(slow)
        assert again.number == 1
        slow.end(again, "COMPLETE", 0.5)
    assert bench.states()[1] == "COMPLETE"


def test_the_result_of_a_lost_trial_is_not_taken(
    bench: Bench, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The slow one comes to its end without having heard of anything."""
    monkeypatch.setattr(logging.getLogger("tuner"), "propagate", True)
    caplog.set_level("INFO", "tuner")
    done: list[str] = []
    with two(bench) as (slow, quick):
        held = written(chosen(slow))
        claims.hand_back(bench.engine, held.id, "a")
        mine = taken(quick)
        assert (mine.number, mine.attempt) == (0, 2)
        slow.end(held, "COMPLETE", 0.1, lambda: done.append("slow"))
        wait_for(lambda: held.lost)
        quick.end(mine, "COMPLETE", 0.9, lambda: done.append("quick"))
        following = chosen(slow)
        assert following.number == 1
        slow.end(following, "COMPLETE", 0.5)
    assert [trial.value for trial in bench.trials()] == [0.9, 0.5] and done == ["quick"]
    assert "trial 0: dropped, it belongs to another worker" in caplog.text


def test_putting_back_what_was_lost_leaves_the_others_trial_alone(bench: Bench) -> None:
    with two(bench) as (slow, _):
        held = written(chosen(slow))
        give(bench, 0, "b")
        slow.epoch(held, row(1))
        slow.put_back(held)
        assert (bench.claim(0).state, bench.claim(0).worker) == ("RUNNING", "b")
        assert slow.storage.held is None


def test_a_trial_that_was_deleted_is_dropped_and_the_next_one_taken(bench: Bench) -> None:
    with bench.desk("w") as desk:
        held = written(chosen(desk))
        bench.delete(0)
        desk.epoch(held, row(1))
        wait_for(lambda: held.lost)
        with pytest.raises(TrialLost, match="deleted"):
            desk.says(held)
        desk.drop(held)
        following = chosen(desk)
        desk.end(following, "COMPLETE", 0.5)
    assert list(bench.states().values()) == ["COMPLETE"]


def test_who_was_given_up_for_dead_hears_of_it_and_leaves(bench: Bench) -> None:
    with pytest.raises(WorkerUnknown), bench.desk("w") as desk:
        held = chosen(desk)
        written(held)
        claims.release(bench.engine, "w", died=True)
        wait_for(lambda: desk.says(held) == "never")
    assert (bench.claim(0).state, bench.claim(0).deaths) == ("WAITING", 1)


def test_a_deleted_study_is_told(bench: Bench) -> None:
    with pytest.raises(StudyError, match="'s' was deleted"), bench.desk("w") as desk:
        optuna.delete_study(study_name="s", storage=bench.joined.study._storage)
        desk.take()


# The pruner


class Asked(optuna.pruners.BasePruner):
    """Notes how the trial stood at each question, and prunes at one epoch."""

    def __init__(self, prune_at: int = 0) -> None:
        self.prune_at, self.seen = prune_at, list[dict[int, float]]()

    def prune(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> bool:
        self.seen.append(dict(trial.intermediate_values))
        return trial.last_step == self.prune_at


def test_each_epoch_is_judged_as_it_stood_then_and_the_first_is_number_1(bench: Bench) -> None:
    """Also when three are over before the database has answered once."""
    bench.joined.study.pruner = asked = Asked()
    bench.enter("w")
    desk = bench.desk("w")
    held = chosen(desk)
    for epoch in (1, 2, 3):
        desk.epoch(held, row(epoch, epoch / 10))
    desk.epoch(held, row(4, None))
    desk.epoch(held, row(5, 0.5), judge=False)
    desk.clerk.write_pages()
    assert asked.seen == [{1: 0.1}, {1: 0.1, 2: 0.2}, {1: 0.1, 2: 0.2, 3: 0.3}]
    assert desk.says(held) == ""
    desk.let_go()


def test_a_trial_worse_than_its_rung_is_told_so_and_its_value_is_its_last(bench: Bench) -> None:
    """By the pruner that studies have, after its very first epoch."""
    with bench.desk("w") as desk:
        desk.joined.study.pruner = pruner(desk.joined.plan)
        good = chosen(desk)
        for epoch in (1, 2, 3):
            desk.epoch(good, row(epoch, 0.9))
        wait_for(lambda: not good.unjudged)
        assert desk.says(good) == ""
        desk.end(good, "COMPLETE", 0.9)
        bad = chosen(desk)
        desk.epoch(bad, row(1, 0.2))
        wait_for(lambda: desk.says(bad) == "pruned")
        desk.epoch(bad, row(2, 0.1))
        desk.end(bad, "PRUNED")
    trial = bench.trials()[1]
    assert (trial.state, trial.value, trial.user_attrs) == (TrialState.PRUNED, 0.1, {"pruned_at": 1})


def test_a_verdict_outlives_the_worker_that_heard_it(bench: Bench) -> None:
    """The pruner answers once; the files were not written yet when the disk was full."""
    bench.joined.study.pruner = Asked(prune_at=1)
    with bench.desk("a") as desk:
        held = chosen(desk)
        desk.epoch(held, row(1))
        wait_for(lambda: desk.says(held) == "pruned")
        desk.put_back(held)
    with opened_bench(bench.url) as again, again.desk("b") as desk:
        held = taken(desk)
        assert held.attempt == 2 and desk.says(held) == "pruned"


def test_ended_at_once_after_each_epoch_nothing_trips(bench: Bench) -> None:
    """Trainer and clerk have the same trial in their hands, and one lets go of it."""
    bench.set(num_trials=60)
    with bench.desk("w") as desk:
        desk.joined.study.pruner = pruner(desk.joined.plan)
        while held := chosen_or_none(desk):
            for epoch in range(1, 1 + held.number % 5):
                desk.epoch(held, row(epoch, held.number / 100))
            state = "PRUNED" if desk.says(held) == "pruned" else "COMPLETE"
            desk.end(held, state, held.number / 100)  # type: ignore[arg-type]
    assert desk.clerk.failure is None and not desk.clerk.ended and not desk.storage.unwritten
    assert set(bench.states().values()) <= {"COMPLETE", "PRUNED"} and len(bench.states()) == 60
    for number in range(60):
        assert epochs_of(bench, number) == list(range(1, 1 + number % 5))


# Told from outside


def test_a_pause_puts_the_trial_back_and_lasts_until_it_is_ended(bench: Bench) -> None:
    with bench.desk("w") as desk:
        held = chosen(desk)
        control.pause(bench.engine, bench.id, True)
        wait_for(lambda: desk.says(held) == "stopped")
        desk.put_back(held)
        got: list[Held | None] = []
        waiting = threading.Thread(target=lambda: got.append(desk.take()))
        waiting.start()
        wait_for(lambda: bench.rows("SELECT state FROM tuner_worker") == [("paused",)])
        assert got == [] and bench.states() == {0: "WAITING"}
        control.pause(bench.engine, bench.id, False)
        waiting.join()
        (again,) = got
        assert again is not None and (again.number, again.attempt) == (0, 2)


def test_a_study_that_is_stopped_while_it_is_paused_lets_its_workers_go(bench: Bench) -> None:
    control.pause(bench.engine, bench.id, True)
    with bench.desk("w") as desk:
        got: list[Held | None] = []
        waiting = threading.Thread(target=lambda: got.append(desk.take()))
        waiting.start()
        wait_for(lambda: bench.rows("SELECT state FROM tuner_worker") == [("paused",)])
        control.stop_all(bench.engine, bench.id)
        waiting.join()
    assert got == [None] and bench.states() == {}


def test_a_stop_reaches_who_works_and_nobody_who_comes_later(bench: Bench) -> None:
    with bench.desk("w") as desk:
        held = chosen(desk)
        assert control.stop_all(bench.engine, bench.id) == 1
        wait_for(lambda: desk.says(held) == "stopped")
        desk.put_back(held)
        assert desk.take() is None
    with opened_bench(bench.url) as again, again.desk("later") as desk:
        held = taken(desk)
        assert held.number == 0 and desk.says(held) == ""


def test_one_trial_is_ended_and_its_worker_goes_on(bench: Bench) -> None:
    with bench.desk("w") as desk:
        held = chosen(desk)
        desk.epoch(held, row(1, 0.25))
        control.stop_trial(bench.engine, bench.id, 0)
        wait_for(lambda: desk.says(held) == "pruned")
        assert held.wanted == "stop"
        desk.end(held, "PRUNED")
        following = chosen(desk)
        assert following.number == 1 and desk.says(following) == ""
        desk.end(following, "COMPLETE", 0.5)
    assert bench.states() == {0: "PRUNED", 1: "COMPLETE"} and bench.trials()[0].value == 0.25


def test_a_trial_that_is_to_end_while_nobody_has_it_ends_with_the_next_who_takes_it(bench: Bench) -> None:
    with bench.desk("a") as desk:
        desk.put_back(chosen(desk))
    control.stop_trial(bench.engine, bench.id, 0)
    with opened_bench(bench.url) as again, again.desk("b") as desk:
        assert desk.says(taken(desk)) == "pruned"


def test_a_signal_to_one_worker_stops_it_alone(bench: Bench) -> None:
    told = threading.Event()
    desk = Desk(bench.joined, bench.desk("w").who, stopped=told.is_set)
    with desk:
        held = chosen(desk)
        assert desk.says(held) == ""
        told.set()
        assert desk.says(held) == "stopped"
        desk.put_back(held)
        assert desk.take() is None
    assert control.standing(bench.engine, bench.id).stops == 0


def test_hours_that_are_spent_stop_the_worker_and_put_its_trial_back(bench: Bench) -> None:
    with bench.desk("w") as desk:
        held = chosen(desk)
        bench.set(hours=1.0, clock_seconds=3600.0)
        wait_for(lambda: desk.says(held) == "stopped")
        desk.put_back(held)
        assert desk.take() is None
    assert bench.states() == {0: "WAITING"}


# The beat


def test_a_beat_says_where_the_worker_is(bench: Bench) -> None:
    with bench.desk("w") as desk:
        held = chosen(desk)
        desk.tell(state="training", step=3, steps=9, value=0.5, params={"lr": 0.1}, peak_memory=3 * 2**40)
        info = overview.find_study(bench.engine, "s")
        worker = wait_for(lambda: [w for w in overview.workers_of(bench.engine, info) if w.step == 3])[0]
        assert (worker.worker, worker.number, worker.steps, worker.value) == ("w", held.number, 9, 0.5)
        assert (worker.state, worker.params, worker.peak_memory) == ("training", {"lr": 0.1}, 3 * 2**40)
        before = worker.beats
        wait_for(lambda: overview.workers_of(bench.engine, info)[0].beats > before)


# The database away


@pytest.fixture
def away(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Bench, Bench, Proxy]]:
    """(the bench of a worker behind a proxy, a bench that sees the same database directly, the proxy)."""
    monkeypatch.setattr(database, "patience", 60.0)
    direct = postgres.fresh()
    with (
        Proxy(postgres.folder) as proxy,
        opened_bench(proxy.through(direct)) as bench,
        opened_bench(direct) as seen,
    ):
        yield bench, seen, proxy


@contextmanager
def gone(proxy: Proxy, clerk: Any) -> Iterator[None]:
    """The database is away, and the clerk has noticed."""
    failed = threading.Event()
    beat = clerk.beat

    def noticed() -> None:
        try:
            beat()
        except sa.exc.OperationalError:
            failed.set()
            raise

    clerk.beat = noticed
    proxy.refuse(), proxy.cut()
    yield
    assert failed.wait(30)
    proxy.accept()


def test_training_goes_on_without_the_database_and_all_is_written_afterwards(
    away: tuple[Bench, Bench, Proxy],
) -> None:
    bench, seen, proxy = away
    with bench.desk("w") as desk:
        held = written(chosen(desk))
        with gone(proxy, desk.clerk):
            for epoch in range(1, 6):
                assert desk.says(held) == ""
                desk.epoch(held, row(epoch, epoch / 10))
            desk.trial(held).set_user_attr("result", {"best": 0.5})
            desk.end(held, "COMPLETE", 0.5)
            assert seen.states() == {0: "RUNNING"} and epochs_of(seen, 0) == []
        following = chosen(desk)
        assert following.number == 1
        wait_for(lambda: seen.states()[0] == "COMPLETE")
    trial = seen.trials()[0]
    assert (trial.value, trial.user_attrs) == (0.5, {"result": {"best": 0.5}})
    assert trial.intermediate_values == {epoch: epoch / 10 for epoch in range(1, 6)}
    assert epochs_of(seen, 0) == [1, 2, 3, 4, 5] and desk.clerk.failure is None


def test_a_trial_put_back_while_the_database_is_away_loses_nothing(away: tuple[Bench, Bench, Proxy]) -> None:
    """The clerk may have the page in hand in that moment, and cannot write it."""
    bench, seen, proxy = away
    with bench.desk("w") as desk:
        held = taken(desk)
        lr = desk.trial(held).suggest_float("lr", 0.0, 1.0)
        with gone(proxy, desk.clerk):
            desk.trial(held).set_user_attr("recipe", {"lr": lr})
            desk.chosen(held)
            desk.epoch(held, row(1))
            leaving = threading.Thread(target=desk.put_back, args=(held,))
            leaving.start()
        leaving.join()
    trial = seen.trials()[0]
    assert (trial.state, trial.params, trial.user_attrs) == (
        TrialState.WAITING,
        {"lr": lr},
        {"recipe": {"lr": lr}},
    )
    assert epochs_of(seen, 0) == [1] and seen.claim(0).worker is None


def test_a_page_that_is_on_its_way_when_the_connection_breaks_is_written_before_its_trial_is_put_back(
    away: tuple[Bench, Bench, Proxy], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, seen, proxy = away
    with bench.desk("w") as desk:
        held = written(chosen(desk))
        monkeypatch.setattr(desk.clerk, "beat", lambda: None)  # so that it is the page that is on its way
        proxy.stall()
        desk.trial(held).set_user_attr("recipe", {"k": 64})
        desk.epoch(held, row(1))
        wait_for(lambda: not held.page)
        leaving = threading.Thread(target=desk.put_back, args=(held,))
        leaving.start()
        proxy.refuse(), proxy.cut(), proxy.flow()
        proxy.accept()
        leaving.join()
    (trial,) = seen.trials()
    assert (trial.state, trial.user_attrs) == (TrialState.WAITING, {"recipe": {"k": 64}})
    assert epochs_of(seen, 0) == [1]


def test_a_connection_cut_again_and_again_costs_nothing(away: tuple[Bench, Bench, Proxy]) -> None:
    """Some commits are done though their answers are lost; they are written once more."""
    bench, seen, proxy = away
    bench.set(num_trials=4)
    over, drawn = threading.Event(), random.Random(1)

    def cut() -> None:
        """After so many answers, and not after a time: a slow machine must get anywhere as well."""
        while not over.is_set():
            until = proxy.round_trips + drawn.randint(10, 40)
            while proxy.round_trips < until and not over.wait(0.001):
                pass
            proxy.cut()

    cutting = threading.Thread(target=cut)
    with bench.desk("w") as desk:
        cutting.start()
        try:
            while held := chosen_or_none(desk):
                for epoch in range(1, 8):
                    assert desk.says(held) == ""
                    desk.epoch(held, row(epoch, held.number + epoch / 100))
                    written(held)
                desk.end(held, "COMPLETE", held.number / 10)
        finally:
            over.set()
            cutting.join()
    assert proxy.connections > 4
    assert [(t.number, t.state, t.value) for t in seen.trials()] == [
        (number, TrialState.COMPLETE, number / 10) for number in range(4)
    ]
    assert all(epochs_of(seen, number) == list(range(1, 8)) for number in range(4)) and seen.num_claims() == 4


def test_a_database_that_stays_away_ends_the_worker_with_its_error(
    away: tuple[Bench, Bench, Proxy], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, seen, proxy = away
    monkeypatch.setattr(database, "patience", 0.5)
    with pytest.raises(sa.exc.OperationalError), bench.desk("w") as desk:
        held = chosen(desk)
        proxy.refuse(), proxy.cut()
        wait_for(lambda: desk.says(held) == "never")
    proxy.accept()
    assert seen.states() == {0: "RUNNING"} and seen.workers() == ["w"]  # others will notice


# What goes wrong


class Broken(optuna.pruners.BasePruner):
    def prune(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> bool:
        raise ZeroDivisionError("a bug in a pruner")


@pytest.mark.parametrize("ask", ["says", "take"])
def test_what_breaks_in_the_background_is_raised_where_the_work_is(bench: Bench, ask: str) -> None:
    bench.joined.study.pruner = Broken()
    with pytest.raises(ZeroDivisionError, match="a bug in a pruner"), bench.desk("w") as desk:
        held = chosen(desk)
        desk.epoch(held, row(1))
        wait_for(lambda: desk.clerk.failure)
        if ask == "says":
            desk.says(held)
        desk.put_back(held)
        desk.take()
    assert bench.states() == {0: "WAITING"} and epochs_of(bench, 0) == [1]


def test_choices_that_changed_under_the_study_are_refused(bench: Bench) -> None:
    bench.set(num_trials=2)
    with bench.desk("a") as desk:
        held = taken(desk)
        desk.trial(held).suggest_categorical("loss", ["bce", "dice"])
        desk.end(held, "COMPLETE", 0.5)
    with opened_bench(bench.url) as again, again.desk("b") as desk:
        desk.joined.study.sampler = sampler(desk.joined.plan, 1)
        held = taken(desk)
        with pytest.raises(ValueError, match="dynamic value space"):
            desk.trial(held).suggest_categorical("loss", ["bce", "focal"])


HANGING = """
import sys, time
from desks import opened_bench, row
from tuner.clerk import Terms
with opened_bench(sys.argv[1]) as bench, bench.desk("w", Terms(lease=2.0, hang=2.0)) as desk:
    held = desk.take()
    desk.chosen(held)
    desk.epoch(held, row(1))
    print("hangs", flush=True)
    def code_that_never_comes_back():
        time.sleep(120)
    code_that_never_comes_back()
"""


def test_a_worker_that_hangs_ends_itself_says_where_and_its_trial_is_put_back(
    bench: Bench, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", HANGING, bench.url],
        env=environment(tmp_path, PYTHONPATH=":".join(sys.path)),
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == GIVEN_UP, done.stderr
    assert "code_that_never_comes_back" in done.stderr
    assert (bench.claim(0).state, bench.claim(0).worker, bench.claim(0).deaths) == ("WAITING", None, 1)
    assert epochs_of(bench, 0) == [1] and bench.workers() == []


# What it costs


@contextmanager
def counted(engine: sa.Engine) -> Iterator[Callable[[], tuple[int, int]]]:
    """(statements, transactions) of an engine so far."""
    statements: list[object] = []
    commits: list[object] = []

    def said(*args: Any) -> None:
        statements.append(args[2])

    def committed(*args: Any) -> None:
        commits.append(args)

    sa.event.listen(engine, "before_cursor_execute", said)
    sa.event.listen(engine, "commit", committed)
    try:
        yield lambda: (len(statements), len(commits))
    finally:
        sa.event.remove(engine, "before_cursor_execute", said)
        sa.event.remove(engine, "commit", committed)


def test_a_trial_of_twenty_epochs_is_few_statements(bench: Bench) -> None:
    """Optuna alone needs a transaction for each parameter, attribute, report and question."""
    with bench.desk("w", Terms(lease=1e4, hang=1e4)) as desk:
        desk.joined.study.sampler, desk.joined.study.pruner = (
            sampler(desk.joined.plan, 0),
            pruner(desk.joined.plan),
        )
        with counted(bench.engine) as so_far:
            held = taken(desk)
            trial = desk.trial(held)
            for name in ("lr", "decay", "dropout", "k"):
                trial.suggest_float(name, 0.0, 1.0)
            trial.set_user_attr("made_with", {"torch": "2"})
            trial.set_user_attr("recipe", {"model": "unet"})
            written_page(desk, held)
            for epoch in range(1, 21):
                desk.epoch(held, row(epoch, epoch / 100), judge=epoch < 20)
                written_page(desk, held)
            trial.set_user_attr("result", {"best": 0.2})
            ended = threading.Event()
            desk.end(held, "COMPLETE", 0.2, ended.set)
            assert ended.wait(30)
            statements, transactions = so_far()
    assert statements <= 140 and transactions <= 45, (statements, transactions)
    assert bench.trials()[0].state is TrialState.COMPLETE and len(epochs_of(bench, 0)) == 20


def written_page(desk: Desk, held: Held) -> None:
    """Each epoch a page of its own, as when they take their time."""
    desk.chosen(held)
    written(held)
    wait_for(lambda: not held.unjudged)
