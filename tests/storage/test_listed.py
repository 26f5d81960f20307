"""Lists of trials: added once, whoever types the command and however often; failed ones again."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from optuna.distributions import FloatDistribution
from optuna.trial import TrialState

from tuner import overview, records
from tuner.goal import Goal
from tuner.listed import Item, enlist
from tuner.study import Joined, Plan, join, pruner

PLAN = Plan("s", Goal("iou", "maximize"), "shapes", False, 0, {}, listed="table s")
ITEMS = [Item(f"row {n}", {"lr": n / 10}, {"row": f"row {n}"}) for n in range(4)]


def trials_of(study: Joined) -> list[overview.Trial]:
    return overview.trials_of(study.engine, overview.find_study(study.engine, "s"))


def test_two_terminals_that_type_it_at_once_add_nothing_twice(storage_url: str) -> None:
    join(storage_url, "s", PLAN).engine.dispose()

    def type_it(_: int) -> int:
        study = join(storage_url, "s", PLAN)
        try:
            return enlist(study, storage_url, ITEMS)
        finally:
            study.engine.dispose()

    with ThreadPoolExecutor(3) as pool:
        added = list(pool.map(type_it, range(3)))
    study = join(storage_url, "s", PLAN)
    assert sorted(added) == [0, 0, 4] and records.budget(study.engine, study.id) == 4
    assert [trial.notes["row"] for trial in trials_of(study)] == [item.key for item in ITEMS]
    study.engine.dispose()


def test_what_failed_is_added_again_and_what_is_new(storage_url: str) -> None:
    study = join(storage_url, "s", PLAN)
    enlist(study, storage_url, ITEMS[:2])
    study.study.tell(study.study.ask(), state=TrialState.FAIL)
    assert enlist(study, storage_url, ITEMS[:3]) == 2
    assert [trial.notes["row"] for trial in trials_of(study)] == ["row 0", "row 1", "row 0", "row 2"]
    assert records.budget(study.engine, study.id) == 4
    study.engine.dispose()


def test_slots_of_deleted_trials_do_not_keep_a_list_from_its_end(storage_url: str) -> None:
    study = join(storage_url, "s", PLAN)
    enlist(study, storage_url, ITEMS[:1])
    records.enter(study.engine, study.id, {"worker": "w", "host": "h", "pid": 1, "born": 1.0, "device": "cpu"})
    claim = records.claim_slot(study.engine, study.id, "w")
    assert claim and records.bind(study.engine, claim, 987654)  # a trial that is gone
    assert records.claim_slot(study.engine, study.id, "w") is None
    assert enlist(study, storage_url, ITEMS[:1]) == 0
    claim = records.claim_slot(study.engine, study.id, "w")
    assert claim
    records.give_back(study.engine, claim)
    assert records.claim_slot(study.engine, study.id, "w")
    study.engine.dispose()


def test_parameters_with_their_distributions_stand_before_the_trial_begins(storage_url: str) -> None:
    study = join(storage_url, "s", PLAN)
    enlist(study, storage_url, [Item("one", {"lr": 0.3}, {}, {"lr": FloatDistribution(0, 1)})])
    assert trials_of(study)[0].params == {"lr": 0.3} and trials_of(study)[0].state == "WAITING"
    study.engine.dispose()


def test_a_list_is_never_pruned() -> None:
    assert "Nop" in type(pruner(PLAN)).__name__
    assert "Halving" in type(pruner(Plan("s", PLAN.goal, "shapes", False, 0, {}))).__name__
