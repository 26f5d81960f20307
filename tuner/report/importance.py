"""Compute the importance of each parameter with Optuna's PED-ANOVA, on a study that was read from SQL.

`get_param_importances` needs an Optuna study. One in memory, of the finished trials alone, saves loading the study
again, keeps values outside the first range of a parameter, and excludes trials without a finite value.
"""

from __future__ import annotations

import json
import warnings

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import TrialState, create_trial

from tuner.report.study_data import StudyData, TrialData

FEWEST = 6  # finished trials, for shares to be computed
SOLID = 20  # finished trials, for advice to depend on shares


def param_importances(study: StudyData) -> dict[str, float]:
    """Return the share of each varied parameter, the largest first; {} if there are too few trials.

    Parameters that only some of the trials have cannot be compared with the others and are omitted.
    """
    if len(study.finished) < FEWEST:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        shares = evaluate_importances(study)
    return dict(sorted(shares.items(), key=lambda pair: (-pair[1], study.names.index(pair[0]))))


def evaluate_importances(study: StudyData) -> dict[str, float]:
    common = study.common_params(study.varied)
    if not common:
        return {}
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        optuna_study = optuna.create_study(direction=study.info.goal.direction)  # type: ignore[arg-type]
        kinds = {name: make_distribution(study, name) for name in common}  # once: each reads every trial
        optuna_study.add_trials([to_frozen_trial(trial, kinds) for trial in study.finished])
        quantile = max(0.1, min(0.5, 4 / len(study.finished)))  # the share of trials that count as good
        evaluator = PedAnovaImportanceEvaluator(target_quantile=quantile)
        shares = get_param_importances(optuna_study, evaluator=evaluator, params=common)
    finally:
        optuna.logging.set_verbosity(before)
    return {name: float(share) for name, share in shares.items()}


def to_frozen_trial(trial: TrialData, kinds: dict[str, BaseDistribution]) -> optuna.trial.FrozenTrial:
    params = {name: trial.params[name] for name in kinds}
    for name, kind in kinds.items():
        if isinstance(kind, CategoricalDistribution):
            params[name] = json.dumps(params[name])
    return create_trial(state=TrialState.COMPLETE, value=trial.value, params=params, distributions=kinds)


def make_distribution(study: StudyData, name: str) -> BaseDistribution:
    """Return the range of the values in the trials, which may exceed the range the study began with."""
    levels = study.levels(name)
    if not study.is_number(name):  # as JSON, because True and 1 are the same choice to Optuna
        return CategoricalDistribution([json.dumps(value) for value in levels])
    low, high = levels[0], levels[-1]
    if all(isinstance(value, int) for value in levels):
        return IntDistribution(low, high, log=study.is_log(name))
    return FloatDistribution(low, high, log=study.is_log(name))
