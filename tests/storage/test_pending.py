"""Optuna and its dashboard read what a worker writes in one transaction as if they had written it."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import optuna
import pytest
import sqlalchemy as sa
from helpers.sessions import Bench, opened_bench, row
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial
from optuna_dashboard import get_note, save_note

from tuner.errors import TrialLost
from tuner.study import claims, epoch_queries, pending, tables
from tuner.study.claims import ClaimedTrial
from tuner.study.optuna_tables import (
    study_system_attrs,
    trial_attrs,
    trial_params,
    trial_steps,
    trial_system_attrs,
    trial_values,
    trials,
)
from tuner.study.pending import ActiveTrial, PendingWrites

KINDS = {
    "plain": (FloatDistribution(-1.0, 1.0), -0.123456789012345678),
    "log": (FloatDistribution(1e-300, 1e300, log=True), 3.5e-299),
    "stepped": (FloatDistribution(0.0, 1.0, step=0.1), 0.30000000000000004),
    "whole": (IntDistribution(-5, 1000, step=3), 7),
    "whole log": (IntDistribution(1, 2**40, log=True), 2**39 + 1),
    **{
        f"choice {at}": (CategoricalDistribution((None, True, False, 3, 0.5, "bcé", "")), value)
        for at, value in enumerate((None, True, False, 3, 0.5, "bcé", ""))
    },
}
STEPS = {1: 0.1 + 0.2, 2: math.inf, 3: -math.inf, 4: math.nan, 5: 1e-300, 6: 5e307}
NOTED = {
    "recipe": {"model": {"name": "unet", "args": {"k": 64}}, "deep": [1, 2.5, None, True]},
    "text": 'quotes " and \\ and é and\nlines',
    "long": "x" * 3000,
    "none": None,
    "number": 0.1,
}


@pytest.fixture
def bench(prepared_url: str) -> Iterator[Bench]:
    with opened_bench(prepared_url) as made:
        yield made


def begin(bench: Bench, worker: str = "w") -> ClaimedTrial:
    bench.enter(worker)
    return bench.take(worker)


def by_us(bench: Bench, end: tuple[pending.EndState, float | None] | None) -> FrozenTrial:
    """A trial in memory that gets everything an objective reports, written at once."""
    taken = begin(bench)
    session = bench.session("w")
    held = session.activate(taken)
    trial = session.optuna_trial(held)
    storage = session.storage
    for name, (kind, value) in KINDS.items():
        storage.set_trial_param(held.id, name, kind.to_internal_repr(value), kind)
    for key, value in NOTED.items():
        trial.set_user_attr(key, value)
        storage.set_trial_system_attr(held.id, f"s:{key}", value)
    for step, value in STEPS.items():
        trial.report(value, step)
    page = held.take_pending()
    page.end = end
    bench.write(taken, "w", page)
    storage.active = None
    return held.frozen


def by_optuna(bench: Bench, end: tuple[pending.EndState, float | None] | None) -> None:
    """The same trial, written by Optuna's own storage."""
    made = create_trial(
        state=TrialState[end[0]] if end else TrialState.RUNNING,
        value=end[1] if end else None,
        params={name: value for name, (_, value) in KINDS.items()},
        distributions={name: kind for name, (kind, _) in KINDS.items()},
        user_attrs=NOTED,
        system_attrs={f"s:{key}": value for key, value in NOTED.items()},
        intermediate_values=STEPS,
    )
    bench.joined.study.add_trial(made)


def written(bench: Bench, table: sa.Table, number: int) -> list[tuple[Any, ...]]:
    """The rows of a trial without their ids, sorted."""
    columns = [column for column in table.columns if not column.name.endswith("_id")]
    query = sa.select(*columns).join(trials, trials.c.trial_id == table.c.trial_id)
    return sorted(map(repr, bench.rows(query.where(trials.c.number == number))))


