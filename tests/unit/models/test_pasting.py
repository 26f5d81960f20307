"""Boxes with small masks become a label map: whose a pixel is, what vanishes, and where it lands at any size."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torchvision.ops import roi_align

from tuner.data.instances import Instances
from tuner.models.pasting import paste_masks

Box = tuple[float, float, float, float]
SIDE = 28  # of a mask


def full(number: int, value: float = 1.0) -> NDArray[np.float32]:
    return np.full((number, SIDE, SIDE), value, np.float32)


def paste(
    boxes: list[Box],
    scores: list[float],
    masks: NDArray[np.float32] | None = None,
    seen: tuple[int, int] = (16, 16),
    size: tuple[int, int] = (16, 16),
) -> Instances:
    given = np.array(boxes, np.float32).reshape(-1, 4), np.array(scores, np.float32)
    return paste_masks(*given, full(len(boxes)) if masks is None else masks, seen, size, 0.5)


def test_a_full_mask_is_its_box() -> None:
    found = paste([(3, 2, 8, 6)], [0.9])
    expected = np.zeros((16, 16), np.int32)
    expected[2:6, 3:8] = 1
    assert np.array_equal(found.labels, expected)
    assert found.scores.tolist() == pytest.approx([0.9])


def test_the_surer_one_has_the_pixels_of_both_and_is_the_first() -> None:
    found = paste([(0, 0, 8, 4), (6, 0, 14, 4)], [0.6, 0.8])
    assert found.scores.tolist() == pytest.approx([0.8, 0.6])
    assert (found.labels[:4, 6:14] == 1).all() and (found.labels[:4, :6] == 2).all()


def test_what_is_mostly_hidden_by_surer_ones_is_one_of_them_found_twice() -> None:
    found = paste([(0, 0, 8, 4), (2, 0, 10, 4), (9, 0, 12, 4)], [0.9, 0.8, 0.7])
    assert found.scores.tolist() == pytest.approx([0.9, 0.7])
    assert (found.labels[:4, 9:12] == 2).all() and (found.labels[:4, 8] == 0).all()


def test_an_empty_mask_vanishes_and_leaves_no_gap() -> None:
    masks = full(2)
    masks[0] = 0.5  # not above
    found = paste([(0, 0, 8, 4), (2, 6, 10, 9)], [0.9, 0.8], masks)
    assert found.labels.max() == len(found.scores) == 1


def test_nothing_found_is_an_empty_map() -> None:
    found = paste([], [])
    assert not found.labels.any() and found.scores.shape == (0,)


@pytest.mark.parametrize("box", [(5.0, 7.0, 6.0, 8.0), (5.6, 7.6, 5.9, 7.9), (5.1, 7.05, 5.3, 7.4)], ids=str)
def test_a_box_of_one_pixel_or_less_is_a_pixel(box: Box) -> None:
    found = paste([box], [0.9])
    assert np.argwhere(found.labels).tolist() == [[7, 5]]


def test_a_box_beyond_the_edge_is_cut() -> None:
    found = paste([(12, -3, 20, 2)], [0.9])
    assert np.array_equal(np.argwhere(found.labels).min(0), (0, 12))
    assert found.labels.sum() == 2 * 4


def test_at_another_size_it_stands_in_the_same_place() -> None:
    found = paste([(4, 2, 8, 6)], [0.9], size=(32, 48))
    expected = np.zeros((32, 48), np.int32)
    expected[4:12, 12:24] = 1
    assert np.array_equal(found.labels, expected)


@pytest.mark.parametrize("radius", [3, 6, 11])
def test_a_mask_cut_as_torchvision_cuts_it_comes_back(radius: int) -> None:
    rows, columns = np.ogrid[:32, :32]
    disc = (rows - 15) ** 2 + (columns - 17) ** 2 <= radius**2
    box = (17 - radius, 15 - radius, 18 + radius, 16 + radius)
    whole = torch.from_numpy(disc)[None, None].float()
    mask = roi_align(whole, torch.tensor([[0.0, *box]]), (SIDE, SIDE))[0].numpy()
    found = paste([box], [0.9], mask, (32, 32), (32, 32)).labels > 0
    assert (found & disc).sum() / (found | disc).sum() > 0.93
