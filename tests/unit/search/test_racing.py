"""Racing: who gets a further seed, and that the winner is the one that all seeds would have named."""

from __future__ import annotations

import numpy as np
import pytest

from tuner.search.racing import estimate_noise, select_racers


def test_a_candidate_far_behind_is_dropped_and_a_near_one_is_kept() -> None:
    values = {"near": [0.806, 0.815], "best": [0.81, 0.82], "far": [0.50, 0.51]}
    assert select_racers(values, {}, 3, maximizes=True) == ["best", "near"]


def test_of_errors_less_is_better() -> None:
    values = {"near": [0.194, 0.185], "best": [0.19, 0.18], "far": [0.50, 0.49]}
    assert select_racers(values, {}, 3, maximizes=False) == ["best", "near"]


def test_nothing_is_dropped_while_no_noise_is_known() -> None:
    assert select_racers({"a": [0.9], "b": [0.1]}, {}, 3, maximizes=True) == ["a", "b"]


def test_the_values_of_the_search_count_for_the_noise_and_not_for_the_means() -> None:
    values, searched = {"a": [0.80], "b": [0.79], "c": [0.2]}, {"a": 0.82, "b": 0.90, "c": 0.21}
    assert select_racers(values, searched, 3, maximizes=True) == ["a", "b"]
    noise, free = estimate_noise({"a": [0.80]}, {"a": 0.82})
    assert (noise, free) == (pytest.approx(0.02 / np.sqrt(2)), 1)


def test_after_the_last_seed_one_is_left() -> None:
    assert select_racers({"a": [0.5, 0.6], "b": [0.6, 0.61]}, {}, 2, maximizes=True) == ["b"]


def test_candidates_without_any_noise_are_dropped_unless_they_are_equal() -> None:
    values = {"a": [0.5, 0.5], "b": [0.5, 0.5], "c": [0.4, 0.4]}
    assert select_racers(values, {}, 3, maximizes=True) == ["a", "b"]


def test_the_winner_is_that_of_all_seeds_in_most_cases_and_costs_fewer_runs() -> None:
    rng, same, spent = np.random.default_rng(3), 0, 0
    for _ in range(200):
        true = 0.7 + 0.02 * rng.normal(size=4)
        runs = {str(at): list(true[at] + 0.01 * rng.normal(size=5)) for at in range(4)}
        racing = list(runs)
        for done in range(1, 6):
            spent += len(racing)
            racing = select_racers({name: runs[name][:done] for name in racing}, {}, 5, maximizes=True)
        same += racing[0] == max(runs, key=lambda name: np.mean(runs[name]))
    assert same >= 188 and spent < 0.75 * 200 * 4 * 5
