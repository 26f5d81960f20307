"""Every use of a private name of Optuna's code, for the versions that pyproject.toml allows.

Each function says why no public name serves. tests/unit/study/test_optuna_compat.py fails with one line that names
what changed in Optuna. The table schema is in `optuna_tables`, which does not import Optuna.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from copy import copy
from typing import Any, cast

import numpy as np
import optuna
from optuna.samplers import TPESampler
from optuna.samplers._tpe.sampler import default_weights as default_tpe_weights  # it has no public name
from optuna.storages import BaseStorage
from optuna.study._constrained_optimization import _CONSTRAINTS_KEY
from optuna.trial import FrozenTrial, Trial, TrialState

__all__ = ["default_tpe_weights"]


def trial_id(trial: Trial | FrozenTrial) -> int:
    """Return the id of a trial in the tables. Public `get_trial_id_from_study_id_trial_number` costs a query."""
    return trial._trial_id


def read_cached_trials(study: optuna.Study) -> list[FrozenTrial]:
    """Return the trials as read by the last `ask`. Public `get_trials` queries the database for each parameter."""
    return study._get_trials(deepcopy=False, use_cache=True)


def forget_cached_trials(study: optuna.Study) -> None:
    """Have the next draw read the trials again. Public is only `Study.ask`, which also creates a trial."""
    study._thread_local.cached_all_trials = None


class StudyView:
    """A study of which a sampler sees some trials only; samplers read them through `Study._get_trials`.

    Public would be a second study in memory, filled with copies of the trials for each draw.
    """

    def __init__(
        self,
        study: optuna.Study,
        trials: list[FrozenTrial],
        attrs: dict[str, Any] | None = None,
        is_single: bool = False,
    ) -> None:
        self.study, self.visible = study, trials
        if is_single:
            self.directions = study.directions[:1]
            self.direction = self.directions[0]
            self._is_multi_objective = lambda: False
        if attrs is not None:
            self._storage = LocalAttributes(study._storage, attrs)

    def _get_trials(
        self, deepcopy: bool = True, states: Container[TrialState] | None = None, use_cache: bool = False
    ) -> list[FrozenTrial]:
        return [trial for trial in self.visible if states is None or trial.state in states]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.study, name)


class LocalAttributes:
    """A storage whose attributes of studies are those of a dictionary."""

    def __init__(self, storage: BaseStorage, attrs: dict[str, Any]) -> None:
        self.storage, self.attrs = storage, attrs

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        return self.attrs

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        self.attrs[key] = value

    def __getattr__(self, name: str) -> Any:
        return getattr(self.storage, name)


def with_trials(
    study: optuna.Study,
    trials: list[FrozenTrial],
    attrs: dict[str, Any] | None = None,
    is_single: bool = False,
) -> optuna.Study:
    """Return the study as a sampler sees it that shall learn from these trials.

    With `attrs`, it keeps what it computes from them there, and not in attributes of the study. With `is_single`,
    it sees the first goal alone.
    """
    return cast("optuna.Study", StudyView(study, trials, attrs, is_single))


def set_system_attr(study: optuna.Study, trial: FrozenTrial, key: str, value: Any) -> None:
    """Set an attribute of a sampler's own on a trial. A sampler gets a frozen trial, which has no public way."""
    study._storage.set_trial_system_attr(trial._trial_id, key, value)


def set_constraint(trial: Trial, key: str, value: float) -> None:
    """Set a constraint, which is met at 0 and below. Public `Trial.set_constraint` sets each only once."""
    trial.storage.set_trial_system_attr(trial._trial_id, f"{_CONSTRAINTS_KEY}:{key}", value)


def copy_trial(trial: FrozenTrial) -> FrozenTrial:
    """Return a copy whose state and values can be changed. Public `copy.deepcopy` also copies all it holds."""
    return copy(trial)


def without_constraints(trial: FrozenTrial) -> FrozenTrial:
    """Return a copy of a trial without its constraints. Public is no way to tell them from other attributes."""
    shown = copy(trial)
    shown.system_attrs = {k: v for k, v in trial.system_attrs.items() if not k.startswith(_CONSTRAINTS_KEY)}
    return shown


def set_tpe_weights(sampler: TPESampler, weights: Callable[[int], np.ndarray]) -> None:
    """Replace the weights of a number of trials, the oldest first. Public `weights` is deprecated in Optuna 5."""
    parameters = sampler._parzen_estimator_parameters
    sampler._parzen_estimator_parameters = parameters._replace(weights=weights)


def seed_tpe(sampler: TPESampler, seed: int, random_seed: int) -> None:
    """Seed a sampler. Public `reseed_rng` takes no seed, and a new sampler for each trial forgets its state."""
    sampler._rng.rng.seed(seed)
    sampler._random_sampler._rng.rng.seed(random_seed)


def is_enqueued(trial: Trial) -> bool:
    """Return whether the parameters of a trial were given to `enqueue_trial`. No public property tells."""
    return bool(trial._fixed_params)


def was_judged_by_optuna(trial: FrozenTrial) -> bool:
    """Return whether the pruner that earlier versions asked has judged a trial. No public name tells it."""
    return any(name.startswith("completed_rung_") for name in trial.system_attrs)


def fixed_params(trial: FrozenTrial) -> dict[str, Any]:
    """Return the parameters that were given to `enqueue_trial`. No public property of a frozen trial has them."""
    return trial.system_attrs.get("fixed_params", {})


def restart_with_params(study: optuna.Study, trial: Trial, params: dict[str, Any]) -> None:
    """Make a running trial suggest these parameters. Public ways fix parameters only before a trial is created."""
    optuna.Trial.__init__(trial, study, trial_id(trial))  # it keeps what was suggested before
    trial._fixed_params = params
