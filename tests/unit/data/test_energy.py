"""The energy of instances: distances computed by hand, the same for each however large, low where two touch."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from tuner.data.instances import FIELDS, compute_energy, energy_direction, find_boundary, make_energy_targets


def touching() -> NDArray[np.uint16]:
    """A square of 9 pixels and one of 5 beside it."""
    labels = np.zeros((15, 20), np.uint16)
    labels[2:11, 2:11], labels[3:8, 11:16] = 4, 9
    return labels


def test_it_is_the_distance_to_the_boundary_divided_by_the_greatest() -> None:
    energy = compute_energy(touching())
    np.testing.assert_allclose(energy[6, 2:11], np.array([1, 2, 3, 4, 5, 4, 3, 2, 1]) / 5)
    np.testing.assert_allclose(energy[5, 11:16], np.array([1, 2, 3, 2, 1]) / 3)
    assert not energy[touching() == 0].any()


def test_it_is_near_the_exact_distance_of_each_instance_alone() -> None:
    rng = np.random.default_rng(0)
    labels = np.zeros((64, 64), np.uint16)
    for number in range(1, 9):
        y, x = rng.integers(10, 54, 2)
        labels[np.hypot(*np.ogrid[-y : 64 - y, -x : 64 - x]) < rng.integers(5, 12)] = number
    energy = compute_energy(labels)
    for number in np.unique(labels)[1:]:
        exact = ndimage.distance_transform_edt(labels == number)
        assert energy[labels == number].max() == 1
        off = np.abs(energy - exact / exact.max())[labels == number]
        assert off.mean() < 0.08


def test_the_edge_of_the_picture_is_no_boundary() -> None:
    labels = np.zeros((9, 9), np.uint16)
    labels[:4] = 1
    np.testing.assert_allclose(compute_energy(labels)[:, 4], [1, 0.75, 0.5, 0.25, 0, 0, 0, 0, 0], atol=1e-6)


def test_a_single_pixel_is_as_deep_as_can_be_and_nothing_is_nothing() -> None:
    labels = np.zeros((5, 5), np.uint16)
    assert not compute_energy(labels).any()
    labels[2, 2] = 7
    assert compute_energy(labels)[2, 2] == 1 and compute_energy(labels).sum() == 1


def test_its_direction_leads_to_more_energy_and_is_a_unit_vector() -> None:
    labels = touching()
    energy = compute_energy(labels)
    down, across = energy_direction(energy, labels > 0)
    assert across[6, 3] > 0.99 and across[6, 9] < -0.99 and down[3, 6] > 0.99 and down[9, 6] < -0.99
    length = np.hypot(down, across)
    assert set(np.unique(length.round(3))) <= {0.0, 1.0} and not length[labels == 0].any()


def test_touching_instances_have_a_boundary_between_them() -> None:
    edge = find_boundary(touching())
    assert edge[5, 10] and edge[5, 11] and not edge[5, 13] and not edge[6, 6]


def test_a_batch_is_prepared_picture_by_picture() -> None:
    labels = np.stack([touching(), np.zeros_like(touching())])
    made = make_energy_targets(labels)
    assert made.shape == (2, FIELDS, 15, 20) and made.dtype == np.float32
    np.testing.assert_array_equal(made[0, 0], touching())
    np.testing.assert_array_equal(made[0, 1], compute_energy(touching()))
    assert not made[1].any()


def test_the_highest_number_of_a_sixteen_bit_map_survives() -> None:
    labels = np.full((1, 4, 4), 65535, np.uint16)
    assert torch.from_numpy(make_energy_targets(labels))[0, 0].int().unique().tolist() == [65535]
