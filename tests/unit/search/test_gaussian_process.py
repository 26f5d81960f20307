"""The Gaussian process of the sampler `early`."""

from __future__ import annotations

import numpy as np
import pytest

from tuner.search.gaussian_process import GaussianProcess

POINTS = np.random.default_rng(0).random((60, 3))
VALUES = np.sin(5 * POINTS[:, 0]) + 0.3 * POINTS[:, 1]  # the third column decides nothing


def test_it_predicts_a_smooth_function_and_knows_where_it_is_unsure() -> None:
    model = GaussianProcess(POINTS, VALUES, [0, 1, 2])
    new = np.random.default_rng(1).random((200, 3))
    means, errors = model.predict(new)
    truth = np.sin(5 * new[:, 0]) + 0.3 * new[:, 1]
    assert np.abs(means - truth).mean() < 0.1
    far = model.predict(np.full((1, 3), 3.0))
    assert far[1][0] > 2 * errors.max() and abs(far[0][0]) < 0.2


def test_a_parameter_that_decides_nothing_gets_a_long_scale() -> None:
    scales = GaussianProcess(POINTS, VALUES, [0, 1, 2]).scales
    assert scales[2] > 2 * scales[0]


def test_the_columns_of_a_choice_share_a_scale() -> None:
    assert GaussianProcess(POINTS, VALUES, [0, 1, 1]).scales.shape == (2,)


def test_believed_points_make_it_surer_and_change_no_mean() -> None:
    model = GaussianProcess(POINTS, VALUES, [0, 1, 2])
    new = np.full((1, 3), 1.5)
    before = model.predict(new)
    model.believe(np.empty((0, 3)))
    assert model.predict(new)[1] == before[1]
    model.believe(new)
    after = model.predict(new)
    assert after[0][0] == pytest.approx(before[0][0], abs=0.05) and after[1][0] < 0.5 * before[1][0]


def test_equal_data_give_an_equal_model() -> None:
    first, second = (GaussianProcess(POINTS, VALUES, [0, 1, 2]).predict(POINTS)[0] for _ in range(2))
    assert (first == second).all()


def test_equal_values_and_one_point_are_no_error() -> None:
    flat = GaussianProcess(POINTS, np.zeros(60), [0, 1, 2])
    assert np.isfinite(np.concatenate(flat.predict(POINTS))).all()
    assert np.isfinite(np.concatenate(GaussianProcess(POINTS[:1], VALUES[:1], [0, 1, 2]).predict(POINTS))).all()
