"""Paused trials: written, resumed once, learned from, and within the budget."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.schedulers import Asked
from helpers.sessions import Bench, at_once, chosen, opened_bench, row, taken, who
from optuna.trial import TrialState

from tuner.artifacts.attempts import AttemptFiles
from tuner.errors import StudyError
from tuner.paths import Home
from tuner.search.pruning import limit_checkpoints
from tuner.search.replay import replay_decisions
from tuner.search.scheduler import PromoteHalving
from tuner.search.session import Session
from tuner.space.search_settings import SearchSettings
from tuner.study import budget, claims, control, decisions, queries, trial_queries
from tuner.study.claims import ClaimedTrial
from tuner.study.decisions import Decision
from tuner.study.paused import MARK, end_paused_trials
from tuner.study.pending import ActiveTrial
from tuner.study.stats import StatsReader

PROMOTE = SearchSettings(pruning="promote")


@pytest.fixture
def bench(prepared_url: str) -> Iterator[Bench]:
    with opened_bench(prepared_url, search=PROMOTE) as made:
        yield made


def train(session: Session, held: ActiveTrial, *values: float) -> str:
    """Record these values as the next epochs, as fast as they are judged; return the last signal."""
    first = 1 + max(held.frozen.intermediate_values, default=0)
    for epoch, value in enumerate(values, start=first):
        if signal := session.check_signal(held):
            return signal
        session.record_epoch(held, row(epoch, value))
        session.sync.write_all()
    return session.check_signal(held)


def pause(session: Session, *values: float) -> int:
    """Start a trial that pauses after its first epochs; return its number."""
    held = chosen(session)
    assert train(session, held, *values) == "paused"
    session.pause_trial(held, len(values))
    return held.number


def quiet(bench: Bench, name: str) -> Session:
    """Return the session of a registered worker, without its thread."""
    bench.enter(name)
    session = bench.session(name)
    session.sync.counts_epochs = False
    session.sync.scheduler = PromoteHalving(
        patience=0, part=bench.joined.info.part
    )  # so few trials would all pause first
    return session


def actions(bench: Bench) -> list[tuple[str, int | None, int]]:
    found = decisions.read_decisions(bench.engine, bench.id)
    return [(decision.action, decision.number, decision.epoch) for decision in found]


def test_a_paused_trial_looks_pruned_to_optuna_and_is_marked_for_us(bench: Bench) -> None:
    session = quiet(bench, "w")
    pause(session, 0.5)
    (trial,) = bench.trials()
    assert (trial.state, trial.value, trial.user_attrs) == (TrialState.PRUNED, 0.5, {})
    assert trial.datetime_complete is not None and bench.claim(0).paused_at == 1
    (ours,) = session.storage.get_all_trials(bench.id)
    assert ours.system_attrs == {MARK: {"epoch": 1, "attempt": 1}}
    assert actions(bench) == [("start", 0, 0), ("pause", 0, 1)]


def test_it_goes_on_with_its_number_and_its_values(bench: Bench) -> None:
    session = quiet(bench, "w")
    numbers = [pause(session, value) for value in (0.3, 0.5, 0.4)]
    assert numbers == [0, 1, 2]
    held = taken(session)  # the best of three is promoted
    assert (held.number, held.attempt, held.frozen.intermediate_values) == (1, 2, {1: 0.5})
    now = bench.trials()[1]
    assert (now.state, now.value, now.datetime_complete) == (TrialState.RUNNING, None, None)
    assert bench.claim(1).paused_at is None and bench.claim(1).worker == "w"
    assert train(session, held, 0.6, 0.7) == "paused"
    session.pause_trial(held, 3)
    assert (bench.claim(1).paused_at, bench.trials()[1].value) == (3, 0.7)
    assert taken(session).number == 3
    assert actions(bench)[-4:] == [("pause", 2, 1), ("resume", 1, 1), ("pause", 1, 3), ("start", 3, 0)]


def test_two_workers_never_resume_one_trial(bench: Bench) -> None:
    session = quiet(bench, "first")
    for value in (0.1, 0.3, 0.2):
        pause(session, value)
    names = bench.enter(*(f"w{at}" for at in range(6)))
    args = (bench.engine, bench.id, "s")
    claimed = at_once(6, lambda at: claims.claim_trial(*args, names[at], False, (), Decision("resume", 1, 1)))
    assert sorted(str(each) for each in claimed if each == "changed") == ["changed"] * 5
    (held,) = (each for each in claimed if isinstance(each, ClaimedTrial))
    assert (held.number, held.attempt) == (1, 2)
    assert [action for action, *_ in actions(bench)].count("resume") == 1


def test_who_chose_too_late_chooses_again(bench: Bench) -> None:
    first, second = quiet(bench, "a"), quiet(bench, "b")
    for value in (0.1, 0.3, 0.2):
        pause(first, value)
    chosen_before = second.choose(can_start=True)
    assert chosen_before is not None and chosen_before.number == 1
    assert taken(first).number == 1
    assert second.claim_chosen(chosen_before) == "changed"
    assert taken(second).number == 3


def test_when_no_trial_may_start_the_best_go_on_until_one_is_done(bench: Bench) -> None:
    bench.set(num_trials=2)
    session = quiet(bench, "w")
    pause(session, 0.3), pause(session, 0.5)
    held = taken(session)
    assert held.number == 1
    assert train(session, held, 0.6, 0.7) == "paused"
    session.pause_trial(held, 3)
    assert taken(session).number == 1
    session.end_trial(session.storage.active, "COMPLETE", 0.7)  # type: ignore[arg-type]
    session.sync.write_all()
    assert session.take_trial() is None
    bench.set(num_trials=4)  # and paused ones go on when they are due
    assert [pause(session, value) for value in (0.1, 0.2)] == [2, 3]
    assert bench.states() == {0: "PRUNED", 1: "COMPLETE", 2: "PRUNED", 3: "PRUNED"}


def test_spent_hours_leave_paused_trials_until_they_are_raised(bench: Bench) -> None:
    session = quiet(bench, "w")
    for value in (0.3, 0.5, 0.4):
        pause(session, value)
    bench.set(hours=1.0, clock_seconds=3600.0)
    assert session.take_trial() is None and bench.claim(1).paused_at == 1
    budget.set_budget(bench.engine, bench.id, hours=2.0)
    assert taken(session).number == 1


def test_a_trial_that_was_put_back_comes_before_a_paused_one(bench: Bench) -> None:
    session = quiet(bench, "w")
    for value in (0.3, 0.5, 0.4):
        pause(session, value)
    held = taken(session)
    train(session, held, 0.6)
    session.put_back_trial(held)
    again = taken(session)
    assert (again.number, again.attempt) == (1, 3) and bench.claim(1).paused_at is None


def test_an_enqueued_point_comes_before_a_paused_trial(bench: Bench) -> None:
    session = quiet(bench, "w")
    for value in (0.3, 0.5, 0.4):
        pause(session, value)
    bench.joined.study.enqueue_trial({"lr": 0.25})
    held = chosen(session)
    assert (held.number, held.frozen.params) == (3, {"lr": 0.25})
    assert train(session, held, 0.1) == "paused"
    session.pause_trial(held, 1)
    assert taken(session).number == 1
    assert actions(bench)[-3:] == [("start", 3, 0), ("pause", 3, 1), ("resume", 1, 1)]
    assert all(each.is_same for each in replay_decisions(bench.joined, session.sync.scheduler))


def test_a_rung_that_nobody_judged_is_judged_by_the_next_worker(bench: Bench) -> None:
    """Its worker was killed after the epoch was recorded."""
    session = quiet(bench, "dying")
    held = chosen(session)
    session.record_epoch(held, row(1, 0.5))
    session.sync.write_trial(held)
    claims.release_worker(bench.engine, "dying", died=True)
    session.release_trial()
    other = quiet(bench, "other")
    again = taken(other)
    again.judged = decisions.read_last_judged(bench.engine, again.id)
    other.judge_epoch(again, 1)
    other.sync.write_all()
    assert other.check_signal(again) == "paused"
    assert bench.claim(0).deaths == 1
    other.pause_trial(again, 1)
    assert bench.claim(0).deaths == 0  # it was trained to its rung
    assert decisions.read_last_judged(bench.engine, again.id) == 1


def test_ended_by_hand_it_goes_on_no_more(bench: Bench) -> None:
    session = quiet(bench, "w")
    for value in (0.3, 0.5, 0.4):
        pause(session, value)
    trial_id = session.storage.get_all_trials(bench.id)[1]._trial_id
    assert end_paused_trials(bench.engine, [trial_id], "w", "by hand") == [trial_id]
    assert end_paused_trials(bench.engine, [trial_id], "w", "by hand") == []
    assert MARK not in session.storage.get_all_trials(bench.id)[1].system_attrs
    assert taken(session).number == 3


def test_a_paused_trial_is_stopped_like_a_running_one(bench: Bench) -> None:
    session = quiet(bench, "w")
    pause(session, 0.5)
    assert control.stop_trial(bench.engine, bench.id, 0) and bench.claim(0).paused_at is None
    with pytest.raises(StudyError, match=r"trial 0 has already ended \(pruned\)"):
        control.stop_trial(bench.engine, bench.id, 0)


def test_the_least_promising_checkpoints_are_dropped_first(bench: Bench, tmp_path: Path) -> None:
    session, attempts = quiet(bench, "w"), AttemptFiles(Home(tmp_path))
    for value in (0.3, 0.1, 0.2):
        held = chosen(session)
        attempts.begin("s", bench.joined.info.key, held.number, 1).checkpoint.write_bytes(b"x" * 1000)
        train(session, held, value)
        session.pause_trial(held, 1, 1000)
        limit_checkpoints(session, attempts, 2e-6)
    assert [bench.claim(number).paused_at for number in range(3)] == [1, None, 1]
    assert [len(list(tmp_path.glob(f"trials/*/0000{at}/*/checkpoint.pt"))) for at in range(3)] == [1, 0, 1]


def test_a_resumed_trial_is_read_anew_by_those_that_knew_it_as_paused(bench: Bench) -> None:
    session = quiet(bench, "w")
    pause(session, 0.5)
    with opened_bench(bench.url, search=PROMOTE) as other:
        storage = other.joined.storage
        assert [trial.state for trial in storage.get_all_trials(bench.id)] == [TrialState.PRUNED]
        session.sync.scheduler = Asked(2, "pause")
        held = taken(session)
        assert [trial.state for trial in storage.get_all_trials(bench.id)] == [TrialState.RUNNING]
        assert train(session, held, 0.6) == "paused"
        session.pause_trial(held, 2)
        (trial,) = storage.get_all_trials(bench.id)
        assert trial.intermediate_values == {1: 0.5, 2: 0.6} and trial.value == 0.6
        assert trial.system_attrs[MARK] == {"epoch": 2, "attempt": 2}


def test_a_pause_whose_answer_was_lost_is_not_written_twice(bench: Bench) -> None:
    session = quiet(bench, "w")
    held = chosen(session)
    train(session, held, 0.5)
    held.pending.end, held.pending.paused_at = ("PRUNED", 0.5), 1
    writes = held.take_pending()
    for _ in range(2):
        session.sync.write(held, writes)
    assert (bench.claim(0).paused_at, bench.claim(0).worker) == (1, "w")
    session.release_trial()


def test_what_views_show_follows_a_trial_that_pauses_and_goes_on(bench: Bench) -> None:
    session = quiet(bench, "w")
    pause(session, 0.5), pause(session, 0.4)
    stats = StatsReader(bench.engine, queries.find_study(bench.engine, "s"))

    def shown() -> tuple[dict[str, int], int, int]:
        now = queries.read_summary(bench.engine, stats.info)
        cost = stats.read(now).cost
        return now.states, cost.trials, cost.epochs

    assert shown() == ({"PAUSED": 2}, 2, 2)
    session.sync.scheduler = Asked(2, "pause")
    held = taken(session)
    assert shown() == ({"PAUSED": 1, "RUNNING": 1}, 1, 2)
    train(session, held, 0.6)
    session.pause_trial(held, 2)
    assert shown() == ({"PAUSED": 2}, 2, 3)
    with bench.engine.connect() as db:
        first, second = trial_queries.read_trials_by_id(db, [held.id, held.id + 1])
    assert (first.paused_at, first.state, second.paused_at) == (2, "PRUNED", 1)
    end_paused_trials(bench.engine, [held.id], "w", "by hand")
    assert shown() == ({"PAUSED": 1, "PRUNED": 1}, 2, 3)


# The budget of epochs


def limit(bench: Bench, epochs: int) -> None:
    budget.set_budget(bench.engine, bench.id, epochs=epochs)


def trained(bench: Bench) -> int:
    return len(bench.rows("SELECT epoch FROM tuner_epoch"))


def test_epochs_are_granted_before_they_are_trained_and_never_beyond_the_budget(bench: Bench) -> None:
    limit(bench, 5)
    session = quiet(bench, "w")
    session.sync.scheduler = Asked()
    held = chosen(session)
    assert held.epochs_left == 2
    assert train(session, held, *[0.5] * 9) == "stopped"
    assert trained(bench) == bench.study().epochs_granted == 5
    session.put_back_trial(held)
    assert session.take_trial() is None and claims.is_finished(bench.engine, bench.id)
    limit(bench, 6)
    held = taken(session)
    assert (held.number, held.epochs_left) == (0, 1)
    assert train(session, held, 0.5, 0.5) == "stopped" and trained(bench) == 6
    session.put_back_trial(held)


def test_what_a_trial_does_not_use_is_returned(bench: Bench) -> None:
    limit(bench, 4)
    session = quiet(bench, "w")
    pause(session, 0.5)
    assert bench.study().epochs_granted == 1
    held = chosen(session)
    assert bench.study().epochs_granted == 3
    session.put_back_trial(held)
    assert bench.study().epochs_granted == 1
    held = taken(session)
    session.record_epoch(held, row(1, 0.1))
    session.end_trial(held, "COMPLETE", 0.1)
    session.sync.write_all()
    assert bench.study().epochs_granted == 2
    status = budget.read_budget(bench.engine, bench.id)
    assert (status.budget.epochs, status.spent.epochs) == (4, 2)


def test_what_a_dead_worker_was_granted_counts_as_trained(bench: Bench) -> None:
    limit(bench, 10)
    session = quiet(bench, "w")
    session.sync.scheduler = Asked()
    held = chosen(session)
    train(session, held, 0.5, 0.5, 0.5)
    assert (bench.study().epochs_granted, bench.claim(0).epochs_granted) == (5, 2)
    claims.release_worker(bench.engine, "w", died=True)
    session.release_trial()
    assert (bench.study().epochs_granted, bench.claim(0).epochs_granted) == (5, 0)
    again = taken(quiet(bench, "next"))
    assert (again.number, again.epochs_left, bench.study().epochs_granted) == (0, 2, 7)


def test_many_workers_share_one_budget_of_epochs_exactly(bench: Bench) -> None:
    limit(bench, 23)
    bench.enter(*(f"w{at}" for at in range(4)))

    def work(at: int) -> None:
        with opened_bench(bench.url, search=PROMOTE) as own:
            session = Session(own.joined, who(f"w{at}"))
            session.sync.scheduler = Asked(3, "pause", (3,))
            while held := session.take_trial():
                if held.attempt == 1:
                    session.optuna_trial(held).suggest_float("lr", 0.0, 1.0)
                    session.confirm_params(held)
                signal = train(session, held, *[0.5] * 5)
                if signal == "paused":
                    session.pause_trial(held, max(held.frozen.intermediate_values))
                elif signal == "stopped":
                    session.put_back_trial(held)
                else:
                    session.end_trial(held, "COMPLETE", 0.5)
                    session.sync.write_all()

    at_once(4, work)
    assert trained(bench) <= 23 and bench.study().epochs_granted == trained(bench) == 23


def test_a_limit_set_later_counts_what_was_trained_before(bench: Bench) -> None:
    session = quiet(bench, "w")
    pause(session, 0.5), pause(session, 0.4)
    limit(bench, 3)
    assert bench.study().epochs_granted == 2
    held = chosen(session)
    assert held.epochs_left == 1
    session.release_trial()


def test_a_trial_that_rests_within_its_first_epoch_goes_on_there(prepared_url: str) -> None:
    """It costs no epoch, and who died before it was judged is followed by who asks at once."""
    settings = SearchSettings(pruning="promote", first_rung=0.25)
    with opened_bench(prepared_url, search=settings) as bench:
        session = quiet(bench, "w")
        for number, value in enumerate((0.3, 0.5, 0.4)):
            held = chosen(session)
            session.record_partial(held, value)
            if number == 2:
                session.sync.write_trial(held)
                claims.release_worker(session.engine, "w", died=True)
                session = quiet(bench, "again")
                held = taken(session)
                held.judged = decisions.read_last_judged(bench.engine, held.id)
                session.record_partial(held, value)
            session.sync.write_all()
            assert session.check_signal(held) == "paused" and held.number == number
            session.pause_trial(held, 0)
        assert [bench.claim(number).paused_at for number in range(3)] == [0, 0, 0]
        assert [trial.value for trial in bench.trials()] == [0.3, 0.5, 0.4] and not bench.rows(
            "SELECT * FROM tuner_epoch"
        )
        held = taken(session)
        assert (held.number, held.attempt, held.frozen.intermediate_values) == (1, 2, {0: 0.5})
        held.judged = decisions.read_last_judged(bench.engine, held.id)
        session.record_partial(held, 0.5)  # as its checkpoint tells
        assert held.judged == 0 and not held.unjudged and train(session, held, 0.6) == "paused"
        session.pause_trial(held, 1)
        assert bench.claim(1).paused_at == 1 and actions(bench)[-2:] == [("resume", 1, 0), ("pause", 1, 1)]
        assert taken(session).number == 3
