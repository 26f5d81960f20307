"""How a search chooses its next trial, and when it gives one up: sampler, pruner, and no trial twice."""

from __future__ import annotations

import hashlib
import math
from bisect import insort
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from tuner.study import optuna_compat

if TYPE_CHECKING:
    from tuner.study.info import StudyInfo

FIRST_RUNG = 1  # epochs: every trial is judged after its first one,
REDUCTION = 3  # then after 3, 9, 27, 81: at each rung the better third goes on
NUM_RANDOM = 10  # trials drawn at random before TPE has something to learn from
NUM_BEST = 25  # the most that TPE ever models as the good ones,
NUM_NEWEST = 25  # and as many of the latest as it gives their full weight among the others
NUM_OTHERS = 250  # of all; with fewer than 241 in sight, TPE would call fewer than 25 good
REDRAWS = 200  # draws in search of a point that nobody has tried
REPEATS = "repeats"  # the attribute that names the trial which has the same parameters
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)  # what a sampler learns from
Key = tuple[float, ...]
T = TypeVar("T")


def sampler(info: StudyInfo, worker: int) -> BaseSampler:
    """TPE, seeded by study and worker: two workers must not draw the same points."""
    return FewerTrials(mix(info.seed, "sampler", worker), info.goal.direction == "maximize")


def pruner(info: StudyInfo) -> optuna.pruners.BasePruner:
    """Successive halving by epochs, rungs at 1, 3, 9, 27, 81: explicit, so it prunes from the start.

    Trials of 15 and of 100 epochs are compared at the same epoch, and each ends at its own last one. A list
    is trained whole: its numbers stand beside others'.
    """
    if info.has_given_trials:
        return optuna.pruners.NopPruner()
    return optuna.pruners.SuccessiveHalvingPruner(
        min_resource=FIRST_RUNG, reduction_factor=REDUCTION, min_early_stopping_rate=0, bootstrap_count=0
    )


