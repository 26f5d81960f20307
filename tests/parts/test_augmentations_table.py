"""One base test over every augmentation of the table."""

from __future__ import annotations

import random

import numpy as np
import pytest

from tuner.data.augment import AUGMENTATIONS, Augment, augmenter
from tuner.recipe import Part

every_augmentation = pytest.mark.parametrize("name", AUGMENTATIONS)
SIDE = 24


def apply(name: str, seed: int, **args: float) -> tuple[np.ndarray, np.ndarray]:
    picture, mask = pair()
    augment: Augment | None = augmenter(Part(name, args), SIDE)
    return augment(picture, mask, seed) if augment else (picture, mask)


def pair() -> tuple[np.ndarray, np.ndarray]:
    """A bright object right of the middle on dark noise; the mask is where it is bright."""
    picture = np.random.default_rng(0).integers(0, 40, (SIDE, SIDE, 3)).astype(np.uint8)
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[5:12, 14:22] = 1
    picture[mask == 1] = 220
    return picture, mask


@every_augmentation
def test_shapes_and_kinds_stay(name: str) -> None:
    picture, mask = apply(name, 3)
    assert picture.shape == (SIDE, SIDE, 3) and picture.dtype == np.uint8
    assert mask.shape == (SIDE, SIDE) and mask.dtype == np.uint8
    assert set(np.unique(mask)) <= {0, 1}


@every_augmentation
def test_the_mask_follows_the_image(name: str) -> None:
    for seed in range(20):
        picture, mask = apply(name, seed)
        bright = (picture.min(axis=2) > 130).astype(np.uint8)
        overlap = (bright & mask).sum() / max((bright | mask).sum(), 1)
        assert overlap > 0.8, f"seed {seed}"


@every_augmentation
def test_it_depends_on_the_seed_alone(name: str) -> None:
    for seed in (1, 2**31, 2**32 - 1):
        np.random.seed(seed % 1000)
        random.seed(seed)
        first = apply(name, seed)
        np.random.seed(99)
        random.seed(99)
        second = apply(name, seed)
        assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


@every_augmentation
def test_what_came_before_does_not_matter(name: str) -> None:
    augment = augmenter(Part(name), SIDE)
    if augment is None:
        assert name == "none"
        return
    for warm_up in range(5):
        augment(*pair(), warm_up)
    assert np.array_equal(augment(*pair(), 77)[0], apply(name, 77)[0])


@every_augmentation
def test_the_global_generators_are_left_alone(name: str) -> None:
    random.seed(1)
    np.random.seed(1)
    before = random.getstate(), np.random.get_state()[1].tolist()
    apply(name, 5)
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before


@every_augmentation
def test_the_given_arrays_are_not_changed(name: str) -> None:
    augment = augmenter(Part(name), SIDE)
    picture, mask = pair()
    if augment:
        augment(picture, mask, 4)
    assert np.array_equal(picture, pair()[0]) and np.array_equal(mask, pair()[1])


@every_augmentation
def test_a_class_number_stays_beside_its_moved_picture(name: str) -> None:
    augment = augmenter(Part(name), SIDE)
    if augment is None:
        return
    picture, label = augment(pair()[0], np.int64(3), 5)
    assert picture.shape == (SIDE, SIDE, 3) and label == 3


def test_flip_mirrors_about_half_of_the_items() -> None:
    flipped = sum(not np.array_equal(apply("flip", seed)[1], pair()[1]) for seed in range(200))
    assert 70 < flipped < 130


@pytest.mark.parametrize(("p", "mirrored"), [(0.0, False), (1.0, True)])
def test_flip_follows_its_probability(p: float, mirrored: bool) -> None:
    picture, mask = pair()
    expected = (picture[:, ::-1], mask[:, ::-1]) if mirrored else (picture, mask)
    got = apply("flip", 9, p=p)
    assert all(np.array_equal(a, b) for a, b in zip(got, expected, strict=True))


def test_none_does_nothing_at_no_cost() -> None:
    assert augmenter(Part("none"), SIDE) is None
