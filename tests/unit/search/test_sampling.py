"""Sampling: the same draw for the same trials, a subset of many trials, and no repeated parameters."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from copy import copy
from dataclasses import replace
from typing import Any, cast

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from tuner.goal import Goal
from tuner.search import sampling
from tuner.search.samplers import make_sampler
from tuner.search.sampling import (
    NUM_BEST,
    NUM_NEWEST,
    NUM_OTHERS,
    REPEATS,
    SubsetTPESampler,
    TrialSubset,
    redraw,
)
from tuner.study import optuna_compat
from tuner.study.info import StudyInfo
from tuner.study.paused import MARK

INFO = StudyInfo("s", "s", Goal("iou", "maximize"), "shapes")
KINDS = {"lr": FloatDistribution(1e-5, 1e-1, log=True), "loss": CategoricalDistribution(["bce", "dice"])}
MOST = NUM_BEST + NUM_NEWEST + NUM_OTHERS


def study_of(trials: list[FrozenTrial], worker: int = 0, direction: str = "maximize") -> optuna.Study:
    plan = StudyInfo("s", "s", Goal("iou", direction), "shapes")
    study = optuna.create_study(direction=direction, sampler=make_sampler(plan, worker))
    study.add_trials(trials)
    return study


def finished(number: int, seed: int = 0) -> list[FrozenTrial]:
    """Return trials as after a search: many pruned after their first epoch, some failed, the others complete."""
    draw = random.Random(seed)
    return [one(draw, draw.choices(["COMPLETE", "PRUNED", "FAIL"], [4, 5, 1])[0]) for _ in range(number)]


def one(draw: random.Random, state: str) -> FrozenTrial:
    params = {"lr": 10 ** draw.uniform(-5, -1), "loss": draw.choice(["bce", "dice"])}
    return create_trial(
        state=TrialState[state],
        params=params,
        distributions=KINDS,
        value=draw.random() if state == "COMPLETE" else None,
        intermediate_values={epoch: draw.random() for epoch in range(1, draw.choice([2, 4]))},
    )


def ask(study: optuna.Study) -> dict[str, Any]:
    trial = study.ask(KINDS)
    return trial.params


def first_points(worker: int, number: int = 8) -> list[float]:
    study = study_of([], worker)
    return [float(ask(study)["lr"]) for _ in range(number)]


def test_the_first_points_of_two_workers_differ_and_those_of_one_are_the_same_again() -> None:
    assert len({*first_points(0), *first_points(1), *first_points(2)}) == 24
    assert first_points(1) == first_points(1)


def test_a_draw_depends_on_what_is_there_and_not_on_what_the_worker_did_before() -> None:
    """A worker that was there from the start and one that has just joined in its place draw the same."""
    trials = finished(60)
    old = study_of(trials[:40])
    ask(old)
    number = 45
    for trial in trials[41:number]:
        old.add_trial(trial)
    new = study_of([*trials[:40], old.trials[40], *trials[41:number]])
    assert ask(old) == ask(new)


def test_up_to_some_hundred_trials_tpe_sees_them_all() -> None:
    trials = numbered(finished(NUM_OTHERS))
    chosen = TrialSubset(frozenset(KINDS), True).select(trials)
    assert chosen == [t for t in trials if t.state in sampling.FINISHED]


def numbered(trials: list[FrozenTrial]) -> list[FrozenTrial]:
    for number, trial in enumerate(trials):
        trial.number = number
    return trials


@pytest.mark.parametrize("is_maximized", [True, False])
def test_of_thousands_tpe_sees_few_and_among_them_all_that_it_would_model_as_good(is_maximized: bool) -> None:
    from optuna.samplers._tpe.sampler import _split_trials

    direction = "maximize" if is_maximized else "minimize"
    trials = numbered(finished(2000))
    known = [trial for trial in trials if trial.state in sampling.FINISHED]
    shown = TrialSubset(frozenset(KINDS), is_maximized).select(trials)
    study = optuna.create_study(direction=direction)
    whole, few = _split_trials(study, known, NUM_BEST)[0], _split_trials(study, shown, NUM_BEST)[0]
    assert [t.number for t in few] == [t.number for t in whole]
    assert len(shown) <= MOST and known[-NUM_NEWEST:] == shown[-NUM_NEWEST:]


def test_pruned_trials_are_ranked_as_tpe_ranks_them_where_nothing_is_complete() -> None:
    from optuna.samplers._tpe.sampler import _split_trials

    draw = random.Random(0)
    trials = numbered([one(draw, "PRUNED") for _ in range(600)])
    trials[5].intermediate_values = {1: float("nan")}
    trials[6].intermediate_values = {}
    shown = TrialSubset(frozenset(KINDS), True).select(trials)
    study = optuna.create_study(direction="maximize")
    expected, _ = _split_trials(study, trials, NUM_BEST)
    assert _split_trials(study, shown, NUM_BEST)[0] == expected


def test_what_is_shown_is_the_same_whether_trials_came_one_by_one_or_all_at_once() -> None:
    trials = numbered(finished(900))
    slowly = TrialSubset(frozenset(KINDS), True)
    ends = list(range(0, 900, 7))
    random.Random(1).shuffle(ends)
    for end in (100, 300, 301, 650):
        slowly.select(trials[:end])
    assert slowly.select(trials) == TrialSubset(frozenset(KINDS), True).select(trials)


def test_a_trial_that_was_running_is_seen_once_it_ends_and_shown_while_it_runs() -> None:
    trials = numbered(finished(400))
    late = trials[7]
    running = create_trial(state=TrialState.RUNNING)
    running.number = 7
    few = TrialSubset(frozenset(KINDS), True)
    assert running in few.select([*trials[:7], running, *trials[8:]])
    late.state, late.values = TrialState.COMPLETE, [2.0]
    assert late in few.select(trials) and running not in few.select(trials)


def test_a_paused_trial_counts_as_far_as_it_came_until_it_ends_again() -> None:
    trials = numbered(finished(12))
    trials[3].state, trials[3].system_attrs = TrialState.PRUNED, {MARK: {"epoch": 1, "attempt": 1}}
    rests, running, ended = trials[3], copy(trials[3]), copy(trials[3])
    running.state, ended.state, ended.values = TrialState.RUNNING, TrialState.COMPLETE, [2.0]
    running.system_attrs = ended.system_attrs = {}
    few, shown = TrialSubset(frozenset(KINDS), True), list[FrozenTrial]()
    for trials[3] in (rests, running, ended):
        shown += [trial for trial in few.select(trials) if trial.number == 3]
    assert [each is wanted for each, wanted in zip(shown, (rests, rests, ended), strict=True)] == [True] * 3


def test_deleted_trials_do_not_hide_others() -> None:
    trials = numbered(finished(300))
    few = TrialSubset(frozenset(KINDS), True)
    few.select(trials[:250])
    left = trials[20:]
    newest = few.select(left)[-1]
    assert newest is [trial for trial in left if trial.state in sampling.FINISHED][-1]


def test_a_parameter_of_a_rare_branch_is_learnt_from_the_trials_that_have_it() -> None:
    trials = numbered(finished(2000))
    rare = [t for t in trials if t.state in sampling.FINISHED][::20]
    for trial in rare:
        trial.distributions = {**KINDS, "depth": FloatDistribution(0, 1)}
        trial.params = {**trial.params, "depth": 0.5}
    shown = TrialSubset(frozenset(["depth"]), True).select(trials)
    assert all(trial in shown for trial in rare)


def test_with_thousands_of_trials_the_search_still_goes_where_it_is_good() -> None:
    """The search is better than random even if the subset has less than a third of the trials."""
    study = study_of(finished(1000))
    for trial in study.get_trials(deepcopy=False):
        if trial.state is TrialState.COMPLETE:
            trial.values = [-abs(trial.params["lr"] - 1e-3)]
    drawn = [ask(study)["lr"] for _ in range(20)]
    assert sum(3e-4 < lr < 3e-3 for lr in drawn) >= 15  # at random, 5 of them


class Memory(optuna.storages.InMemoryStorage):
    """Optuna's storage in memory that can forget parameters, as ours can before they are written."""

    def forget_params(self, trial_id: int) -> None:
        trial = self._get_trial(trial_id)
        trial.params, trial.distributions = {}, {}


