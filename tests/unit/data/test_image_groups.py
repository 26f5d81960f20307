"""Images that belong together are found by their names and by what they show; others are not."""

from __future__ import annotations

import numpy as np

from tuner.data.image_groups import join_groups, likeness_groups, name_groups


def picture(rng: np.random.Generator, size: int = 64) -> np.ndarray:
    """A picture of random patches, as smooth as photographs."""
    coarse = rng.integers(0, 255, (8, 8, 3))
    return np.kron(coarse, np.ones((size // 8, size // 8, 1))).astype(np.uint8)


def test_names_that_differ_in_their_last_number_are_a_group() -> None:
    keys = ["a/film1_0001.png", "a/film1_0002.png", "a/film2_0001.png", "b/film1_0003.png", "7.png", "8.png"]
    assert name_groups(keys) == [0, 0, 1, 2, 3, 4]


def test_independent_pictures_stay_apart_and_copies_are_found() -> None:
    rng = np.random.default_rng(0)
    pictures = [picture(rng) for _ in range(60)]
    assert len(set(likeness_groups(pictures))) == 60
    noise = rng.integers(-8, 9, pictures[0].shape)
    copy = np.clip(pictures[3].astype(int) + noise, 0, 255).astype(np.uint8)
    found = likeness_groups([*pictures, copy])
    assert found[-1] == found[3] and len(set(found)) == 60


def test_a_film_that_moves_is_one_group_for_each_scene() -> None:
    rng = np.random.default_rng(1)
    frames = []
    for _ in range(3):
        wide = np.concatenate([picture(rng, 64) for _ in range(4)], axis=1)
        frames += [wide[:, at : at + 64] for at in range(40)]
    assert len(set(likeness_groups(frames))) == 3


def test_linked_items_are_one_group() -> None:
    assert join_groups(5, [(0, 3), (3, 4)]) == [0, 1, 2, 0, 0]
    assert likeness_groups([np.zeros((4, 4, 3), np.uint8)] * 2) == [0, 1]