OPTUNAS = (
    trial_params,
    trial_values,
    trial_steps,
    trial_attrs,
    trial_system_attrs,
)
ENDS = [
    None,
    ("COMPLETE", 0.1 + 0.2),
    ("COMPLETE", math.inf),
    ("COMPLETE", -math.inf),
    ("PRUNED", 0.5),
    ("FAIL", None),
]


@pytest.mark.parametrize("end", ENDS, ids=str)
def test_the_rows_are_those_that_optuna_writes(
    bench: Bench, end: tuple[pending.EndState, float | None] | None
) -> None:
    by_us(bench, end)
    by_optuna(bench, end)
    for table in OPTUNAS:
        assert written(bench, table, 0) == written(bench, table, 1), table.name
    assert len(written(bench, trial_params, 0)) == len(KINDS)


@pytest.mark.parametrize("end", ENDS, ids=str)
def test_optuna_reads_what_was_held_in_memory(
    bench: Bench, end: tuple[pending.EndState, float | None] | None
) -> None:
    held = by_us(bench, end)
    (read,) = bench.trials()
    assert (read.number, read._trial_id) == (held.number, held._trial_id)
    assert read.state is (TrialState[end[0]] if end else TrialState.RUNNING)
    assert read.value == (end[1] if end else None)
    assert read.params == held.params == {name: value for name, (_, value) in KINDS.items()}
    assert {name: type(value) for name, value in read.params.items()} == {
        name: type(value) for name, (_, value) in KINDS.items()
    }
    assert read.distributions == held.distributions == {name: kind for name, (kind, _) in KINDS.items()}
    assert read.user_attrs == NOTED and read.system_attrs == {f"s:{key}": value for key, value in NOTED.items()}
    assert repr(sorted(read.intermediate_values.items())) == repr(sorted(STEPS.items()))
    assert repr(sorted(held.intermediate_values.items())) == repr(sorted(STEPS.items()))


