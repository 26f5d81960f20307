"""The sampler `early`: what it learns from, and that it finds good parameters."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import optuna
import pytest
from helpers.planted_score import SPACE, score
from optuna.samplers import RandomSampler
from optuna.trial import FrozenTrial, TrialState

from tuner.search.curves import make_curve
from tuner.search.early_sampler import EarlySampler, read_early
from tuner.search.scheduler import PromoteHalving
from tuner.search.unit_cube import encode, encode_shares, from_unit, list_owners


def search(number: int, seed: int = 0, direction: str = "maximize", space: Any = SPACE) -> list[FrozenTrial]:
    """Return the trials of a search in which all are pruned after their first epoch."""
    study = optuna.create_study(direction=direction, sampler=RandomSampler(seed=seed))
    sign = 1 if direction == "maximize" else -1
    for index in range(number):
        study.sampler = EarlySampler(
            1000 * seed + index, direction == "maximize", PromoteHalving(), RandomSampler(seed=1000 * seed + index)
        )
        trial = study.ask(space)
        trial.set_user_attr("recipe", {"epochs": 9})
        trial.report(sign * score(trial.params), 1)
        study.tell(trial, state=TrialState.PRUNED)
    return study.trials


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_it_learns_from_trials_that_were_pruned_after_their_first_epoch(direction: str) -> None:
    trials = search(30, direction=direction)
    first, last = ([score(trial.params) for trial in part] for part in (trials[:10], trials[20:]))
    assert np.median(last) > max(np.median(first), -0.7)
    assert sum(trial.params["loss"] == "dice" for trial in trials[20:]) >= 8


def test_trials_that_broke_a_limit_count_as_the_worst() -> None:
    """All with k above 32 were pruned before their first epoch, though the best have 40."""
    study = optuna.create_study(direction="maximize", sampler=RandomSampler(seed=0))
    for seed in range(30):
        study.sampler = EarlySampler(seed, True, PromoteHalving(), RandomSampler(seed=seed))
        trial = study.ask(SPACE)
        if trial.params["k"] <= 32:
            trial.report(score(trial.params), 1)
        study.tell(trial, state=TrialState.PRUNED)
    assert sum(trial.params["k"] <= 32 for trial in study.trials[15:]) >= 12


def test_a_seed_repeats_a_search() -> None:
    first, second, other = (search(14, seed) for seed in (1, 1, 2))
    assert [t.params for t in first] == [t.params for t in second] != [t.params for t in other]


def test_workers_that_choose_at_the_same_time_choose_different_points() -> None:
    study = optuna.create_study(direction="maximize")
    study.add_trials(search(20))
    chosen = []
    for worker in range(4):
        study.sampler = EarlySampler(worker, True, PromoteHalving(), RandomSampler(seed=worker))
        chosen.append(study.ask(SPACE).params)  # the earlier ones are running, without a value
    assert len({(params["loss"], params["k"], round(math.log10(params["lr"]), 1)) for params in chosen}) == 4


def test_parameters_that_only_some_recipes_have_are_left_to_the_other_sampler() -> None:
    trials = search(15)
    study = optuna.create_study(direction="maximize")
    study.add_trials(trials)
    study.sampler = EarlySampler(0, True, PromoteHalving(), RandomSampler(seed=0))
    trial = study.ask()
    assert trial.suggest_float("new", 0, 1) == pytest.approx(
        optuna.create_study(sampler=RandomSampler(seed=0)).ask().suggest_float("new", 0, 1)
    )


def test_it_reads_the_first_rung_that_tells_something() -> None:
    def trial(number: int, *values: float, epochs: int = 9) -> FrozenTrial:
        made = optuna.trial.create_trial(
            state=TrialState.PRUNED,
            intermediate_values=dict(enumerate(values, 1)),
            user_attrs={"recipe": {"epochs": epochs}},
        )
        made.number = number
        return made

    def early(*trials: FrozenTrial) -> dict[int, float]:
        return read_early([make_curve(each, -1.0) for each in trials], PromoteHalving(1, 3))

    assert early(trial(0, 0.5, 0.4, 0.1), trial(1), trial(2, math.nan)) == {0: -0.5, 2: -math.inf}
    assert read_early([make_curve(trial(0, 0.5, epochs=1), 1.0)], PromoteHalving(3)) == {0: 0.5}
    equal_at_first = [trial(number, 0.7, 0.7, number / 10) for number in range(8)]
    assert early(*equal_at_first, trial(9, 0.7)) == pytest.approx({number: -number / 10 for number in range(8)})


def test_points_are_encoded_alike_from_parameters_and_from_shares() -> None:
    shares = np.random.default_rng(0).random((50, 3))
    params = [
        {name: from_unit(kind, share) for (name, kind), share in zip(SPACE.items(), row, strict=True)}
        for row in shares.tolist()
    ]
    both = encode(SPACE, params) - encode_shares(SPACE, shares)
    assert np.abs(both[:, :4]).max() < 1e-9 and np.abs(both[:, 4]).max() <= 1 / 16 + 1e-9
    assert list_owners(SPACE) == [0, 1, 1, 1, 2] and encode(SPACE, []).shape == (0, 5)
