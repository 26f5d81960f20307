"""Instances compared pixel by pixel, on label maps that a person can check."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tuner.data.instances import (
    connected_pieces,
    find_touching,
    iou_matrix,
    match_instances,
    merge_pieces,
    overlap_matrix,
    renumber,
)


def squares(*boxes: tuple[int, int, int, int], side: int = 20) -> NDArray[np.int32]:
    """A map with instance 1, 2 ... at these (top, left, bottom, right)."""
    labels = np.zeros((side, side), np.int32)
    for number, (top, left, bottom, right) in enumerate(boxes, start=1):
        labels[top:bottom, left:right] = number
    return labels


def test_numbers_get_in_order_and_keep_their_order() -> None:
    labels = np.array([[0, 7, 7], [65535, 0, 3]], np.uint16)
    assert renumber(labels).tolist() == [[0, 2, 2], [3, 0, 1]]
    assert renumber(labels).dtype == np.int32
    assert renumber(np.zeros((2, 2), np.uint16)).tolist() == [[0, 0], [0, 0]]


def test_a_map_without_background_loses_no_instance() -> None:
    assert renumber(np.array([[5, 5], [9, 9]])).tolist() == [[1, 1], [2, 2]]


def test_instances_side_by_side_touch_and_those_at_a_corner_do_not() -> None:
    labels = squares((0, 0, 4, 4), (0, 4, 4, 8), (4, 8, 8, 12), (12, 0, 16, 4), (10, 0, 12, 4))
    assert find_touching(labels).tolist() == [1, 2, 4, 5]
    assert find_touching(squares((0, 0, 4, 4))).tolist() == find_touching(squares()).tolist() == []
    assert find_touching(np.array([[1, 2]], np.uint16)).tolist() == [1, 2]


def test_shared_pixels_are_counted_of_every_pair() -> None:
    found, true = squares((0, 0, 4, 4)), squares((0, 0, 4, 2), (0, 2, 4, 6))
    shared = overlap_matrix(found, true)
    assert shared.tolist() == [[400 - 8 - 16, 0, 8], [0, 8, 8]]
    np.testing.assert_allclose(iou_matrix(shared), [[8 / 16, 8 / 24]])


def test_none_against_none_is_nothing_at_all() -> None:
    none = np.zeros((4, 4), np.int32)
    assert iou_matrix(overlap_matrix(none, none)).shape == (0, 0)
    found = match_instances(none, none)
    assert (found.pairs, found.wrong, found.missed, found.merged, found.split) == ((), (), (), (), ())


def test_what_is_the_same_wrong_and_missed() -> None:
    true = squares((0, 0, 5, 5), (10, 10, 15, 15))
    found = match_instances(squares((0, 0, 5, 4), (16, 0, 18, 2)), true)
    assert found.pairs == ((1, 1, 20 / 25),)
    assert (found.wrong, found.missed) == ((2,), (2,))


def test_one_over_two_is_a_merge_and_two_over_one_a_split() -> None:
    pair, one = squares((0, 0, 6, 5), (0, 5, 6, 10)), squares((0, 0, 6, 10))
    merged, split = match_instances(one, pair), match_instances(pair, one)
    assert (merged.merged, merged.split, merged.missed) == ((1,), (), (1, 2))
    assert (split.split, split.merged, split.missed) == ((1,), (), (1,))
    assert not match_instances(pair, pair).merged and not match_instances(pair, pair).split


def test_numbers_that_no_pixel_has_are_no_instances() -> None:
    true = squares((0, 0, 5, 5)) * 3
    found = match_instances(squares((0, 0, 5, 5)), true)
    assert found.pairs == ((1, 3, 1.0),) and not found.missed


def ring(side: int = 20) -> NDArray[np.int32]:
    """A ring, which any cut through its middle makes two arcs of."""
    away = np.hypot(*np.ogrid[-10 : side - 10, -10 : side - 10])
    return ((away > 5) & (away < 9)).astype(np.int32) * 4


def test_pieces_know_whose_they_are() -> None:
    labels = squares((0, 0, 3, 3), (5, 5, 8, 8))
    labels[12:15, 12:15] = 1  # a second piece of the first
    apart, owners = connected_pieces(labels)
    assert apart.max() == 3 and sorted(owners.tolist()) == [0, 1, 1, 2]
    np.testing.assert_array_equal(owners[apart], labels)
    assert (merge_pieces(apart, owners) == labels).all()


def test_touching_at_a_corner_is_one_piece_and_touching_another_instance_is_not() -> None:
    corner = squares((0, 0, 3, 3))
    corner[3:6, 3:6] = 1
    assert connected_pieces(corner)[0].max() == 1
    assert connected_pieces(squares((0, 0, 3, 3), (0, 3, 3, 6)))[0].max() == 2


def test_a_ring_cut_by_the_edge_is_two_and_the_larger_keeps_its_number() -> None:
    apart, owners = connected_pieces(ring())
    cut = apart.copy()
    cut[:10], cut[10, :9] = 0, 0  # the upper half leaves the picture; the arcs below are joined
    assert set(np.unique(merge_pieces(cut, owners))) == {0, 4}
    cut = apart.copy()
    cut[8:12], cut[:8, :10] = 0, 0  # less than a quarter above, less than a half below
    found = merge_pieces(cut, owners)
    assert set(np.unique(found)) == {0, 4, 5}
    assert (found[12:] == 4).sum() == (cut[12:] > 0).sum() > (found == 5).sum() > 0


def test_what_was_apart_before_stays_one_and_is_none_when_it_leaves() -> None:
    labels = squares((2, 0, 5, 4), (10, 0, 14, 4))
    labels[2:5, 8:12] = 1
    apart, owners = connected_pieces(labels)
    mirrored = apart[:, ::-1]
    np.testing.assert_array_equal(merge_pieces(mirrored, owners), labels[:, ::-1])
    moved = np.roll(apart, 3, axis=1)
    moved[9:] = 0
    assert set(np.unique(merge_pieces(moved, owners))) == {0, 1}
    assert not merge_pieces(np.zeros_like(apart), owners).any()


def test_a_shift_round_the_edge_cuts_whatever_lay_there() -> None:
    apart, owners = connected_pieces(squares((5, 0, 15, 8)))
    assert set(np.unique(merge_pieces(np.roll(apart, -4, axis=1), owners))) == {0, 1, 2}


def test_a_gap_of_a_pixel_is_no_cut_and_a_crumb_is_no_instance() -> None:
    line = squares((10, 0, 11, 20))
    apart, owners = connected_pieces(line)
    torn = apart.copy()
    torn[10, 5:7] = torn[10, 12] = 0
    assert set(np.unique(merge_pieces(torn, owners))) == {0, 1}
    torn[10, 4:18] = 0  # two pixels are left on the right, four on the left
    found = merge_pieces(torn, owners)
    assert (found[10, :4] == 1).all() and not found[10, 18:].any()


def test_a_single_pixel_is_an_instance_as_long_as_it_is_one() -> None:
    apart, owners = connected_pieces(squares((3, 3, 4, 4)))
    assert merge_pieces(np.roll(apart, 5, axis=0), owners).sum() == 1


def test_high_numbers_cost_no_more_than_low_ones() -> None:
    found, true = squares((0, 0, 5, 5)) * 60_000, squares((0, 0, 5, 4)) * 2_000_000
    compared = match_instances(found, true)
    assert compared.pairs == ((60_000, 2_000_000, 20 / 25),) and not compared.wrong and not compared.missed
