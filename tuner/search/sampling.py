"""How a search chooses the parameters of its next trial: the sampler, and no repeated parameters."""

from __future__ import annotations

import hashlib
import math
from bisect import insort
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from tuner.study import optuna_compat
from tuner.study.paused import MARK

NUM_RANDOM = 10  # random trials before TPE is used
NUM_BEST = 25  # the most that TPE ever models as good
NUM_NEWEST = 25  # as many of the newest as TPE gives full weight among the others
NUM_OTHERS = 250  # of all; with fewer than 241 trials, TPE would model fewer than 25 as good
REDRAWS = 200  # random draws in search of parameters that no trial has
REPEATS = "repeats"  # the attribute that names the trial with the same parameters
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)  # the states a sampler learns from
Key = tuple[float, ...]
T = TypeVar("T")


def hash_seed(*parts: object) -> int:
    """Return a seed of 31 bits that depends on the text of all parts."""
    digest = hashlib.blake2b(":".join(map(str, parts)).encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big") >> 1


class SubsetTPESampler(BaseSampler):
    """TPE on a subset of at most a few hundred finished trials.

    The time of TPE grows with the number of trials: with 5,000, an `ask` took 15 times as long as with 100. It
    gets all of up to 250 trials. Beyond, it gets the best (all that it would model as good), the newest, and of
    the others always the same ones, chosen by their numbers, which represent the rest as well.

    It keeps no state from trial to trial: what is drawn depends on the seed, the trial's number, and the subset.

    The choices of the parameter `each` take turns by the trial's number, and TPE learns the other parameters of a
    trial from the trials with its choice alone.
    """

    def __init__(self, seed: int, is_maximized: bool, each: str = "", choices: Sequence[Any] = ()) -> None:
        self.seed = seed
        self.each, self.choices = each, choices
        self.tpe = TPESampler(n_startup_trials=NUM_RANDOM, seed=seed)
        optuna_compat.set_tpe_weights(self.tpe, self.weights)
        self.num_hidden = 0  # finished trials that are not in the subset
        self.subsets: dict[tuple[frozenset[str], Any], TrialSubset] = {}
        self.is_maximized = is_maximized

    def reseed_rng(self) -> None:
        """Do nothing: seeds are per trial, and no two threads have the same trial."""

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        seeds = hash_seed(self.seed, trial.number), hash_seed(self.seed, trial.number, "random")
        optuna_compat.seed_tpe(self.tpe, *seeds)
        self.tpe.before_trial(study, trial)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        space = self.tpe.infer_relative_search_space(study, trial)
        return {name: distribution for name, distribution in space.items() if name != self.each}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self.tpe.sample_relative(self.with_subset(study, trial, search_space), trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        if param_name == self.each:
            return self.turn(trial)
        subset_study = self.with_subset(study, trial, [param_name])
        return self.tpe.sample_independent(subset_study, trial, param_name, param_distribution)

    def after_trial(self, *args: Any) -> None:
        self.tpe.after_trial(*args)

    def turn(self, trial: FrozenTrial) -> Any:
        """Return the choice of `each` whose turn it is, or None without one."""
        return self.choices[trial.number % len(self.choices)] if self.choices else None

    def with_subset(self, study: optuna.Study, trial: FrozenTrial, names: Iterable[str]) -> optuna.Study:
        """Return the study with the subset of trials from which to sample these parameters of a trial."""
        params, choice = frozenset(names), self.turn(trial)
        subset = self.subsets.setdefault(
            (params, choice), TrialSubset(params, self.is_maximized, {self.each: choice} if self.each else {})
        )
        chosen = subset.select(optuna_compat.read_cached_trials(study))
        self.num_hidden = subset.num - sum(trial.state in FINISHED and subset.fits(trial) for trial in chosen)
        return optuna_compat.with_trials(study, chosen)

    def weights(self, number: int) -> np.ndarray:
        """Return TPE's weights of so many trials; the older ones also represent those outside the subset.

        Otherwise, regions without trials would seem less promising than they are, and would not be searched.
        """
        weights = optuna_compat.default_tpe_weights(number)
        if number > NUM_NEWEST:
            weights[:-NUM_NEWEST] *= 1 + self.num_hidden / (number - NUM_NEWEST)
        return weights


@dataclass
class TrialSubset:
    """The finished trials that TPE gets, updated from call to call."""

    names: frozenset[str]  # trials with these parameters come first
    is_maximized: bool
    only: dict[str, Any] = field(default_factory=dict)  # of trials with these values
    best: list[tuple[Key, FrozenTrial]] = field(default_factory=list)
    others: list[tuple[Key, FrozenTrial]] = field(default_factory=list)
    newest: list[tuple[Key, FrozenTrial]] = field(default_factory=list)
    seen: set[int] = field(default_factory=set)  # numbers of the finished trials so far
    num: int = 0  # finished trials with these parameters
    num_settled: int = 0  # trials at the front of the list that have all been seen
    last_settled: int = -1  # the number of the last of them
    paused: dict[int, FrozenTrial] = field(default_factory=dict)  # by number, as they were seen

    def select(self, trials: list[FrozenTrial]) -> list[FrozenTrial]:
        """Return the subset of all trials of a study, and all running ones, ordered by number."""
        if any(self.has_ended_again(trial) for trial in trials):
            vars(self).update(vars(TrialSubset(self.names, self.is_maximized, self.only)))
        done = self.num_settled
        if done and (len(trials) < done or trials[done - 1].number != self.last_settled):
            self.num_settled = 0  # trials were deleted
        unfinished = [trial for trial in trials[self.num_settled :] if not self.add_finished(trial)]
        while self.num_settled < len(trials) and trials[self.num_settled].number in self.seen:
            self.num_settled += 1
        self.last_settled = trials[self.num_settled - 1].number if self.num_settled else -1
        chosen = {trial.number: trial for _, trial in (*self.best, *self.others, *self.newest)}
        running = {trial.number: trial for trial in unfinished if trial.state is TrialState.RUNNING}
        return [trial for _, trial in sorted((running | chosen).items())]

    def add_finished(self, trial: FrozenTrial) -> bool:
        """Return whether a trial is finished; add it when seen for the first time."""
        if not trial.state.is_finished():
            return False
        if trial.number not in self.seen:
            self.seen.add(trial.number)
            if MARK in trial.system_attrs:
                self.paused[trial.number] = trial
            if trial.state in FINISHED and self.only.items() <= trial.params.items():
                fits = self.fits(trial)
                self.num += fits
                insert_ranked(self.best, (*rank_trial(trial, self.is_maximized), trial.number), trial, NUM_BEST)
                insert_ranked(self.newest, (-trial.number,), trial, NUM_NEWEST)
                insert_ranked(self.others, (not fits, hash_seed(trial.number), trial.number), trial, NUM_OTHERS)
        return True

    def has_ended_again(self, trial: FrozenTrial) -> bool:
        """Return whether a paused trial was resumed and has come further; until then its earlier values count."""
        return trial.number in self.paused and trial.state.is_finished() and self.paused[trial.number] is not trial

    def fits(self, trial: FrozenTrial) -> bool:
        return self.names <= trial.params.keys()


def rank_trial(trial: FrozenTrial, is_maximized: bool) -> Key:
    """Rank as TPE does: complete trials by value, then pruned ones by their last epoch and the value there.

    Those that broke a limit come last, by how much.
    """
    sign = -1.0 if is_maximized else 1.0
    if excess := sum(max(0.0, value) for value in trial.constraints.values()):
        return 2.0, excess, 0.0
    if trial.state is TrialState.COMPLETE:
        return 0.0, 0.0, sign * trial.values[0]
    if not trial.intermediate_values:
        return 1.0, 1.0, 0.0
    step, value = max(trial.intermediate_values.items())
    return 1.0, -step, math.inf if math.isnan(value) else sign * value


def insert_ranked(ranked: list[tuple[Key, FrozenTrial]], key: Key, trial: FrozenTrial, most: int) -> None:
    """Insert a trial in order if it is among the first `most`."""
    if len(ranked) < most or key < ranked[-1][0]:
        insort(ranked, (key, trial), key=lambda entry: entry[0])
        del ranked[most:]


def redraw(study: optuna.Study, trial: optuna.Trial, suggest: Callable[[optuna.Trial], T], each: str = "") -> T:
    """Return what `suggest` chooses for a trial, with parameters that no other trial has, if possible.

    The value of the parameter `each` stays.

    Repeated parameters are replaced by random ones. If no others are found, the space is exhausted: the parameters
    stay, an attribute names the trial with the same ones, and the trial trains with another seed. Enqueued trials
    stay as they are. Nothing of the trial may be written yet, because its storage has to `forget_params`.
    """
    chosen = suggest(trial)
    if optuna_compat.is_enqueued(trial) or not trial.params:
        return chosen
    trials = optuna_compat.read_cached_trials(study)
    repeated = find_repeated(trial.params, trials, trial.number)
    if repeated is None:
        return chosen
    chosen_params = trial.params
    for params in draw_random(hash_seed(study.study_name, trial.number), suggest):
        if params.get(each) != chosen_params.get(each):
            continue
        if find_repeated(params, trials, trial.number) is None:
            trial.storage.forget_params(optuna_compat.trial_id(trial))  # type: ignore[attr-defined]
            optuna_compat.restart_with_params(study, trial, params)
            return suggest(trial)
    trial.set_user_attr(REPEATS, repeated)
    return chosen


def find_repeated(params: dict[str, Any], trials: list[FrozenTrial], own_number: int) -> int | None:
    """Return the number of the first other trial that has the same parameters and has not failed."""
    for trial in trials:
        if trial.params == params and trial.number != own_number and trial.state is not TrialState.FAIL:
            return trial.number
    return None


def draw_random(seed: int, suggest: Callable[[optuna.Trial], object]) -> Iterator[dict[str, Any]]:
    """Yield random parameters, drawn in memory; skip draws for which `suggest` fails."""
    scratch = optuna.create_study(sampler=RandomSampler(seed=seed))
    for _ in range(REDRAWS):
        trial = scratch.ask()
        try:
            suggest(trial)
        except Exception:
            continue
        yield trial.params
