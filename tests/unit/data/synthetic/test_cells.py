"""The generated cells: the same on every machine and day, many of them touching, and some pictures without any."""

from __future__ import annotations

import hashlib

import cv2
import numpy as np
import pytest

from tuner.data.instances import find_touching, renumber
from tuner.data.synthetic.cells import BARE, COUNT, REVISION, SIDE, cells, draw_culture


def test_every_picture_depends_on_its_number_alone() -> None:
    first, again = cells(), cells(split_seed=5)
    for item in first.items[::17]:
        for one, two in zip(first.read(item), again.read(item), strict=True):
            assert np.array_equal(one, two)


def test_pictures_and_label_maps_are_as_a_source_promises() -> None:
    source = cells()
    assert len({item.key for item in source.items}) == COUNT and source.split("val") and not source.split("test")
    assert source.targets == "instances"
    for item in source.items[::3]:
        image, labels = source.read(item)
        assert image.shape == (SIDE, SIDE, 3) and image.dtype == np.uint8
        assert labels.shape == (SIDE, SIDE) and labels.dtype == np.uint16
        assert np.array_equal(labels, renumber(labels))  # 1 to n without gaps


def test_the_pixels_belong_to_the_revision() -> None:
    """The cache is keyed by the revision: when this fails, change REVISION and the hash below together."""
    maps = b"".join(draw_culture(np.random.default_rng(at))[1].tobytes() for at in range(20))
    assert (REVISION, hashlib.sha256(maps).hexdigest()[:12]) == ("cells-1", "268d707f7ef9")


@pytest.mark.slow
def test_some_pictures_have_no_cell_and_training_sees_one() -> None:
    source = cells()
    numbers = [int(source.read(item)[1].max()) for item in source.items]
    assert [number == 0 for number in numbers] == [at % BARE == BARE - 1 for at in range(COUNT)]
    assert any(source.items[at].split == "train" for at, number in enumerate(numbers) if not number)
    assert max(numbers) > 15


def test_pieces_of_the_mask_are_far_fewer_than_cells() -> None:
    """Whoever finds the foreground alone has not found the cells: most of them touch another."""
    maps = [draw_culture(np.random.default_rng(at))[1] for at in range(30)]
    there = sum(int(labels.max()) for labels in maps)
    pieces = sum(cv2.connectedComponents((labels > 0).astype(np.uint8), connectivity=4)[0] - 1 for labels in maps)
    assert pieces < 0.4 * there and sum(len(find_touching(labels)) for labels in maps) > 0.8 * there


def test_no_threshold_finds_the_foreground_without_error() -> None:
    """Dust and rings are as bright as cells, rims as dim as the ground: a level alone is not enough."""
    pictures = [draw_culture(np.random.default_rng(at)) for at in range(30)]
    images, maps = (np.stack(part) for part in zip(*pictures, strict=True))
    truth, grey = maps > 0, images.mean(3)
    best = max(((grey > at) & truth).sum() / ((grey > at) | truth).sum() for at in range(20, 200, 5))
    assert best < 0.85


@pytest.mark.parametrize("val", [0.1, 0.4])
def test_the_held_out_part_can_be_chosen(val: float) -> None:
    assert abs(len(cells(val=val).split("val")) / COUNT - val) < 0.08
