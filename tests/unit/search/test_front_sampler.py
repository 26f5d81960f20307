"""Samplers of several goals learn from the front, from pruned trials, and from those over a limit."""

from __future__ import annotations

from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from tuner.goal import maximize, minimize
from tuner.search import front_sampler
from tuner.search.front_sampler import FrontSampler, show_complete
from tuner.search.rank_sampler import RankSampler
from tuner.search.samplers import TrialSampler, make_sampler
from tuner.space.search_settings import SearchSettings
from tuner.study.info import StudyInfo

GOALS = (maximize("iou"), minimize("params"))
SPACE: dict[str, BaseDistribution] = {"k": IntDistribution(1, 100), "lr": FloatDistribution(1e-5, 1e-1, log=True)}


def sampler_of(name: str) -> TrialSampler:
    settings = SearchSettings(sampler=name)
    parameters: dict[str, Any] = {
        "k": {"kind": "int", "low": 1, "high": 100, "log": False, "step": 1},
        "lr": {"kind": "float", "low": 1e-5, "high": 1e-1, "log": True, "step": None},
    }
    made = make_sampler(
        StudyInfo("s", "s", GOALS[0], "shapes", parameters=parameters, search=settings, further=GOALS[1:]), 0
    )
    assert isinstance(made, TrialSampler)
    return made


def trial_of(number: int, state: str, **more: Any) -> FrozenTrial:
    trial = create_trial(state=TrialState[state], **more)
    trial.number = number
    return trial


def test_pruned_trials_are_shown_with_what_is_known_and_the_worst_of_the_rest() -> None:
    trials = [
        trial_of(0, "COMPLETE", values=[0.9, 100.0]),
        trial_of(1, "PRUNED", intermediate_values={1: 0.3, 3: 0.4}, user_attrs={"params": 50.0}),
        trial_of(2, "PRUNED", user_attrs={"params": 500.0}, system_attrs={"constraints:params": 1.5}),
        trial_of(3, "FAIL"),
        trial_of(4, "RUNNING"),
        trial_of(5, "COMPLETE", values=[0.7, 10.0]),
    ]
    shown = show_complete(trials, GOALS)
    assert [trial.number for trial in shown] == [0, 1, 2, 4, 5]
    assert [trial.values for trial in shown if trial.number != 4] == [[0.9, 100], [0.4, 50], [0.4, 500], [0.7, 10]]
    assert shown[2].constraints == {"params": 1.5} and shown[3].state is TrialState.RUNNING
    assert trials[1].state is TrialState.PRUNED and trials[1].values is None  # the study's own stay as they are


def test_of_too_many_the_front_and_the_newest_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front_sampler, "MOST_TRIALS", 4)
    values = [[0.9, 9.0], [0.1, 1.0], *([0.05, 10.0 + at] for at in range(6))]
    shown = show_complete([trial_of(at, "COMPLETE", values=each) for at, each in enumerate(values)], GOALS)
    assert [trial.number for trial in shown] == [0, 1, 6, 7]


@pytest.mark.parametrize("name", ["tpe", "nsga2", "gp", "random", "qmc"])
def test_every_sampler_draws_for_several_goals_also_after_pruned_trials(name: str) -> None:
    inner = type(sampler_of(name).sampler)
    assert (inner is FrontSampler) == (name in ("tpe", "nsga2")) and (inner is RankSampler) == (name == "gp")
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler_of(name))
    for at in range(14):
        trial = study.ask(SPACE)
        if at % 3 == 2:
            trial.storage.set_trial_intermediate_value(trial._trial_id, 1, trial.params["k"] / 200)
            study.tell(trial, state=TrialState.PRUNED)
        else:
            study.tell(trial, [trial.params["k"] / 100, trial.params["k"]])
    assert len({trial.params["lr"] for trial in study.trials}) >= 10


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tpe", "nsga2"])
def test_the_whole_front_is_searched_and_not_its_end_alone(name: str) -> None:
    """Every k is on the front if its lr is right; half of the random points are far from it."""
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler_of(name))
    for _ in range(150 if name == "nsga2" else 70):
        trial = study.ask(SPACE)
        far = abs(np.log10(trial.params["lr"]) + 3)
        study.tell(trial, [trial.params["k"] / 100 - far, trial.params["k"] + 50 * far])
    last = study.trials[-30:]
    assert np.median([abs(np.log10(trial.params["lr"]) + 3) for trial in last]) < 0.6, "of random ones 1"
    k = [trial.params["k"] for trial in last]
    assert min(k) < 34 and max(k) > 66
