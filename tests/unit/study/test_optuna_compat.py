"""The private names in tuner/study/optuna_compat.py do what they are used for, in the installed Optuna."""

from __future__ import annotations

import warnings

import numpy as np
import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.samplers import RandomSampler, TPESampler
from optuna.trial import TrialState, create_trial

from tuner.study import optuna_compat

HERE = f"Optuna {optuna.__version__}: "
X = {"x": FloatDistribution(0, 1)}


@pytest.fixture
def study() -> optuna.Study:
    return optuna.create_study(sampler=RandomSampler(seed=0))


def test_ids_are_those_of_the_tables(study: optuna.Study) -> None:
    trial = study.ask(X)
    ours = optuna_compat.trial_id(trial)
    assert trial.storage.get_trial(ours).params == trial.params, HERE + "a trial's id has another name"
    assert optuna_compat.trial_id(study.trials[0]) == ours, HERE + "a frozen trial's id has another name"


def test_trials_of_a_study_are_read(study: optuna.Study) -> None:
    study.add_trial(create_trial(value=1.0))
    found = optuna_compat.read_cached_trials(study)
    assert [trial.value for trial in found] == [1.0], HERE + "Study._get_trials has changed"
    study.add_trial(create_trial(value=2.0))
    assert len(optuna_compat.read_cached_trials(study)) == 1, HERE + "Study._get_trials reads again each time"
    optuna_compat.forget_cached_trials(study)
    assert len(optuna_compat.read_cached_trials(study)) == 2, HERE + "a study keeps its trials elsewhere"


def test_a_sampler_learns_from_the_trials_it_is_given(study: optuna.Study) -> None:
    """TPE with ten trials near 0.9 and ten far away draws near it."""
    good = [create_trial(value=abs(x - 0.9), params={"x": x}, distributions=X) for x in (*[0.9] * 15, *[0.1] * 15)]
    for number, trial in enumerate(good):
        trial.number = number
    sampler = TPESampler(seed=0, n_startup_trials=10, multivariate=False)
    draws = [
        sampler.sample_independent(optuna_compat.with_trials(study, good), study.ask(), "x", X["x"])  # type: ignore[arg-type]
        for _ in range(10)
    ]
    assert np.median(np.abs(np.array(draws) - 0.9)) < 0.2, HERE + "a sampler reads trials in another way"


def test_a_constraint_is_set_again_and_left_out(study: optuna.Study) -> None:
    trial = study.ask(X)
    for value in (-0.5, 0.5):
        optuna_compat.set_constraint(trial, "params", value)
    frozen = study.trials[0]
    assert frozen.constraints == {"params": 0.5}, HERE + "constraints are stored under other names"
    assert not optuna_compat.without_constraints(frozen).constraints, HERE + "constraints are kept elsewhere"
    assert frozen.constraints and frozen.params == optuna_compat.without_constraints(frozen).params


def test_the_weights_of_tpe_are_replaced(study: optuna.Study) -> None:
    asked: list[int] = []

    def weights(number: int) -> np.ndarray:
        asked.append(number)
        return optuna_compat.default_tpe_weights(number)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sampler = TPESampler(seed=0, n_startup_trials=2)
    optuna_compat.set_tpe_weights(sampler, weights)
    study.sampler = sampler
    for _ in range(5):
        trial = study.ask(X)
        study.tell(trial, trial.params["x"])
    assert asked, HERE + "TPE takes its weights from elsewhere"


def test_tpe_draws_the_same_after_the_same_seed() -> None:
    def draw(seed: int) -> list[float]:
        sampler = TPESampler(seed=1, n_startup_trials=3)
        study = optuna.create_study(sampler=sampler)
        found = []
        for number in range(6):
            optuna_compat.seed_tpe(sampler, seed + number, seed + number)
            trial = study.ask(X)
            study.tell(trial, trial.params["x"])
            found.append(trial.params["x"])
        return found

    assert draw(5) == draw(5) != draw(6), HERE + "the random state of TPE has another name"


def test_an_enqueued_trial_is_known_and_a_running_one_is_restarted(study: optuna.Study) -> None:
    study.enqueue_trial({"x": 0.25})
    enqueued, drawn = study.ask(), study.ask()
    assert optuna_compat.is_enqueued(enqueued), HERE + "parameters of enqueued trials have another name"
    assert not optuna_compat.is_enqueued(drawn)
    optuna_compat.restart_with_params(study, drawn, {"x": 0.75})
    assert drawn.suggest_float("x", 0, 1) == 0.75, HERE + "given parameters are not suggested any more"
    assert study.trials[drawn.number].state is TrialState.RUNNING


def test_what_the_pruner_of_earlier_versions_noted_is_seen(study: optuna.Study) -> None:
    pruner = optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=3)
    judged = optuna.create_study(pruner=pruner)
    trial, other = judged.ask(), judged.ask()
    trial.report(0.5, 1)
    trial.should_prune()
    frozen = {each.number: optuna_compat.was_judged_by_optuna(each) for each in judged.trials}
    assert frozen == {trial.number: True, other.number: False}, HERE + "its pruner notes rungs in another way"


def test_enqueued_parameters_are_seen_by_samplers(study: optuna.Study) -> None:
    study.enqueue_trial({"x": 0.5})
    study.ask()
    study.ask()
    given = [optuna_compat.fixed_params(trial) for trial in study.trials]
    assert given == [{"x": 0.5}, {}], HERE + "enqueued parameters have another attribute"


def test_a_sampler_keeps_its_attributes_of_the_study_to_itself(study: optuna.Study) -> None:
    kept: dict[str, list[int]] = {}
    sampler = optuna.samplers.NSGAIISampler(population_size=2, seed=0)
    for number in range(5):
        view = optuna_compat.with_trials(study, study.get_trials(deepcopy=False), kept)
        trial = study.ask(X)
        sampler.sample_relative(view, study.trials[number], X)
        study.tell(trial, trial.params["x"])
    stored = study._storage.get_study_system_attrs(study._study_id)
    assert kept and not stored, HERE + "samplers store attributes of a study in another way"
