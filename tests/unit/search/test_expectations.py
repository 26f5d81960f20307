"""What is expected from earlier studies and a prior, and how it is forgotten where it is wrong."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import optuna
import pytest
from helpers.planted_score import SPACE, score
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.samplers import RandomSampler
from optuna.trial import FrozenTrial, TrialState

from tuner.search.earlier_studies import MOST_TRIALS, collect_trials, spread_out
from tuner.search.early_sampler import EarlySampler
from tuner.search.expectations import Source, expect, fit_earlier, follow_prior
from tuner.search.ranks import normal_scores
from tuner.search.scheduler import PromoteHalving, correlate_ranks
from tuner.search.unit_cube import from_unit, to_shares
from tuner.study.earlier import EarlierStudy
from tuner.study.optuna_tables import LONGEST_ATTR as LONGEST


def draw(number: int, seed: int, space: dict[str, BaseDistribution] = SPACE) -> list[dict[str, Any]]:
    shares = np.random.default_rng(seed).random((number, len(space)))
    return [{n: from_unit(k, s) for (n, k), s in zip(space.items(), row, strict=True)} for row in shares.tolist()]


def earlier(sign: float = 1.0, number: int = 60, space: dict[str, BaseDistribution] = SPACE) -> EarlierStudy:
    """An earlier study with the same optimum, the opposite one, or with sign 0 none."""
    params = draw(number, 9, space)
    noise = np.random.default_rng(8).normal(0, 0.1 if sign else 1, number)
    values = [
        sign * score({"loss": "dice", "k": 40, **each}) + wrong for each, wrong in zip(params, noise, strict=True)
    ]
    order = sorted(range(number), key=lambda at: -values[at])
    scores = normal_scores(values)
    return EarlierStudy("e", tuple(params[at] for at in order), tuple(scores[at] for at in order))


def learned(*studies: EarlierStudy, number: int = 20) -> tuple[float, float]:
    models = [fit_earlier(study, tuple(SPACE.items())) for study in studies]
    return learned_from(*filter(None, models), number=number)


def learned_from(*sources: Source, number: int = 20) -> tuple[float, float]:
    """What is expected of other points: its rank correlation with their scores, and its standard deviation."""
    own, others = draw(number, 1), draw(200, 2)
    values = normal_scores([score(params) for params in own])
    _, expected = expect(sources, to_shares(SPACE, own), values, to_shares(SPACE, others))
    pairs = list(zip(expected.tolist(), [score(params) for params in others], strict=True))
    return correlate_ranks(pairs), float(expected.std())


def test_an_earlier_study_counts_as_far_as_own_trials_agree() -> None:
    agreement, spread = learned(earlier())
    assert agreement > 0.8 and 0.4 < spread < 1.2
    assert learned(earlier(-1)) == (0, 0), "a study with the opposite optimum is dropped"
    assert learned(earlier(0))[1] < 0.2
    assert learned(earlier(-1), earlier(0), earlier())[0] > 0.8
    assert learned(earlier(), number=1) == (0, 0) == learned()


def test_it_may_have_other_bounds_choices_and_parameters() -> None:
    wider: dict[str, BaseDistribution] = {
        "lr": FloatDistribution(0, 1),
        "loss": CategoricalDistribution(["focal", "dice"]),
        "old": FloatDistribution(0, 1),
    }
    study = earlier(number=30, space={**SPACE, **wider, "lr": FloatDistribution(1e-7, 10, log=True)})
    assert learned(study)[0] > 0.5
    below_log = EarlierStudy("e", tuple({**params, "lr": 0.0} for params in study.trials), study.scores)
    assert math.isfinite(learned(below_log)[1])
    assert learned(EarlierStudy("e", ({"other": 1},) * 30, study.scores)) == (0, 0)
    assert learned(EarlierStudy("e", study.trials[:3], study.scores[:3])) == (0, 0), "too few"


def search(number: int, seed: int, **known: Any) -> list[FrozenTrial]:
    study = optuna.create_study(direction="maximize")
    for index in range(number):
        at = 1000 * seed + index
        study.sampler = EarlySampler(at, True, PromoteHalving(), RandomSampler(seed=at), **known)
        trial = study.ask(SPACE)
        trial.report(score(trial.params), 1)
        study.tell(trial, state=TrialState.PRUNED)
    return study.trials


@pytest.mark.slow
def test_the_first_trials_that_the_model_chooses_are_better_with_an_earlier_study() -> None:
    def median(*studies: EarlierStudy) -> float:
        found = [score(trial.params) for seed in range(5) for trial in search(14, seed, earlier=studies)[10:]]
        return float(np.median(found))

    assert median(earlier()) > median() + 0.1
    assert median(earlier(-1)) == median()


def from_prior(number: int = 20, **prior: tuple[Any, float]) -> tuple[float, float]:
    source = follow_prior(prior, SPACE)
    return learned_from(*([source] if source else []), number=number)


def test_what_is_nearer_to_a_prior_is_expected_to_be_better_as_far_as_trials_agree() -> None:
    assert from_prior(lr=(1e-3, 0.7), loss=("dice", 0.7))[0] > 0.7
    assert from_prior(60, lr=(1e-1, 0.9), loss=("bce", 0.9)) == (0, 0) == from_prior(other=(1, 0.5))
    little, much = (from_prior(lr=(1e-3, trust))[1] for trust in (0.1, 0.9))
    assert 0 <= little < much
    assert from_prior(10, lr=(1e-1, 0.9))[1] > 0.1 and from_prior(80, lr=(1e-1, 0.9)) == (0, 0), "forgotten"


def test_a_wrong_prior_is_forgotten() -> None:
    trials = search(40, 0, prior={"lr": (1e-5, 0.9), "loss": ("bce", 0.9)})
    assert sum(trial.params["loss"] == "dice" for trial in trials[-10:]) >= 7


def finished(number: int, **values: Any) -> FrozenTrial:
    trial = optuna.trial.create_trial(**values)
    trial.number = number
    return trial


def test_trials_are_collected_in_the_order_of_samplers() -> None:
    lr = {"lr": FloatDistribution(0, 1)}
    pruned = {"state": TrialState.PRUNED, "distributions": lr}
    trials = [
        finished(0, state=TrialState.FAIL),
        finished(1, **pruned, params={"lr": 0.1}, intermediate_values={1: 0.9}),
        finished(2, **pruned, params={"lr": 0.2}, intermediate_values={1: 0.1, 3: 0.2}),
        finished(3, value=0.5, params={"lr": 0.3}, distributions=lr),
        finished(4, value=0.7, params={"lr": 0.3}, distributions=lr),
        finished(5, **pruned, params={"lr": 0.5}),
    ]
    found = collect_trials("e", trials, True, {"lr"})
    assert [params["lr"] for params in found.trials] == [0.3, 0.3, 0.2, 0.1, 0.5]
    assert [point["lr"] for point in found.first] == [0.3, 0.2, 0.1], "each differs from the others"
    assert found.scores[2] == 0 and found.scores[0] > found.scores[1]
    assert [params["lr"] for params in collect_trials("e", trials, False, {"lr"}).trials][:2] == [0.3, 0.3]


def test_of_many_trials_the_best_and_others_of_all_ranks_are_kept() -> None:
    places = spread_out(1000, MOST_TRIALS)
    assert places[:50] == [*range(50)] and len(places) == len({*places}) == MOST_TRIALS
    assert places[50:52] == [50, 69] and places[-1] > 950 and spread_out(3, 10) == [0, 1, 2]


def test_what_is_stored_fits_a_column() -> None:
    wide = tuple({f"parameter {at}": 1 / 3 for at in range(100)} for _ in range(100))
    stored = EarlierStudy("e", wide, tuple(map(float, range(100)))).to_json()
    assert len(str(stored)) < LONGEST and len(stored["trials"]) == len(stored["scores"]) >= 10
    back = EarlierStudy.from_json(EarlierStudy("e", wide[:2], (1.0, 0.0), ({"lr": 1},)).to_json())
    assert (back.trials, back.first) == (wide[:2], ({"lr": 1},))
