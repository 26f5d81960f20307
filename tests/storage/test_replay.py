"""Decisions of a search, taken again from the database alone."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from helpers.sessions import Bench, epochs_of, opened_bench, row
from helpers.sessions import taken as take

from tuner.goal import minimize
from tuner.search.curves import CurveReader
from tuner.search.pruning import limit_checkpoints
from tuner.search.replay import replay_decisions
from tuner.search.scheduler import PromoteHalving
from tuner.search.scheduling import make_scheduler
from tuner.search.session import Session
from tuner.space.search_settings import SearchSettings
from tuner.study import claims, control
from tuner.study.decisions import Decision, read_decisions, read_last_judged
from tuner.study.pending import ActiveTrial

LENGTH = 9


class NoFiles:
    """The files of attempts that have none."""

    def drop(self, *_: object) -> None:
        pass


@pytest.fixture(
    params=[
        ("promote", 1),
        ("thaw", 1),
        *(
            pytest.param(each, marks=pytest.mark.slow)
            for each in (("stop", 1), ("promote", 0.5), ("promote", "2s"), ("stop", "2s"))
        ),
    ],
    ids=str,
)
def bench(prepared_url: str, request: pytest.FixtureRequest) -> Iterator[Bench]:
    pruning, first = request.param
    with opened_bench(prepared_url, search=SearchSettings(pruning=pruning, first_rung=first, factor=2)) as made:
        yield made


def search(bench: Bench, trials: int) -> None:
    """Search with one worker at a time: some are killed, and some trials are validated every second epoch."""
    bench.set(num_trials=trials)
    rng = random.Random(0)
    while work(enter(bench, f"w{rng.random()}"), bench, rng):
        pass


def enter(bench: Bench, name: str) -> Session:
    bench.enter(name)
    session = bench.session(name)
    session.sync.scheduler = make_scheduler(bench.joined.info)
    return session


def work(session: Session, bench: Bench, rng: random.Random) -> bool:
    """Train until this worker is killed: then True is returned. False means that no trial is left."""
    while held := session.take_trial():
        begin(session, held)
        done = epochs_of(bench, held.number)
        if done:
            session.judge_epoch(held, done[-1])  # the one before may have been killed before it did
            session.sync.write_all()
        if session.joined.info.part and not done:
            session.record_partial(held, held.frozen.intermediate_values.get(0, round(rng.random(), 3)))
            if died(session, held, rng):
                return True
        for epoch in range(len(done) + 1, LENGTH + 1):
            if session.check_signal(held):
                break
            is_validated = epoch == LENGTH or epoch % 2 == 0 or held.number % 3 < 2
            value = round(rng.random(), 3) if is_validated else None
            seconds = (0.5 + held.number % 4) * held.attempt  # an epoch that is trained again takes another time
            session.record_epoch(held, row(epoch, value, seconds=seconds), judge=epoch < LENGTH)
            if died(session, held, rng):
                return True
        finish(session, held)
    return False


def died(session: Session, held: ActiveTrial, rng: random.Random) -> bool:
    """Return whether this worker is killed before what it recorded is judged."""
    if rng.random() < 0.05:
        session.sync.write_trial(held)
        claims.release_worker(session.engine, session.name, died=True)
        session.release_trial()
        return True
    session.sync.write_all()
    return False


def begin(session: Session, held: ActiveTrial) -> None:
    held.judged = read_last_judged(session.engine, held.id)
    if not held.frozen.params:
        trial = session.optuna_trial(held)
        trial.suggest_float("lr", 0.0, 1.0)
        trial.set_user_attr("recipe", {"epochs": LENGTH})
        trial.set_user_attr("params", cost_of(held))
        session.confirm_params(held)


def cost_of(held: ActiveTrial) -> float:
    return 10.0 ** (held.number % 2)


def finish(session: Session, held: ActiveTrial) -> None:
    """End a trial or let it rest; at most four checkpoints are kept, and one trial is ended by hand."""
    signal, last = session.check_signal(held), max(held.frozen.intermediate_values)
    if signal == "paused":
        session.pause_trial(held, last, 1000)
        if held.number == 5:
            control.stop_trial(session.engine, session.joined.id, held.number)
        limit_checkpoints(session, NoFiles(), 4e-6)  # type: ignore[arg-type]
        return
    further = (cost_of(held),) if session.joined.info.further else ()
    session.end_trial(
        held, "PRUNED" if signal else "COMPLETE", held.frozen.intermediate_values[last], further=further
    )
    session.sync.write_all()


def test_a_search_with_one_worker_is_replayed_to_the_same_decisions(bench: Bench) -> None:
    search(bench, 3)
    search(bench, 24)
    stored = read_decisions(bench.engine, bench.id)
    replayed = replay_decisions(bench.joined)
    assert [each for each in replayed if not each.is_same] == []
    assert [each.stored for each in replayed] == [each for each in stored if each.action != "drop"]
    actions = Counter(each.action for each in stored)
    within = {each.action for each in stored if each.reason.get("rung") == 0}
    if bench.joined.info.search.pruning == "thaw":
        seen = [each for each in stored if "gain" in each.reason]
        assert {each.action for each in seen} >= {"start", "pause", "resume"}
        assert all(curve.seconds.get(curve.epoch) for curve in CurveReader(bench.joined).read() if curve.values)
    if bench.joined.info.part:
        assert within >= ({"pause", "resume"} if bench.joined.info.pauses else {"stop", "continue"})
    else:
        assert not within
    if bench.joined.info.pauses:
        assert actions["start"] == 24 and [each.number for each in stored if each.action == "start"] == [
            *range(24)
        ]
        assert min(actions[name] for name in ("continue", "pause", "resume", "drop")) > 1
        assert any(each.reason.get("can_start") is False for each in stored)
        (by_hand,) = (each for each in stored if each.reason.get("why") == "ended by a user")
        assert (by_hand.action, by_hand.number) == ("drop", 5)
    else:
        assert actions.keys() == {"continue", "stop"} and min(actions.values()) > 2


def test_with_several_goals_resumptions_are_replayed_with_what_the_models_cost(prepared_url: str) -> None:
    settings = {"search": SearchSettings(pruning="promote", factor=2), "further": (minimize("params"),)}
    with opened_bench(prepared_url, **settings) as bench:
        search(bench, 24)
        assert [each for each in replay_decisions(bench.joined) if not each.is_same] == []
        bench.execute(
            "UPDATE trial_user_attributes SET value_json = '1.0' WHERE trial_user_attributes.key = 'params'"
        )
        with opened_bench(prepared_url, **settings) as again:
            changed = [each.stored for each in replay_decisions(again.joined) if not each.is_same]
        assert {each.action for each in changed} >= {"pause", "resume"}


def test_another_curve_or_another_scheduler_decides_otherwise(prepared_url: str) -> None:
    with opened_bench(prepared_url, search=SearchSettings(pruning="promote", factor=2)) as bench:
        search(bench, 8)
        other = replay_decisions(bench.joined, PromoteHalving(1, 3, patience=0))
        assert not all(each.is_same for each in other)
        best = max(bench.trials(), key=lambda trial: trial.intermediate_values.get(1, 0.0))
        bench.execute(
            "UPDATE trial_intermediate_values SET intermediate_value = 0 "
            f"WHERE step = 1 AND trial_id = {best._trial_id}"
        )
        with opened_bench(prepared_url, search=SearchSettings(pruning="promote", factor=2)) as again:
            changed = [each.stored for each in replay_decisions(again.joined) if not each.is_same]
        assert best.number in {each.number for each in changed}


def test_what_several_workers_decided_is_replayed_as_far_as_it_is_known(prepared_url: str) -> None:
    """Two trials run at once, and the one that is judged first has not seen the other."""
    with opened_bench(prepared_url, search=SearchSettings(pruning="promote", factor=2)) as bench:
        first, second = enter(bench, "a"), enter(bench, "b")
        held = [take(first), take(second)]
        for session, each, value in zip((first, second), held, (0.4, 0.3), strict=True):
            begin(session, each)
            session.record_epoch(each, row(1, value))
        for session, each in zip((first, second), held, strict=True):
            bench.joined.storage.active = each
            session.sync.write_all()
            session.pause_trial(each, 1)
        replayed = replay_decisions(bench.joined)
        assert [each.stored.action for each in replayed] == ["start", "start", "pause", "pause"]
        assert all(each.is_same for each in replayed)
        lost: Any = replace(replayed[0], now=None)
        assert not lost.is_same
        assert not replace(replayed[0], now=Decision("start", None, 0, {"why": "another"})).is_same
