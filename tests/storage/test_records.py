"""Claims, epochs and workers, by many at once, on every kind of database."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context

import optuna
import pytest
import sqlalchemy as sa
from optuna.trial import TrialState, create_trial

from tuner import overview, records
from tuner.errors import TrialLost
from tuner.study import open_storage

WORKER = {"host": "here", "pid": 1, "born": 1.0, "device": "cpu", "state": "training", "step": 0, "steps": 3}
EPOCH = {
    "value": 0.5,
    "seconds": 1.0,
    "images_per_second": 9.0,
    "peak_memory": 3 * 2**40,
    "lr": 0.1,
    "metrics": {},
}
WAITING = create_trial(state=TrialState.WAITING)


@dataclass(frozen=True)
class Bench:
    """An open study on a real database."""

    storage: optuna.storages.BaseStorage
    engine: sa.Engine
    id: int

    def worker(self, name: str) -> str:
        records.enter(self.engine, self.id, {**WORKER, "worker": name})
        return name

    def begin(self, worker: str) -> int:
        """What a worker does for a new trial."""
        claim = records.claim_slot(self.engine, self.id, worker)
        assert claim is not None
        trial_id = self.storage.create_new_trial(self.id, WAITING)
        assert records.bind(self.engine, claim, trial_id)
        self.storage.set_trial_state_values(trial_id, TrialState.RUNNING)
        return trial_id

    def state(self, trial_id: int) -> str:
        return self.storage.get_trial(trial_id).state.name

    def owner(self, trial_id: int) -> str | None:
        with self.engine.connect() as db:
            table = records.claim_table
            return db.scalar(sa.select(table.c.worker).where(table.c.trial_id == trial_id))


@pytest.fixture
def bench(storage_url: str) -> Iterator[Bench]:
    made = open_bench(storage_url, "one")
    yield made
    made.engine.dispose()


def open_bench(url: str, name: str) -> Bench:
    storage, engine = open_storage(url)
    study_id = storage.create_new_study([optuna.study.StudyDirection.MAXIMIZE], name)
    records.open_study(engine, study_id, is_new=True)
    return Bench(storage, engine, study_id)


def all_at_once(number: int, what: Callable[[int], object]) -> list[object]:
    """Call `what` in many threads that begin together."""
    together = threading.Barrier(number)

    def go(at: int) -> object:
        together.wait()
        return what(at)

    with ThreadPoolExecutor(number) as pool:
        return list(pool.map(go, range(number)))


def test_many_claimers_get_exactly_the_budget(bench: Bench) -> None:
    records.set_budget(bench.engine, bench.id, 7)
    got = all_at_once(12, lambda at: [records.claim_slot(bench.engine, bench.id, f"w{at}") for _ in range(2)])
    claims = [claim for pair in got for claim in pair if claim is not None]
    assert len(claims) == len(set(claims)) == 7


def claim_often(url: str, study_id: int) -> list[int]:
    """In a process of its own: claim until the budget is spent."""
    engine = open_storage(url)[1]
    claims = []
    while (claim := records.claim_slot(engine, study_id, "w")) is not None:
        claims.append(claim)
    engine.dispose()
    return claims


def test_processes_share_one_budget_exactly(bench: Bench, storage_url: str) -> None:
    records.set_budget(bench.engine, bench.id, 25)
    with ProcessPoolExecutor(4, mp_context=get_context("spawn")) as pool:
        done = [pool.submit(claim_often, storage_url, bench.id) for _ in range(4)]
        claims = [claim for future in done for claim in future.result()]
    assert len(claims) == len(set(claims)) == 25


def test_a_raised_budget_gives_more_slots_and_a_lowered_one_none(bench: Bench) -> None:
    records.set_budget(bench.engine, bench.id, 1)
    assert records.claim_slot(bench.engine, bench.id, "w")
    assert records.claim_slot(bench.engine, bench.id, "w") is None
    records.set_budget(bench.engine, bench.id, 2)
    assert records.claim_slot(bench.engine, bench.id, "w")
    records.set_budget(bench.engine, bench.id, 1)
    assert records.claim_slot(bench.engine, bench.id, "w") is None


def test_without_a_budget_there_is_no_end(bench: Bench) -> None:
    assert all(records.claim_slot(bench.engine, bench.id, "w") for _ in range(5))


def test_one_trial_is_bound_to_one_slot_however_many_try(bench: Bench) -> None:
    slots = [records.claim_slot(bench.engine, bench.id, f"w{at}") for at in range(6)]
    trial_id = bench.storage.create_new_trial(bench.id, WAITING)
    won = all_at_once(6, lambda at: records.bind(bench.engine, slots[at] or 0, trial_id))
    assert sorted(map(bool, won)) == [False] * 5 + [True]


def test_a_trial_put_back_is_taken_by_one_worker_only(bench: Bench) -> None:
    trials = [bench.begin(bench.worker(f"old{at}")) for at in range(3)]
    for at in range(3):
        assert records.release(bench.engine, f"old{at}", died=True) == [trials[at]]
    taken = all_at_once(8, lambda at: records.take_put_back(bench.engine, bench.id, f"new{at}"))
    assert sorted(t for t in taken if t is not None) == trials  # type: ignore[type-var]


def test_two_hosts_that_release_the_same_worker_count_one_death(bench: Bench) -> None:
    trial_id = bench.begin(bench.worker("slow"))
    released = all_at_once(6, lambda at: records.release(bench.engine, "slow", died=True))
    assert sorted(map(len, released)) == [0] * 5 + [1]  # type: ignore[arg-type]
    assert records.deaths(bench.engine, trial_id) == 1


def test_a_late_release_does_not_touch_the_next_owner(bench: Bench) -> None:
    trial_id = bench.begin(bench.worker("slow"))
    records.release(bench.engine, "slow", died=True)
    assert records.take_put_back(bench.engine, bench.id, bench.worker("next")) == trial_id
    bench.storage.set_trial_state_values(trial_id, TrialState.RUNNING)
    records.release(bench.engine, "slow", died=True)
    assert (bench.state(trial_id), bench.owner(trial_id)) == ("RUNNING", "next")


def test_release_takes_claim_and_state_back_together(bench: Bench) -> None:
    trial_id = bench.begin(bench.worker("w"))
    records.release(bench.engine, "w", died=False)
    assert (bench.state(trial_id), bench.owner(trial_id)) == ("WAITING", None)
    assert records.deaths(bench.engine, trial_id) == 0


def test_a_finished_trial_stays_with_the_worker_that_made_it(bench: Bench) -> None:
    trial_id = bench.begin(bench.worker("w"))
    bench.storage.set_trial_state_values(trial_id, TrialState.COMPLETE, [0.5])
    assert records.release(bench.engine, "w", died=True) == []
    assert (bench.state(trial_id), bench.owner(trial_id)) == ("COMPLETE", "w")


def test_a_slot_without_a_trial_goes_back_to_the_budget(bench: Bench) -> None:
    records.set_budget(bench.engine, bench.id, 1)
    assert records.claim_slot(bench.engine, bench.id, bench.worker("w"))
    records.release(bench.engine, "w", died=True)
    assert records.claim_slot(bench.engine, bench.id, "next")


def test_the_loser_of_a_trial_can_write_no_epoch(bench: Bench) -> None:
    trial_id = bench.begin(bench.worker("slow"))
    records.release(bench.engine, "slow", died=True)
    records.take_put_back(bench.engine, bench.id, "next")
    with pytest.raises(TrialLost, match="another worker"):
        records.write_epoch(bench.engine, trial_id, "slow", {"epoch": 1, **EPOCH})
    with pytest.raises(TrialLost):
        records.still_mine(bench.engine, trial_id, "slow")
    assert overview.history(bench.engine, trial_id) == []


def test_an_epoch_trained_twice_stands_once_with_its_last_numbers(bench: Bench) -> None:
    trial_id = bench.begin(bench.worker("w"))
    for value in (0.25, 0.75):
        records.write_epoch(bench.engine, trial_id, "w", {"epoch": 1, **EPOCH, "value": value})
    (row,) = overview.history(bench.engine, trial_id)
    assert (row["value"], row["peak_memory"]) == (0.75, EPOCH["peak_memory"])


def test_a_further_epoch_forgives_the_deaths_before_it(bench: Bench) -> None:
    trial_id = bench.begin(bench.worker("w1"))
    records.write_epoch(bench.engine, trial_id, "w1", {"epoch": 1, **EPOCH})
    records.release(bench.engine, "w1", died=True)
    records.take_put_back(bench.engine, bench.id, "w2")
    records.write_epoch(bench.engine, trial_id, "w2", {"epoch": 1, **EPOCH})
    assert records.deaths(bench.engine, trial_id) == 1
    records.write_epoch(bench.engine, trial_id, "w2", {"epoch": 2, **EPOCH})
    assert records.deaths(bench.engine, trial_id) == 0


def test_workers_are_numbered_in_the_order_they_joined(bench: Bench) -> None:
    numbers = all_at_once(8, lambda at: records.enter(bench.engine, bench.id, {**WORKER, "worker": f"w{at}"}))
    assert sorted(numbers) == list(range(8))  # type: ignore[type-var]


def test_a_worker_given_up_for_dead_that_went_on_is_found(bench: Bench) -> None:
    trial_id = bench.begin("never entered")
    assert records.owners_without_row(bench.engine, bench.id) == ["never entered"]
    records.release(bench.engine, "never entered", died=True)
    assert (bench.state(trial_id), bench.owner(trial_id)) == ("WAITING", None)
    assert records.owners_without_row(bench.engine, bench.id) == []


def test_a_running_trial_that_nobody_owns_is_put_back(bench: Bench) -> None:
    trial_id = bench.begin(bench.worker("slow"))
    records.release(bench.engine, "slow", died=True)
    bench.storage.set_trial_state_values(trial_id, TrialState.RUNNING)  # it wakes up and goes on
    owned = bench.begin(bench.worker("well"))
    records.mend(bench.engine, bench.id)
    assert (bench.state(trial_id), bench.state(owned)) == ("WAITING", "RUNNING")


def test_why_a_trial_is_lost_is_said(bench: Bench) -> None:
    trial_id = bench.begin(bench.worker("w"))
    assert records.is_lost(bench.engine, trial_id, "w") == ""
    assert "another worker" in records.is_lost(bench.engine, trial_id, "other")
    bench.storage.set_trial_state_values(trial_id, TrialState.FAIL)
    assert "FAIL" in records.is_lost(bench.engine, trial_id, "w")
    bench.storage.delete_study(bench.id)
    assert "deleted" in records.is_lost(bench.engine, trial_id, "w")


def test_a_new_study_inherits_nothing_of_a_deleted_one(bench: Bench, storage_url: str) -> None:
    trial_id = bench.begin(bench.worker("w"))
    records.write_epoch(bench.engine, trial_id, "w", {"epoch": 1, **EPOCH})
    records.set_budget(bench.engine, bench.id, 1)
    bench.storage.delete_study(bench.id)
    assert not records.exists(bench.engine, bench.id, "one")
    again = open_bench(storage_url, "one")
    assert records.budget(again.engine, again.id) is None
    assert overview.history(again.engine, again.begin(again.worker("w"))) == []
    again.engine.dispose()


def test_the_id_of_a_deleted_trial_can_be_used_again_under_a_running_study(bench: Bench, storage_url: str) -> None:
    other = open_bench(storage_url, "two")
    stale = other.begin(other.worker("w"))
    records.write_epoch(other.engine, stale, "w", {"epoch": 1, **EPOCH})
    bench.storage.delete_study(other.id)
    fresh = bench.begin(bench.worker("v"))  # SQLite gives it the id of the deleted trial
    assert bench.owner(fresh) == "v"
    assert overview.history(bench.engine, fresh) == []
    other.engine.dispose()


def write_epochs(url: str, trial_id: int, worker: str) -> int:
    """In a process of its own: epochs and Optuna's reports, as a worker writes them, as fast as they go."""
    storage, engine = open_storage(url)
    for epoch in range(1, 31):
        records.write_epoch(engine, trial_id, worker, {"epoch": epoch, **EPOCH})
        storage.set_trial_intermediate_value(trial_id, epoch, 0.5)
        storage.set_trial_user_attr(trial_id, "at", epoch)
        records.beat(engine, worker, {"step": epoch})
    engine.dispose()
    return epoch


def test_five_processes_write_at_once_and_none_is_locked_out(bench: Bench, storage_url: str) -> None:
    trials = [bench.begin(bench.worker(f"w{at}")) for at in range(5)]
    with ProcessPoolExecutor(5, mp_context=get_context("spawn")) as pool:
        done = [pool.submit(write_epochs, storage_url, trial_id, f"w{at}") for at, trial_id in enumerate(trials)]
        assert [future.result() for future in done] == [30] * 5
    for trial_id in trials:
        assert [row["epoch"] for row in overview.history(bench.engine, trial_id)] == list(range(1, 31))
        assert len(bench.storage.get_trial(trial_id).intermediate_values) == 30


def test_a_trial_is_not_bound_to_a_claim_that_was_taken_away(bench: Bench) -> None:
    claim = records.claim_slot(bench.engine, bench.id, "w")
    assert claim is not None
    records.release(bench.engine, "w", died=True)
    with pytest.raises(TrialLost):
        records.bind(bench.engine, claim, 1)
