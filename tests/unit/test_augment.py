"""Augmentation depends on the seed of the item alone, and moves a mask with its image."""

from __future__ import annotations

import numpy as np
import pytest

from tuner.data.augment import augmenter, item_seed
from tuner.errors import PartError
from tuner.recipe import Part, use

PICTURE = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
MASK = np.random.default_rng(1).integers(0, 2, (8, 8), np.uint8)


def test_nothing_to_do_is_no_augmenter() -> None:
    assert augmenter(use("none"), 8) is None


def test_a_sure_flip_moves_image_and_mask_together() -> None:
    image, mask = augmenter(use("flip", p=1.0), 8)(PICTURE, MASK, 5)
    assert np.array_equal(image, PICTURE[:, ::-1]) and np.array_equal(mask, MASK[:, ::-1])


def test_over_many_seeds_image_and_mask_never_part() -> None:
    augment = augmenter(use("flip"), 8)
    flipped = 0
    for seed in range(200):
        image, mask = augment(PICTURE, MASK, seed)
        moved = np.array_equal(image, PICTURE[:, ::-1])
        assert moved or np.array_equal(image, PICTURE)
        assert np.array_equal(mask, MASK[:, ::-1] if moved else MASK)
        flipped += moved
    assert 70 < flipped < 130


def test_the_same_seed_gives_the_same_whatever_came_before() -> None:
    one, other = augmenter(use("flip"), 8), augmenter(use("flip"), 8)
    wanted = {seed: one(PICTURE, MASK, seed)[0] for seed in range(50)}
    for seed in np.random.default_rng(3).permutation(50):
        assert np.array_equal(other(PICTURE, MASK, int(seed))[0], wanted[int(seed)])


def test_of_a_class_only_the_picture_moves() -> None:
    number = np.asarray(7, np.int64)
    image, target = augmenter(use("flip", p=1.0), 8)(PICTURE, number, 0)
    assert np.array_equal(image, PICTURE[:, ::-1]) and target == 7


def test_the_given_arrays_stay_as_they_are() -> None:
    picture, mask = PICTURE.copy(), MASK.copy()
    augmenter(use("flip", p=1.0), 8)(picture, mask, 0)
    assert np.array_equal(picture, PICTURE) and np.array_equal(mask, MASK)


def test_the_seed_of_an_item_is_its_own() -> None:
    seeds = {item_seed(s, e, i) for s in range(10) for e in range(10) for i in range(50)}
    assert len(seeds) == 5000 and item_seed(1, 2, 3) == item_seed(1, 2, 3)
    assert all(0 <= seed < 2**32 for seed in seeds)


@pytest.mark.parametrize("part", [use("flop"), use("flip", q=1)])
def test_an_unknown_augmentation_or_argument_is_named(part: Part) -> None:
    with pytest.raises(PartError, match=r"Did you mean|It takes: p"):
        augmenter(part, 8)
