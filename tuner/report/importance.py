"""How much of the difference between trials each parameter explains: Optuna's PED-ANOVA, on what was read."""

from __future__ import annotations

import json
import warnings
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import TrialState, create_trial

from tuner.report.study_data import StudyData, TrialData

FEWEST = 6  # finished trials, below which a share means nothing
SOLID = 20  # from which on it is worth acting on


def param_importances(story: StudyData) -> dict[str, float]:
    """The share of each varied parameter, the largest first; empty where there are too few trials.

    Parameters of a branch that not every trial walked cannot be compared with the others and are left out.
    """
    if len(story.finished) < FEWEST:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        shares = evaluated(story)
    return dict(sorted(shares.items(), key=lambda pair: (-pair[1], story.names.index(pair[0]))))


def evaluated(story: StudyData) -> dict[str, float]:
    common = [name for name in story.varied if all(name in trial.params for trial in story.finished)]
    if not common:
        return {}
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        study = optuna.create_study(direction=story.info.goal.direction)  # type: ignore[arg-type]
        kinds = {name: distribution(story, name) for name in common}  # once: each looks at every trial
        study.add_trials([to_frozen_trial(trial, kinds) for trial in story.finished])
        few = max(0.1, min(0.5, 4 / len(story.finished)))  # the good ones, by which the others are judged
        by = PedAnovaImportanceEvaluator(target_quantile=few)
        shares = get_param_importances(study, evaluator=by, params=common)
    finally:
        optuna.logging.set_verbosity(before)
    return {name: float(share) for name, share in shares.items()}


def to_frozen_trial(trial: TrialData, kinds: dict[str, BaseDistribution]) -> optuna.trial.FrozenTrial:
    params = {name: as_chosen(trial.params[name], kind) for name, kind in kinds.items()}
    return create_trial(state=TrialState.COMPLETE, value=trial.value, params=params, distributions=kinds)


def as_chosen(value: Any, kind: BaseDistribution) -> Any:
    return json.dumps(value) if isinstance(kind, CategoricalDistribution) else value


def distribution(story: StudyData, name: str) -> BaseDistribution:
    """The range that the trials lie in; a study may have been given values beyond the one it began with."""
    levels = story.levels(name)
    if not story.is_number(name):  # as text: True and 1 are one choice to Optuna
        return CategoricalDistribution([json.dumps(value) for value in levels])
    low, high = levels[0], levels[-1]
    if all(isinstance(value, int) for value in levels):
        return IntDistribution(low, high, log=story.is_log(name))
    return FloatDistribution(low, high, log=story.is_log(name))