Suggest = Callable[[optuna.Trial], dict[str, Any]]


def in_memory() -> optuna.Study:
    return optuna.create_study(
        storage=Memory(), sampler=make_sampler(INFO, 0), direction="maximize", study_name="s"
    )


def grid(trial: optuna.Trial) -> dict[str, Any]:
    """Sixteen points."""
    return {
        "a": trial.suggest_int("a", 0, 3),
        "b": trial.suggest_int("b", 0, 3),
    }


def search(suggest: Suggest, number: int, again: bool = True) -> optuna.Study:
    study = in_memory()
    for _ in range(number):
        trial = study.ask()
        chosen = redraw(study, trial, suggest) if again else suggest(trial)
        assert chosen == trial.params == study.trials[trial.number].params
        study.tell(trial, -((chosen["a"] - 2) ** 2) - (chosen["b"] - 1) ** 2)
    return study


def points(trials: list[FrozenTrial]) -> set[tuple[Any, ...]]:
    return {tuple(trial.params.values()) for trial in trials}


def test_forty_trials_on_a_grid_of_sixteen_points_meet_all_of_them() -> None:
    study = search(grid, 40)
    assert len(points(study.trials)) == 16
    first = study.trials[:16]
    assert len(points(first)) == 16 and not any(REPEATS in trial.user_attrs for trial in first)
    alone = search(grid, 16, again=False)
    assert len(points(alone.trials)) < 16, "TPE alone repeats itself: else this shows nothing"


def test_where_the_space_is_used_up_a_repeat_is_kept_and_says_whose_parameters_it_has() -> None:
    study = search(grid, 20)
    for trial in study.trials[16:]:
        assert study.trials[trial.user_attrs[REPEATS]].params == trial.params


