"""Every use of a private name of Optuna's code, for the versions that pyproject.toml allows.

Each function says why no public name serves. tests/unit/study/test_optuna_compat.py fails with one line that names
what changed in Optuna. The table schema is in `optuna_tables`, which does not import Optuna.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import TPESampler
from optuna.samplers._tpe.sampler import default_weights
from optuna.storages import RDBStorage
from optuna.storages._cached_storage import _CachedStorage as CachedStorage
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.engine import Engine

from tuner.study.database import retried

__all__ = ["CachedStorage"]

# CachedStorage: the trial cache. Public is only `optuna.storages.get_storage(url)`, which puts it around a storage
# that it opens itself, with a second connection pool that lacks our settings.

ReadTrials = Callable[[Engine, int, set[int], int], list[FrozenTrial]]

# Methods of RDBStorage that are repeated while the database is away. The underscored ones do the work of public
# methods within the cache, which calls them directly.
RETRIED_METHODS = (
    *("create_new_study", "delete_study", "get_all_studies", "get_study_id_from_name", "get_study_name_from_id"),
    *("get_study_directions", "get_study_user_attrs", "get_study_system_attrs"),
    *("set_study_user_attr", "set_study_system_attr"),
    *("get_trial", "get_all_trials", "_create_new_trial", "_get_best_trial_id"),
    *("set_trial_param", "_set_trial_param", "set_trial_state_values", "set_trial_intermediate_value"),
    *("set_trial_user_attr", "set_trial_system_attr"),
)


class PatientStorage(RDBStorage):
    """An RDBStorage that retries while the database is away, and reads trials with `read`.

    `read(engine, study_id, trial_ids, after)` returns the trials of these ids and all with an id above `after`.
    The cache reads trials through the private `_get_trials` only.
    """

    def __init__(self, url: str, read: ReadTrials, **options: Any) -> None:
        super().__init__(url, **options)
        self.read = read

    @retried
    def _get_trials(
        self,
        study_id: int,
        states: Container[TrialState] | None,
        included_trial_ids: set[int],
        trial_id_greater_than: int,
    ) -> list[FrozenTrial]:
        found = self.read(self.engine, study_id, included_trial_ids, trial_id_greater_than)
        return found if states is None else [trial for trial in found if trial.state in states]


for method in RETRIED_METHODS:
    setattr(PatientStorage, method, retried(getattr(RDBStorage, method)))


def cached_distribution(storage: CachedStorage, name: str) -> BaseDistribution | None:
    """Return a parameter's distribution in the cached trials. The public way reads all trials again."""
    for study in storage._studies.values():
        for trial in study.trials.values():
            if name in trial.params:
                return trial.distributions[name]
    return None


def trial_id(trial: Trial | FrozenTrial) -> int:
    """Return the id of a trial in the tables.

    The public way (BaseStorage.get_trial_id_from_study_id_trial_number) costs a query each time.
    """
    return trial._trial_id


def read_cached_trials(study: optuna.Study) -> list[FrozenTrial]:
    """Return the trials as read by the last `ask`. Public `get_trials` queries the database for each parameter."""
    return study._get_trials(deepcopy=False, use_cache=True)


class StudyView:
    """A study of which a sampler sees some trials only; samplers read them through `Study._get_trials`.

    Public would be a second study in memory, filled with copies of the trials for each draw.
    """

    def __init__(self, study: optuna.Study, trials: list[FrozenTrial]) -> None:
        self.study, self.visible = study, trials

    def _get_trials(
        self, deepcopy: bool = True, states: Container[TrialState] | None = None, use_cache: bool = False
    ) -> list[FrozenTrial]:
        return [trial for trial in self.visible if states is None or trial.state in states]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.study, name)


def with_trials(study: optuna.Study, trials: list[FrozenTrial]) -> optuna.Study:
    """Return the study as a sampler sees it that shall learn from these trials."""
    return cast("optuna.Study", StudyView(study, trials))


class WeighTrials(Protocol):
    """Returns the weights of a number of trials, the oldest first."""

    def __call__(self, number: int) -> np.ndarray: ...


def set_tpe_weights(sampler: TPESampler, weights: WeighTrials) -> None:
    """Replace the weights of trials. The public argument `weights` is deprecated in Optuna 5."""
    parameters = sampler._parzen_estimator_parameters
    sampler._parzen_estimator_parameters = parameters._replace(weights=weights)


def default_tpe_weights(number: int) -> np.ndarray:
    """Return TPE's own weights, which have no public name."""
    return default_weights(number)


def seed_tpe(sampler: TPESampler, seed: int, random_seed: int) -> None:
    """Seed a sampler. Public `reseed_rng` takes no seed, and a new sampler for each trial forgets its state."""
    sampler._rng.rng.seed(seed)
    sampler._random_sampler._rng.rng.seed(random_seed)


def is_enqueued(trial: Trial) -> bool:
    """Return whether the parameters of a trial were given to `enqueue_trial`. No public property tells."""
    return bool(trial._fixed_params)


def restart_with_params(study: optuna.Study, trial: Trial, params: dict[str, Any]) -> None:
    """Make a running trial suggest these parameters. Public ways fix parameters only before a trial is created."""
    optuna.Trial.__init__(trial, study, trial_id(trial))  # it keeps what was suggested before
    trial._fixed_params = params


def alembic_folder() -> Path:
    """Return the folder of the revisions of Optuna's tables. Only the current and newest ones are public."""
    return Path(optuna.storages.__file__).parent / "_rdb" / "alembic"
