"""What chooses new trials: the samplers that SEARCH and `--sampler` name, made anew for each trial.

A sampler keeps nothing from trial to trial: what it draws depends on the trials so far and on its seed, which is
of the study, the worker and the trial's number. So two workers never draw the same points, and a study with one
worker repeats itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import FrozenTrial
from sqlalchemy.exc import SQLAlchemyError

from tuner.errors import PartError, TunerError, locate_error
from tuner.goal import Goal
from tuner.registry.builders import count_positional, find_builder
from tuner.registry.own_modules import find_own_file
from tuner.search.cma_sampler import CmaSampler
from tuner.search.early_sampler import EarlySampler
from tuner.search.front_sampler import FrontSampler
from tuner.search.point_samplers import GridSampler, SobolSampler
from tuner.search.rank_sampler import RankSampler
from tuner.search.sampling import NUM_RANDOM, SubsetTPESampler, hash_seed
from tuner.search.scheduling import make_halving
from tuner.space.search_settings import SAMPLERS, SearchSettings
from tuner.study.info import StudyInfo

MOST_GP_TRIALS = 500  # that a Gaussian process learns from: its time grows with their number to the third


def make_sampler(info: StudyInfo, worker: int) -> BaseSampler:
    """Return the study's sampler, seeded by study and worker.

    Given trials need none of the user's own: what they leave open is chosen by TPE.
    """
    seed = hash_seed(info.seed, "sampler", worker)
    is_plain = (info.search.sampler == "tpe" and not info.further) or info.has_given_trials
    return tpe(seed, info) if is_plain else TrialSampler(info, seed)


def build_sampler(info: StudyInfo, seed: int) -> BaseSampler:
    """Return the sampler of one trial; PartError if the user's own cannot be made or a package is missing."""
    name = info.search.sampler
    builder = find_builder("sampler", SAMPLERS, name)
    if name in SAMPLERS:
        made = builder(seed, info)
    else:
        with own_errors(name):
            made = builder(*(seed, info.parameters)[: count_positional(builder)])
    if not isinstance(made, BaseSampler):
        kind = type(made).__name__
        raise PartError(f"sampler '{name}' returned {kind}; a sampler of Optuna, a BaseSampler, is needed.")
    return made


def check_sampler(search: dict[str, Any], parameters: dict[str, dict[str, Any]]) -> None:
    """Make the sampler once. Runs in the process of the space, which may hold the user's own sampler."""
    settings = SearchSettings.from_json(search)
    build_sampler(StudyInfo("", "", Goal("", "maximize"), "", parameters=parameters, search=settings), seed=0)


@contextmanager
def own_errors(name: str) -> Iterator[None]:
    """Tell an error of the user's own sampler in one line."""
    try:
        yield
    except (TunerError, SQLAlchemyError):
        raise
    except Exception as error:
        file = find_own_file(name.partition(":")[0]) or Path()
        raise PartError(f"sampler '{name}' raised {locate_error(error, file)}.") from error


# --- the samplers by name ---


def tpe(seed: int, info: StudyInfo) -> BaseSampler:
    """Model good and other trials (Tree-structured Parzen Estimator); the first ten are random."""
    if info.further and not info.has_given_trials:
        return FrontSampler(optuna.samplers.TPESampler(n_startup_trials=NUM_RANDOM, seed=seed), info.goals)
    return SubsetTPESampler(seed, info.is_maximized, info.each, info.choices)


def early(seed: int, info: StudyInfo) -> BaseSampler:
    """Fit a Gaussian process to the ranks after the first rung; the first ten are chosen by TPE."""
    halving, others = make_halving(info.search, "promote"), tpe(seed, info)
    return EarlySampler(seed, info.is_maximized, halving, others, info.earlier, info.search.prior)


def gp(seed: int, info: StudyInfo) -> BaseSampler:
    """Fit a Gaussian process to the ranks of at most 500 trials; the first ten are random."""
    inner = optuna.samplers.GPSampler(seed=seed, warn_independent_sampling=False)
    return RankSampler(inner, info.is_maximized, MOST_GP_TRIALS, is_torch=True)


def cmaes(seed: int, info: StudyInfo) -> BaseSampler:
    """Adapt a normal distribution to the best of each generation (CMA-ES); choices are random."""
    try:
        import cmaes as package
    except ImportError as error:
        raise PartError(
            "sampler 'cmaes' needs the package cmaes. Install it: pip install cmaes, or 'tuner[cmaes]'."
        ) from error
    return RankSampler(CmaSampler(seed, package), info.is_maximized)


def nsga2(seed: int, info: StudyInfo) -> BaseSampler:
    """Cross the best of generations of 50 trials (NSGA-II); the first generation is random."""
    inner = optuna.samplers.NSGAIISampler(seed=seed)
    return FrontSampler(inner, info.goals) if info.further else RankSampler(inner, info.is_maximized)


def qmc(seed: int, info: StudyInfo) -> BaseSampler:
    """Spread all trials evenly, more so than random ones: a scrambled Sobol sequence."""
    return SobolSampler(seed, info)


def random(seed: int, info: StudyInfo) -> BaseSampler:
    """Draw every trial independently of the others."""
    return RandomSampler(seed=seed)


def grid(seed: int, info: StudyInfo) -> BaseSampler:
    """Train every combination of values exactly once, over all workers and hosts."""
    return GridSampler(info)


class TrialSampler(BaseSampler):
    """Makes the study's sampler anew for each trial. The choices of the parameter `each` take turns."""

    def __init__(self, info: StudyInfo, seed: int) -> None:
        self.info, self.seed = info, seed
        self.sampler = build_sampler(info, seed)

    def reseed_rng(self) -> None:
        """Do nothing: seeds are per trial."""

    def guard(self) -> Any:
        name = self.info.search.sampler
        return nullcontext() if name in SAMPLERS else own_errors(name)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        self.sampler = build_sampler(self.info, hash_seed(self.seed, trial.number))
        with self.guard():
            self.sampler.before_trial(study, trial)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        with self.guard():
            space = self.sampler.infer_relative_search_space(study, trial)
        return {name: distribution for name, distribution in space.items() if name != self.info.each}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        with self.guard():
            return self.sampler.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        if param_name == self.info.each:
            return self.info.turn(trial.number)
        with self.guard():
            return self.sampler.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(self, *args: Any) -> None:
        with self.guard():
            self.sampler.after_trial(*args)