def mix(*parts: object) -> int:
    """A seed of 31 bits from anything that can be written down."""
    digest = hashlib.blake2b(":".join(map(str, parts)).encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big") >> 1


class FewerTrials(BaseSampler):
    """TPE, shown at most a few hundred of the finished trials.

    Its work grows with the trials it looks at: of 5,000, an `ask` took 15 times as long as of 100. Up to 250
    it sees all of them. Beyond, it sees the best (all that it would model as good), the newest, and of the
    rest always the same ones, chosen by their numbers, which say as well where it is not good.

    It keeps no state from trial to trial: what is drawn depends on the seed, the trial's number, and the
    trials seen.
    """

    def __init__(self, seed: int, is_maximized: bool) -> None:
        self.seed = seed
        self.tpe = TPESampler(n_startup_trials=NUM_RANDOM, seed=seed)
        optuna_compat.set_tpe_weights(self.tpe, self.weights)
        self.num_hidden = 0  # trials not shown
        self.few: dict[frozenset[str], Few] = {}
        self.is_maximized = is_maximized

    def reseed_rng(self) -> None:
        """Nothing to do: a seed is of a trial, and no two threads have the same trial."""

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        seeds = mix(self.seed, trial.number), mix(self.seed, trial.number, "random")
        optuna_compat.seed_tpe(self.tpe, *seeds)
        self.tpe.before_trial(study, trial)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self.tpe.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self.tpe.sample_relative(self.shown(study, search_space), trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self.tpe.sample_independent(self.shown(study, [param_name]), trial, param_name, param_distribution)

    def after_trial(self, *told: Any) -> None:
        self.tpe.after_trial(*told)

    def shown(self, study: optuna.Study, names: Iterable[str]) -> optuna.Study:
        """The study as TPE sees it when it samples these parameters."""
        wanted = frozenset(names)
        few = self.few.setdefault(wanted, Few(wanted, self.is_maximized))
        shown = few.of(optuna_compat.read_cached_trials(study))
        self.num_hidden = few.num - sum(trial.state in FINISHED and few.fits(trial) for trial in shown)
        return optuna_compat.with_trials(study, shown)

    def weights(self, number: int) -> np.ndarray:
        """TPE's weights of so many trials: of those shown, the older ones stand for those not shown as well.

        Without, what nobody tried would look less promising than it is, and the search would stay where it is.
        """
        weights = optuna_compat.default_tpe_weights(number)
        if number > NUM_NEWEST:
            weights[:-NUM_NEWEST] *= 1 + self.num_hidden / (number - NUM_NEWEST)
        return weights


@dataclass
class Few:
    """The finished trials that are worth a look, kept up to date from call to call."""

    names: frozenset[str]  # trials that have these parameters say more than others
    is_maximized: bool
    best: list[tuple[Key, FrozenTrial]] = field(default_factory=list)
    others: list[tuple[Key, FrozenTrial]] = field(default_factory=list)
    newest: list[tuple[Key, FrozenTrial]] = field(default_factory=list)
    seen: set[int] = field(default_factory=set)
    num: int = 0  # finished ones that have these parameters
    settled: int = 0  # this many at the front of all trials are seen
    front: int = -1  # the number of the last of them

    def of(self, everything: list[FrozenTrial]) -> list[FrozenTrial]:
        """The trials to be shown, in the order of their numbers, with all that run now."""
        if self.settled and (len(everything) < self.settled or everything[self.settled - 1].number != self.front):
            self.settled = 0  # trials were deleted
        open_trials = [trial for trial in everything[self.settled :] if not self.has(trial)]
        self.settle(everything)
        chosen = {trial.number: trial for _, trial in (*self.best, *self.others, *self.newest)}
        running = {trial.number: trial for trial in open_trials if trial.state is TrialState.RUNNING}
        return [trial for _, trial in sorted((chosen | running).items())]

    def has(self, trial: FrozenTrial) -> bool:
        """Whether a trial is finished; one that is seen for the first time finds its place."""
        if not trial.state.is_finished():
            return False
        if trial.number not in self.seen:
            self.seen.add(trial.number)
            if trial.state in FINISHED:
                self.add(trial)
        return True

    def settle(self, everything: list[FrozenTrial]) -> None:
        """Remember how far no trial is left that may still change."""
        while self.settled < len(everything) and everything[self.settled].number in self.seen:
            self.settled += 1
        self.front = everything[self.settled - 1].number if self.settled else -1

    def add(self, trial: FrozenTrial) -> None:
        """Keep a trial wherever it is among the first."""
        fits = self.fits(trial)
        self.num += fits
        keep(self.best, (*self.rank(trial), trial.number), trial, NUM_BEST)
        keep(self.newest, (-trial.number,), trial, NUM_NEWEST)
        keep(self.others, (not fits, mix(trial.number), trial.number), trial, NUM_OTHERS)

    def fits(self, trial: FrozenTrial) -> bool:
        return self.names <= trial.params.keys()

    def rank(self, trial: FrozenTrial) -> Key:
        """As TPE ranks: complete ones by value, then pruned ones, by how far they came and by value there."""
        sign = -1.0 if self.is_maximized else 1.0
        if trial.state is TrialState.COMPLETE:
            return 0.0, 0.0, sign * cast("float", trial.value)
        if not trial.intermediate_values:
            return 1.0, 1.0, 0.0
        step, value = max(trial.intermediate_values.items())
        return 1.0, -step, math.inf if math.isnan(value) else sign * value


def keep(among: list[tuple[Key, FrozenTrial]], key: Key, trial: FrozenTrial, most: int) -> None:
    """Put a trial in its place, if it has one among the first `most`."""
    if len(among) < most or key < among[-1][0]:
        insort(among, (key, trial), key=lambda entry: entry[0])
        del among[most:]


def redraw(study: optuna.Study, trial: optuna.Trial, suggest: Callable[[optuna.Trial], T]) -> T:
    """What the space chooses for a trial, and not again what another one has already.

    An exact repeat is drawn anew, at random. Where no other point is found, the space is used up: the choice
    stands, and the trial says whose parameters it repeats; it trains with another seed. What somebody asked
    for (an enqueued trial) is left as it is. Nothing of the trial may be written yet: its storage must be able
    to `forget_params`.
    """
    chosen = suggest(trial)
    if optuna_compat.is_enqueued(trial) or not trial.params:
        return chosen
    everything = optuna_compat.read_cached_trials(study)
    repeated = find(trial.params, everything, trial.number)
    if repeated is None:
        return chosen
    for params in draws(mix(study.study_name, trial.number), suggest):
        if find(params, everything, trial.number) is None:
            return ask_again(study, trial, params, suggest)
    trial.set_user_attr(REPEATS, repeated)
    return chosen


def find(params: dict[str, Any], among: list[FrozenTrial], but: int) -> int | None:
    """The number of the first trial that has the same parameters and has not failed."""
    for trial in among:
        if trial.params == params and trial.number != but and trial.state is not TrialState.FAIL:
            return trial.number
    return None


def draws(seed: int, suggest: Callable[[optuna.Trial], object]) -> Iterator[dict[str, Any]]:
    """Points drawn at random in memory. Where the space cannot choose, nothing is to be had."""
    scratch = optuna.create_study(sampler=RandomSampler(seed=seed))
    for _ in range(REDRAWS):
        trial = scratch.ask()
        try:
            suggest(trial)
        except Exception:
            continue
        yield trial.params


def ask_again(
    study: optuna.Study, trial: optuna.Trial, params: dict[str, Any], suggest: Callable[[optuna.Trial], T]
) -> T:
    """Have the space choose these parameters for a trial instead of what it has chosen."""
    trial.storage.forget_params(optuna_compat.trial_id(trial))  # type: ignore[attr-defined]
    optuna_compat.restart_with_params(study, trial, params)
    return suggest(trial)
