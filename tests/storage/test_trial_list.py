"""Given trials are added once, however often the command is run; failed ones are added again."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from helpers.sessions import opened_bench
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState

from tuner.goal import Goal
from tuner.search.scheduler import NoHalving, StopHalving
from tuner.search.scheduling import make_scheduler
from tuner.study import budget as budget_module
from tuner.study import queries, trial_queries
from tuner.study.info import StudyInfo, StudyKind
from tuner.study.study import JoinedStudy, join_study
from tuner.study.trial_list import GivenTrial, add_given_trials

INFO = StudyInfo("s", "s", Goal("iou", "maximize"), "shapes", kind=StudyKind.TABLE, subject="s")
ITEMS = [GivenTrial(f"row {n}", {"lr": n / 10}, {"row": f"row {n}"}) for n in range(4)]


def trials_of(study: JoinedStudy) -> list[trial_queries.TrialInfo]:
    return trial_queries.read_trials(study.engine, queries.find_study(study.engine, "s"))


def budget(study: JoinedStudy) -> int | None:
    return budget_module.read_budget(study.engine, study.id).budget.num_trials


def test_two_terminals_that_type_it_at_once_add_nothing_twice(prepared_url: str) -> None:
    join_study(prepared_url, INFO).engine.dispose()

    def type_it(_: int) -> int:
        study = join_study(prepared_url, INFO)
        try:
            return add_given_trials(study, prepared_url, ITEMS)
        finally:
            study.engine.dispose()

    with ThreadPoolExecutor(3) as pool:
        added = list(pool.map(type_it, range(3)))
    study = join_study(prepared_url, INFO)
    assert sorted(added) == [0, 0, 4] and budget(study) == 4
    assert [trial.attrs["row"] for trial in trials_of(study)] == [item.key for item in ITEMS]
    study.engine.dispose()


def test_what_failed_is_added_again_and_what_is_new(prepared_url: str) -> None:
    study = join_study(prepared_url, INFO)
    add_given_trials(study, prepared_url, ITEMS[:2])
    study.study.tell(study.study.ask(), state=TrialState.FAIL)
    assert add_given_trials(study, prepared_url, ITEMS[:3]) == 2
    assert [trial.attrs["row"] for trial in trials_of(study)] == ["row 0", "row 1", "row 0", "row 2"]
    assert budget(study) == 4
    study.engine.dispose()


def test_slots_of_deleted_trials_do_not_keep_a_list_from_its_end(prepared_url: str) -> None:
    with opened_bench(prepared_url, info=INFO) as bench:
        add_given_trials(bench.joined, prepared_url, ITEMS[:2])
        bench.enter("w")
        assert [bench.take("w", has_given_trials=True).number for _ in range(2)] == [0, 1]
        bench.delete(1)
        assert bench.try_to_take("w", has_given_trials=True) == "spent"
        with opened_bench(prepared_url, info=INFO) as again:  # the command, typed once more
            assert add_given_trials(again.joined, prepared_url, ITEMS[:2]) == 1
        assert bench.take("w", has_given_trials=True).number == 1
        assert bench.try_to_take("w", has_given_trials=True) == "spent" and budget(bench.joined) == 2


def test_parameters_with_their_distributions_stand_before_the_trial_begins(prepared_url: str) -> None:
    study = join_study(prepared_url, INFO)
    add_given_trials(study, prepared_url, [GivenTrial("one", {"lr": 0.3}, {}, {"lr": FloatDistribution(0, 1)})])
    assert trials_of(study)[0].params == {"lr": 0.3} and trials_of(study)[0].state == "WAITING"
    study.engine.dispose()


def test_a_list_is_never_pruned() -> None:
    assert isinstance(make_scheduler(INFO), NoHalving)
    assert isinstance(make_scheduler(StudyInfo("s", "s", INFO.goal, "shapes")), StopHalving)
