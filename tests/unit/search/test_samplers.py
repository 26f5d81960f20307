"""The samplers by name: Optuna's published tests, seeds, and what each learns from."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.testing.pytest_samplers import BasicSamplerTestCase, RelativeSamplerTestCase
from optuna.trial import FrozenTrial, TrialState, create_trial

from tuner.errors import PartError
from tuner.goal import Goal
from tuner.registry.own_modules import search_beside
from tuner.search.rank_sampler import RankSampler, rank_values
from tuner.search.samplers import check_sampler, make_sampler
from tuner.search.sampling import SubsetTPESampler
from tuner.search.unit_cube import from_unit, to_unit
from tuner.space.search_settings import SAMPLERS, SearchSettings
from tuner.study.info import StudyInfo, StudyKind

X, K = FloatDistribution(1e-5, 1e-1, log=True), IntDistribution(32, 200, step=8)
LOSS = CategoricalDistribution(["bce", "dice", None])
SPACE: dict[str, BaseDistribution] = {"lr": X, "k": K, "loss": LOSS}
PARAMETERS = {
    "lr": {"kind": "float", "low": 1e-5, "high": 1e-1, "log": True, "step": None},
    "k": {"kind": "int", "low": 32, "high": 200, "log": False, "step": 8},
    "loss": {"kind": "categorical", "choices": ["bce", "dice", None]},
}
LEARNING = ["tpe", "early", "gp", "cmaes", "nsga2"]
DRAWING = [name for name in SAMPLERS if name != "grid"]


def costly(names: list[str], slow: tuple[str, ...] = ("gp",)) -> list[Any]:
    """Return the names; gp, which takes as long as all others together, is left to `make test-all`."""
    return [pytest.param(name, marks=[pytest.mark.slow] if name in slow else []) for name in names]


def info_of(sampler: str, direction: str = "minimize", **more: Any) -> StudyInfo:
    settings = SearchSettings(sampler=sampler)
    return StudyInfo("s", "s", Goal("loss", direction), "shapes", parameters=PARAMETERS, search=settings, **more)


def needs(sampler: str) -> str:
    if sampler == "cmaes":
        pytest.importorskip("cmaes")
    return sampler


# Not by default: one that is Optuna's as it is, and one in the same wrapper as gp and cmaes.
@pytest.mark.parametrize("name", costly(DRAWING, ("random", "nsga2")))
class TestBasic(BasicSamplerTestCase):
    @pytest.fixture
    def sampler(self, name: str) -> Callable[[], BaseSampler]:
        return lambda: make_sampler(info_of(needs(name)), 0)


# Those that can choose all parameters at once from the second trial on.
@pytest.mark.parametrize("name", [pytest.param("gp", marks=pytest.mark.slow), "cmaes"])
class TestRelative(RelativeSamplerTestCase):
    @pytest.fixture
    def sampler(self, name: str) -> Callable[[], BaseSampler]:
        if name == "gp":
            return lambda: RankSampler(optuna.samplers.GPSampler(seed=0, n_startup_trials=0), False)
        return lambda: make_sampler(info_of(needs(name)), 0)


def run(sampler: str, number: int, worker: int = 0, seed: int = 0, pruned: bool = False) -> list[FrozenTrial]:
    """Return the trials of a search for the smallest distance to lr 1e-3 and k 96, in a study of one worker."""
    study = optuna.create_study(sampler=make_sampler(info_of(needs(sampler), seed=seed), worker))
    for _ in range(number):
        trial = study.ask(SPACE)
        distance = abs(np.log10(trial.params["lr"]) + 3) + abs(trial.params["k"] - 96) / 100
        trial.report(distance, step=1)
        if pruned and distance > 0.5:
            study.tell(trial, state=TrialState.PRUNED)
        else:
            study.tell(trial, distance)
    return study.trials


def points(trials: list[FrozenTrial]) -> list[dict[str, Any]]:
    return [trial.params for trial in trials]


@pytest.mark.parametrize("name", costly(DRAWING))
def test_a_study_with_one_worker_repeats_itself_and_another_worker_draws_other_points(name: str) -> None:
    first = points(run(name, 12))
    assert points(run(name, 12)) == first and points(run(name, 12, seed=1)) != first
    if name != "qmc":  # its points follow from the trial's number, which no two workers share
        assert not {point["lr"] for point in points(run(name, 8, worker=1))} & {point["lr"] for point in first}


@pytest.mark.parametrize("name", costly(LEARNING))
def test_those_that_learn_come_near_the_best_also_if_all_others_are_pruned(name: str) -> None:
    number = {"nsga2": 110, "gp": 18}.get(name, 40)  # the second generation, and few because each takes long
    last = [abs(np.log10(trial.params["lr"]) + 3) for trial in run(name, number, pruned=True)[-8:]]
    assert np.median(last) < 0.6, "of random ones 1"


def test_the_sequence_fills_the_space_evenly() -> None:
    drawn = points(run("qmc", 16))
    shares = sorted(int(16 * to_unit(X, point["lr"])) for point in drawn)
    assert shares == list(range(16))


@pytest.mark.parametrize("name", ["random", "gp", "qmc"])
def test_the_choices_of_each_take_turns_with_every_sampler(name: str) -> None:
    study = optuna.create_study(sampler=make_sampler(info_of(name, each="loss"), 0))
    drawn = []
    for _ in range(13):
        trial = study.ask(SPACE)
        drawn.append(trial.params["loss"])
        study.tell(trial, trial.params["lr"])
    assert drawn == (["bce", "dice", None] * 5)[:13]


def finished(number: int, value: float | None, state: str = "COMPLETE", **values: float) -> FrozenTrial:
    steps = {int(step[1:]): each for step, each in values.items()}
    trial = create_trial(state=TrialState[state], value=value, intermediate_values=steps)
    trial.number = number
    return trial


def test_ranks_put_pruned_trials_behind_complete_ones_and_equal_ones_together() -> None:
    trials = [
        finished(0, 0.9),
        finished(1, None, "PRUNED", e1=0.95),
        finished(2, None, "PRUNED", e1=0.5, e3=0.6),
        finished(3, 0.7),
        finished(4, None, "FAIL"),
        finished(5, 0.7),
        finished(6, None, "RUNNING"),
    ]
    ranked = rank_values(trials, is_maximized=True, most=None)
    assert [trial.number for trial in ranked] == [0, 1, 2, 3, 5, 6]
    values = {trial.number: trial.value for trial in ranked if trial.state is TrialState.COMPLETE}
    assert sorted(values, key=lambda number: -values[number]) == [0, 3, 5, 2, 1] and values[3] == values[5]
    assert trials[1].state is TrialState.PRUNED, "the study's own trials stay as they are"
    lower = rank_values(trials, is_maximized=False, most=None)
    assert min((t.value, t.number) for t in lower if t.state is TrialState.COMPLETE)[1] == 3


def test_trials_over_a_limit_are_ranked_last_by_how_much_and_shown_without_constraints() -> None:
    trials = [finished(number, None, "PRUNED") for number in range(3)] + [finished(3, 0.1), finished(4, 0.9)]
    for trial, excess in zip(trials, (0.0, 2.0, 0.5, -0.5, -0.1), strict=True):
        trial.system_attrs = {"constraints:params": excess} if excess else {}
    ranked = {t.number: t.value for t in rank_values(trials, is_maximized=True, most=None)}
    assert sorted(ranked, key=lambda number: -ranked[number]) == [4, 3, 0, 2, 1]
    assert not any(t.constraints for t in rank_values(trials, is_maximized=True, most=None))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tpe", "cmaes", "nsga2"])
def test_those_that_learn_keep_away_from_what_breaks_a_limit(name: str) -> None:
    """A third of the random ones meet the limit."""
    study = optuna.create_study(sampler=make_sampler(info_of(needs(name), seed=1), 0))
    for _ in range(150 if name == "nsga2" else 60):
        trial = study.ask(SPACE)
        excess = trial.params["k"] / 90 - 1
        trial.set_constraint("params", excess)
        if excess > 0:
            study.tell(trial, state=TrialState.PRUNED)
        else:
            study.tell(trial, abs(np.log10(trial.params["lr"]) + 3))
    assert sum(trial.params["k"] <= 90 for trial in study.trials[-20:]) >= 14


def test_of_many_trials_the_best_and_the_newest_are_seen() -> None:
    trials = [finished(number, float(number % 100)) for number in range(1000)]
    seen = rank_values(trials, is_maximized=True, most=40)
    numbers = [trial.number for trial in seen]
    assert len(seen) == 40 and numbers[-20:][-1] == 999
    assert {trial.number % 100 for trial in seen[:10]} <= {98, 99}


def test_generations_leave_nothing_in_the_study() -> None:
    """Two workers would write over each other's population, and each trial would cost a row per generation."""
    study = optuna.create_study(sampler=make_sampler(info_of("nsga2"), 0))
    for _ in range(101):
        trial = study.ask(SPACE)
        study.tell(trial, trial.params["lr"])
    assert study.trials[100].system_attrs["NSGAIISampler:generation"] == 2
    assert not study._storage.get_study_system_attrs(study._study_id)