@pytest.fixture
def new_york(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("new_york")
def test_our_own_reading_of_many_trials_gives_what_optunas_gives(bench: Bench) -> None:
    """In every state, from either writer; from memory too, and one by one."""
    for end in (*ENDS[1:], None):
        by_us(bench, end)
        by_optuna(bench, end)
        claims.release_worker(bench.engine, "w", died=False)
    bench.joined.study.enqueue_trial({"x": 1.5}, user_attrs={"row": "a"})
    theirs = bench.trials()
    assert {trial.state for trial in theirs} == set(TrialState)
    for _ in range(2):
        ours = bench.joined.storage.get_all_trials(bench.id)
        assert list(map(plain, ours)) == list(map(plain, theirs))
    for state in TrialState:
        ours = bench.joined.storage.get_all_trials(bench.id, states=(state,))
        assert [trial.number for trial in ours] == [trial.number for trial in theirs if trial.state is state]
    assert plain(bench.joined.storage.get_trial(theirs[3]._trial_id)) == plain(theirs[3])


def plain(trial: FrozenTrial) -> dict[str, str]:
    """Everything of a trial; NaN equals NaN here."""
    found = {name: sorted(v.items(), key=str) if isinstance(v, dict) else v for name, v in vars(trial).items()}
    return {name: repr(value) for name, value in found.items()}


@pytest.mark.usefixtures("new_york")
def test_times_are_kept_as_optuna_keeps_them(bench: Bench) -> None:
    """In UTC, whatever the host's time zone; read back as local time."""
    bench.write(begin(bench), "w", PendingWrites(end=("COMPLETE", 0.5)))
    bench.joined.study.add_trial(create_trial(value=0.5))
    ours, theirs = bench.rows(sa.select(trials).order_by(trials.c.number))
    now = datetime.now(UTC).replace(tzinfo=None)
    for each in (ours, theirs):
        assert each.datetime_start <= each.datetime_complete
        assert abs(now - each.datetime_complete) < timedelta(minutes=30)
    first, second = bench.trials()
    assert first.datetime_start is not None and first.datetime_complete is not None
    assert first.duration is not None and abs(first.datetime_complete - second.datetime_complete) < timedelta(
        minutes=30
    )


def test_the_best_trial_is_found_by_optuna(bench: Bench) -> None:
    bench.enter("w")
    for value in (0.25, 0.75, 0.5):
        bench.write(bench.take("w"), "w", PendingWrites(end=("COMPLETE", value)))
    assert (bench.joined.study.best_trial.number, bench.joined.study.best_value) == (1, 0.75)


# Written twice


def all_rows(bench: Bench) -> dict[str, list[Any]]:
    """Everything in the database about the trial, without the ids of rows."""
    found = {table.name: written(bench, table, 0) for table in (*OPTUNAS, tables.epoch_table)}
    found["study"] = sorted(
        map(
            repr,
            bench.rows(sa.select(study_system_attrs.c.key, study_system_attrs.c.value_json)),
        )
    )
    return found | {"state": [bench.claim(0).state]}


@pytest.mark.parametrize("end", [None, ("COMPLETE", 0.5), ("FAIL", None)], ids=str)
def test_a_page_written_twice_stands_once(bench: Bench, end: tuple[pending.EndState, float | None] | None) -> None:
    """The answer to the commit was lost, so it is written again."""
    taken = begin(bench)
    page = PendingWrites(
        params={"lr": (0.5, json.dumps({"name": "FloatDistribution"}))},
        attrs={"a": "1"},
        system_attrs={"b": "2"},
        values={1: 0.5, 2: math.nan},
        epochs={1: row(1), 2: row(2)},
        dashboard_notes={"dashboard:note_ver:1": "1"},
        end=end,
    )
    bench.write(taken, "w", page)
    before = all_rows(bench)
    bench.write(taken, "w", page)
    assert all_rows(bench) == before
    assert len(before["tuner_epoch"]) == 2 and len(before["trial_params"]) == 1


def test_an_epoch_trained_again_is_replaced_and_what_is_new_beside_it_stands(bench: Bench) -> None:
    taken = begin(bench)
    bench.write(taken, "w", PendingWrites(epochs={1: row(1, 0.25)}, attrs={"a": "1"}))
    bench.write(
        taken, "w", PendingWrites(epochs={1: row(1, 0.75), 2: row(2, 0.5)}, values={1: 0.75}, attrs={"a": "2"})
    )
    history = epoch_queries.read_epochs(bench.engine, taken.trial_id)
    assert [(each["epoch"], each["value"], each["a"]) for each in history] == [(1, 0.75, 1.5), (2, 0.5, 1.5)]
    assert history[0]["peak_memory"] == 3 * 2**40
    assert bench.trials()[0].user_attrs == {"a": 2}


def test_a_page_that_could_not_be_written_is_joined_with_what_came_after(bench: Bench) -> None:
    taken = begin(bench)
    held = ActiveTrial(create_trial(state=TrialState.RUNNING), 1, 0, "")
    held.pending = PendingWrites(epochs={1: row(1, 0.1)}, attrs={"a": "1", "b": "1"}, values={1: 0.1})
    unwritten = held.take_pending()
    assert not held.pending and unwritten
    held.pending.epochs[2], held.pending.attrs["a"] = row(2, 0.2), "2"
    held.pending.end = "COMPLETE", 0.2
    held.restore_pending(unwritten)
    bench.write(taken, "w", held.take_pending())
    (read,) = bench.trials()
    assert read.user_attrs == {"a": 2, "b": 1} and read.value == 0.2
    assert [each["value"] for each in epoch_queries.read_epochs(bench.engine, taken.trial_id)] == [0.1, 0.2]


# Whose it is


def end_it(bench: Bench, taken: ClaimedTrial) -> None:
    bench.joined.storage.set_trial_state_values(taken.trial_id, TrialState.FAIL)


def delete_it(bench: Bench, taken: ClaimedTrial) -> None:
    bench.delete(taken.number)


def give_it(bench: Bench, taken: ClaimedTrial) -> None:
    claims.release_worker(bench.engine, "w", died=True)
    bench.enter("other")
    bench.take("other")


def put_it_back(bench: Bench, taken: ClaimedTrial) -> None:
    claims.release_worker(bench.engine, "w", died=True)


def delete_study(bench: Bench, taken: ClaimedTrial) -> None:
    bench.joined.storage.delete_study(bench.id)


@pytest.mark.parametrize(
    ("lose", "why"),
    [
        (give_it, "another worker"),
        (put_it_back, "another worker"),
        (end_it, "set it to FAIL"),
        (delete_it, "deleted"),
        (delete_study, "deleted"),
    ],
)
@pytest.mark.parametrize("end", [None, ("COMPLETE", 0.5)], ids=str)
def test_nothing_of_a_lost_trial_is_written(
    bench: Bench, lose: Any, why: str, end: tuple[pending.EndState, float | None] | None
) -> None:
    taken = begin(bench)
    lose(bench, taken)
    before = bench.states()
    with pytest.raises(TrialLost, match=why):
        bench.write(
            taken,
            "w",
            PendingWrites(
                epochs={1: row(1)}, attrs={"a": "1"}, dashboard_notes={"n": "1"}, values={1: 0.5}, end=end
            ),
        )
    assert bench.states() == before
    for table in (
        tables.epoch_table,
        trial_attrs,
        trial_steps,
        trial_values,
    ):
        assert bench.rows(sa.select(table)) == [], table.name
    assert bench.rows(sa.select(study_system_attrs).where(study_system_attrs.c.key == "n")) == []


def test_the_end_of_another_worker_is_not_taken_for_ones_own(bench: Bench) -> None:
    """Both write COMPLETE; only the owner's counts."""
    taken = begin(bench)
    give_it(bench, taken)
    bench.write(taken, "other", PendingWrites(end=("COMPLETE", 0.75)))
    with pytest.raises(TrialLost):
        bench.write(taken, "w", PendingWrites(end=("COMPLETE", 0.25)))
    assert bench.trials()[0].value == 0.75


def test_a_further_epoch_forgives_the_deaths_before_it_and_a_note_does_not(bench: Bench) -> None:
    begin(bench, "a")
    claims.release_worker(bench.engine, "a", died=True)
    bench.enter("b")
    taken = bench.take("b")
    bench.write(taken, "b", PendingWrites(attrs={"a": "1"}))
    assert bench.claim(0).deaths == 1
    bench.write(taken, "b", PendingWrites(epochs={1: row(1)}))
    assert bench.claim(0).deaths == 0


# The dashboard


def test_a_note_is_what_the_dashboard_shows(bench: Bench) -> None:
    """Also over a longer one, of the same attempt or of the one before."""
    body = "**unet**\n\n```json\n{}\n```\n" + "long " * 3000
    for number, text in enumerate((body, "longer than the last" * 200)):
        bench.enter("w")
        taken = bench.take("w")
        session = bench.session("w")
        held = session.activate(taken)
        save_note(session.optuna_trial(held), "before " * 1000)
        bench.write(taken, "w", held.take_pending())
        save_note(session.optuna_trial(held), text)
        bench.write(taken, "w", held.take_pending())
        if number == 1:
            claims.put_back_trial(bench.engine, taken.trial_id, "w")
            taken = bench.take("w")
            held = session.activate(taken)
            save_note(session.optuna_trial(held), "last")
            bench.write(taken, "w", held.take_pending())
        session.storage.active = None
        assert taken.number == number
    shown = [get_note(optuna.Trial(bench.joined.study, trial._trial_id)) for trial in bench.trials()]
    assert [note.strip() for note in shown] == [body.strip(), "last"]
