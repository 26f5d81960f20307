"""Instances compared pixel by pixel, on label maps that a person can check."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tuner.instances import in_order, ious, matches, overlaps


def squares(*boxes: tuple[int, int, int, int], side: int = 20) -> NDArray[np.int32]:
    """A map with instance 1, 2 ... at these (top, left, bottom, right)."""
    labels = np.zeros((side, side), np.int32)
    for number, (top, left, bottom, right) in enumerate(boxes, start=1):
        labels[top:bottom, left:right] = number
    return labels


def test_numbers_get_in_order_and_keep_their_order() -> None:
    labels = np.array([[0, 7, 7], [65535, 0, 3]], np.uint16)
    assert in_order(labels).tolist() == [[0, 2, 2], [3, 0, 1]]
    assert in_order(labels).dtype == np.int32
    assert in_order(np.zeros((2, 2), np.uint16)).tolist() == [[0, 0], [0, 0]]


def test_a_map_without_background_loses_no_instance() -> None:
    assert in_order(np.array([[5, 5], [9, 9]])).tolist() == [[1, 1], [2, 2]]


def test_shared_pixels_are_counted_of_every_pair() -> None:
    found, true = squares((0, 0, 4, 4)), squares((0, 0, 4, 2), (0, 2, 4, 6))
    shared = overlaps(found, true)
    assert shared.tolist() == [[400 - 8 - 16, 0, 8], [0, 8, 8]]
    np.testing.assert_allclose(ious(shared), [[8 / 16, 8 / 24]])


def test_none_against_none_is_nothing_at_all() -> None:
    none = np.zeros((4, 4), np.int32)
    assert ious(overlaps(none, none)).shape == (0, 0)
    found = matches(none, none)
    assert (found.pairs, found.wrong, found.missed, found.merged, found.split) == ((), (), (), (), ())


def test_what_is_the_same_wrong_and_missed() -> None:
    true = squares((0, 0, 5, 5), (10, 10, 15, 15))
    found = matches(squares((0, 0, 5, 4), (16, 0, 18, 2)), true)
    assert found.pairs == ((1, 1, 20 / 25),)
    assert (found.wrong, found.missed) == ((2,), (2,))


def test_one_over_two_is_a_merge_and_two_over_one_a_split() -> None:
    pair, one = squares((0, 0, 6, 5), (0, 5, 6, 10)), squares((0, 0, 6, 10))
    merged, split = matches(one, pair), matches(pair, one)
    assert (merged.merged, merged.split, merged.missed) == ((1,), (), (1, 2))
    assert (split.split, split.merged, split.missed) == ((1,), (), (1,))
    assert not matches(pair, pair).merged and not matches(pair, pair).split


def test_numbers_that_no_pixel_has_are_no_instances() -> None:
    true = squares((0, 0, 5, 5)) * 3
    found = matches(squares((0, 0, 5, 5)), true)
    assert found.pairs == ((1, 3, 1.0),) and not found.missed