def test_cmaes_stores_the_generation_of_a_trial_and_no_object() -> None:
    trials = run("cmaes", 30)
    attrs = [trial.system_attrs for trial in trials]
    assert max(each.get("cma:generation", 0) for each in attrs) >= 2
    assert {key for each in attrs for key in each} == {"cma:generation"}


def test_a_resumed_trial_and_one_that_was_given_whole_are_not_chosen_again() -> None:
    """A fit would take a second for nothing, and a resumed trial would count for a later generation."""
    study = optuna.create_study(sampler=make_sampler(info_of(needs("cmaes")), 0))
    trials = [study.ask(SPACE)]
    for _ in range(12):
        study.tell(trials[-1], trials[-1].params["lr"])
        trials.append(study.ask(SPACE))
        if len(trials) == 4:
            resumed = trials.pop()
            trials.append(study.ask(SPACE))
    again = optuna.Trial(study, resumed._trial_id)
    assert [again.suggest_float("lr", 1e-5, 1e-1, log=True), again.params] == [
        resumed.params["lr"],
        resumed.params,
    ]
    for params in ({"lr": 1e-3, "k": 96, "loss": "bce"}, {"lr": 1e-3}):
        study.enqueue_trial(params)
    whole, partial = study.ask(SPACE), study.ask(SPACE)
    assert whole.params["k"] == 96 and partial.params["lr"] == 1e-3
    generations = [trial.system_attrs.get("cma:generation") for trial in study.trials]
    assert generations[resumed.number] == 0 and generations[whole.number] is None
    assert (generations[partial.number] or 0) > 0