def test_what_a_failed_trial_had_may_be_tried_again() -> None:
    study = in_memory()
    failed = study.ask()
    redraw(study, failed, single)
    study.tell(failed, state=TrialState.FAIL)
    trial = study.ask()
    assert redraw(study, trial, single) == failed.params and not trial.user_attrs


def single(trial: optuna.Trial) -> dict[str, Any]:
    return {"a": trial.suggest_categorical("a", ["only"])}


def test_what_runs_now_is_not_drawn_again_either() -> None:
    study = in_memory()
    for _ in range(16):
        redraw(study, study.ask(), grid)
    assert len(points(study.trials)) == 16


def test_what_somebody_asked_for_is_left_as_it_is() -> None:
    study = search(grid, 16)
    wanted = study.trials[3].params
    study.enqueue_trial(wanted)
    trial = study.ask()
    assert redraw(study, trial, grid) == wanted and REPEATS not in trial.user_attrs


def test_a_branch_is_drawn_again_whole() -> None:
    """No parameter of the first draw is left."""

    def branches(trial: optuna.Trial) -> dict[str, Any]:
        if trial.suggest_categorical("way", ["left", "right"]) == "left":
            return {"way": "left", "depth": trial.suggest_int("depth", 0, 1)}
        return {"way": "right", "width": trial.suggest_int("width", 0, 1)}

    study = in_memory()
    for _ in range(4):
        trial = study.ask()
        chosen = redraw(study, trial, branches)
        assert chosen == study.trials[trial.number].params
        study.tell(trial, 0.0)
    assert len(points(study.trials)) == 4


def test_a_repeat_is_not_drawn_into_a_branch_that_raises() -> None:
    def thorny(trial: optuna.Trial) -> dict[str, Any]:
        if trial.suggest_int("a", 0, 30) > 1:
            raise ValueError("a branch that nobody has checked")
        return trial.params

    study = in_memory()
    study.enqueue_trial({"a": 0})
    study.tell(redrawn(study, thorny), 1.0)
    again = study.ask()
    again._fixed_params = {}
    again._relative_params = {"a": 0}
    again.relative_search_space = {"a": optuna.distributions.IntDistribution(0, 30)}
    assert redraw(study, again, thorny) == {"a": 1}


def redrawn(study: optuna.Study, suggest: Suggest) -> optuna.Trial:
    trial = study.ask()
    redraw(study, trial, suggest)
    return trial


def test_the_same_worker_redraws_the_same() -> None:
    assert [t.params for t in search(grid, 16).trials] == [t.params for t in search(grid, 16).trials]


def test_sampler_is_ours() -> None:
    assert isinstance(make_sampler(INFO, 0), SubsetTPESampler)


IN_TURN = replace(INFO, each="model", parameters={"model": {"kind": "categorical", "choices": ["a", "b", "c"]}})


def two_models(trial: optuna.Trial) -> dict[str, Any]:
    """A rate before the model: a space may ask in any order."""
    return {
        "lr": trial.suggest_float("lr", 1e-5, 1e-1, log=True),
        "model": trial.suggest_categorical("model", ["a", "b", "c"]),
    }


def test_the_choices_of_a_parameter_take_turns() -> None:
    samplers = [make_sampler(IN_TURN, worker) for worker in range(2)]
    study = optuna.create_study(storage=Memory(), direction="maximize", study_name="s")
    for number in range(60):
        study.sampler = samplers[number % 2]
        trial = study.ask()
        chosen = redraw(study, trial, two_models, "model")
        assert chosen["model"] == "abc"[number % 3]
        study.tell(trial, 0.0)


def test_each_choice_learns_from_its_own_trials_alone() -> None:
    best = {"a": 1e-4, "b": 1e-2, "c": 1e-3}
    study = optuna.create_study(
        storage=Memory(), sampler=make_sampler(IN_TURN, 0), direction="maximize", study_name="s"
    )
    for _ in range(120):
        trial = study.ask()
        chosen = redraw(study, trial, two_models, "model")
        study.tell(trial, -abs(math.log10(chosen["lr"] / best[chosen["model"]])))
    for model, lr in best.items():
        late = [trial.params["lr"] for trial in study.trials[60:] if trial.params["model"] == model]
        assert abs(math.log10(np.median(late) / lr)) < 0.4
    sampler = cast("SubsetTPESampler", study.sampler)
    seen = optuna_compat.read_cached_trials(sampler.with_subset(study, study.trials[1], ["lr"]))
    assert seen and {trial.params["model"] for trial in seen} == {"b"}


def test_a_repeated_draw_keeps_the_choice_whose_turn_it_is() -> None:
    def few(trial: optuna.Trial) -> dict[str, Any]:
        return {"model": trial.suggest_categorical("model", ["a", "b", "c"]), "k": trial.suggest_int("k", 0, 9)}

    study = optuna.create_study(
        storage=Memory(), sampler=make_sampler(IN_TURN, 0), direction="maximize", study_name="s"
    )
    for number in range(30):
        trial = study.ask()
        assert redraw(study, trial, few, "model")["model"] == "abc"[number % 3]
        study.tell(trial, trial.params["k"])
    assert len(points(study.trials)) == 30