@pytest.mark.parametrize(
    "distribution",
    [X, K, LOSS, FloatDistribution(0, 1), FloatDistribution(0, 1, step=0.1), IntDistribution(1, 100, log=True)],
)
def test_a_value_is_found_again_at_its_share(distribution: BaseDistribution) -> None:
    for share in (0.0, 0.1, 0.5, 0.77, 1.0):
        value = from_unit(distribution, share)
        assert distribution._contains(distribution.to_internal_repr(value))
        assert from_unit(distribution, to_unit(distribution, value)) == pytest.approx(value) or value is None


OWN = """
import optuna
def mine(seed):
    return optuna.samplers.RandomSampler(seed=seed)
def knows(seed, parameters):
    assert list(parameters) == ["lr", "k", "loss"]
    return mine(seed)
def text(seed):
    return "random"
def broken(seed):
    raise ValueError("no such thing")
class Late(optuna.samplers.RandomSampler):
    def sample_independent(self, *args):
        raise KeyError("lr")
def late(seed):
    return Late()
"""


@pytest.fixture
def own(tmp_path: Path) -> None:
    (tmp_path / "own_samplers.py").write_text(OWN)
    search_beside(tmp_path / "space.py")


@pytest.mark.usefixtures("own")
def test_a_sampler_of_the_users_own_gets_a_seed_and_the_parameters() -> None:
    first = points(run("own_samplers:mine", 4))
    assert points(run("own_samplers:knows", 4)) == first and len({point["lr"] for point in first}) == 4


def test_given_trials_need_no_sampler_of_the_users_own() -> None:
    info = replace(info_of("nowhere_at_all:mine"), kind=StudyKind.EXTENSION)
    assert isinstance(make_sampler(info, 0), SubsetTPESampler)


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("own_samplers:text", "sampler 'own_samplers:text' returned str; a sampler of Optuna"),
        ("own_samplers:broken", r"raised ValueError: no such thing \(line 11\)"),
        ("own_samplers:absent", "has no attribute 'absent'"),
        ("nowhere_at_all:mine", "there is no module 'nowhere_at_all'"),
    ],
)
def test_a_sampler_that_cannot_be_made_is_told_in_one_line(name: str, words: str) -> None:
    with pytest.raises(PartError, match=words) as told:
        check_sampler(SearchSettings(sampler=name).to_json(), PARAMETERS)
    assert "\n" not in str(told.value)


@pytest.mark.usefixtures("own")
def test_an_error_of_an_own_sampler_while_it_draws_is_told_in_one_line() -> None:
    with pytest.raises(PartError, match=r"'own_samplers:late' raised KeyError: 'lr' \(line 14\)"):
        run("own_samplers:late", 1)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cmaes", None)
    with pytest.raises(PartError, match=r"needs the package cmaes\. Install it: pip install cmaes"):
        check_sampler(SearchSettings(sampler="cmaes").to_json(), PARAMETERS)
