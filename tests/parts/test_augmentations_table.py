"""One base test over every augmentation of the table."""

from __future__ import annotations

import random

import cv2
import numpy as np
import pytest

from tuner.data.augment import AUGMENTATIONS, Augment, make_augment
from tuner.errors import PartError
from tuner.recipe import Part

every_augmentation = pytest.mark.parametrize("name", AUGMENTATIONS)
SIDE = 24


def apply(name: str, seed: int, **args: float) -> tuple[np.ndarray, np.ndarray]:
    picture, mask = pair()
    augment: Augment | None = make_augment(Part(name, args), SIDE)
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


def drawn(side: int) -> tuple[np.ndarray, np.ndarray]:
    """Shapes of three classes and a stretch that is ignored, each drawn in the image in a colour of its own."""
    labels = np.zeros((side, side), np.uint8)
    cv2.circle(labels, (side // 3, side // 3), side // 6, 1, -1)
    cv2.rectangle(labels, (side // 2, side // 8), (side - side // 8, side // 3), 2, -1)
    points = np.array(
        [[side // 5, side - side // 8], [side // 2, side // 2], [side - side // 6, side - side // 5]]
    )
    cv2.fillPoly(labels, [points], 3)
    labels[:, : side // 12] = 255
    return COLOURS[labels], labels


COLOURS = np.zeros((256, 3), np.uint8)
COLOURS[[0, 1, 2, 3, 255]] = [[20, 20, 20], [230, 20, 20], [20, 230, 20], [20, 20, 230], [230, 230, 230]]
GEOMETRY_ONLY: dict[str, dict[str, float]] = {
    "lesion": {"colour": 0, "noise": 0},
    "pet": {"colour": 0, "rgb": 0, "noise": 0},
}


def nearest_colour(picture: np.ndarray) -> np.ndarray:
    """The label whose colour a pixel has."""
    values = np.array([0, 1, 2, 3, 255], np.uint8)
    far = np.abs(picture[:, :, None].astype(int) - COLOURS[values].astype(int)).sum(-1)
    return values[far.argmin(-1)]


@every_augmentation
def test_the_labels_follow_the_image(name: str) -> None:
    """The same shapes in both: wherever a pixel went, its label went too. Edges may blur by a pixel."""
    augment, moved = make_augment(Part(name, GEOMETRY_ONLY.get(name, {})), 96), 0
    picture, labels = drawn(96)
    for seed in range(30):
        image, target = augment(picture, labels, seed) if augment else (picture, labels)
        assert set(np.unique(target)) <= {0, 1, 2, 3, 255}, "a label was invented"
        inside = cv2.erode(target, np.ones((3, 3))) == cv2.dilate(target, np.ones((3, 3)))
        assert inside.mean() > 0.7
        wrong = nearest_colour(image)[inside] != target[inside]
        assert wrong.mean() < 0.002, f"seed {seed}"
        moved += not np.array_equal(target, labels)
    assert moved > 8 or name == "none"


@pytest.mark.parametrize("name", ["lesion", "pet"])
def test_colour_and_noise_leave_the_labels_alone(name: str) -> None:
    still: dict[str, float] = {"flip": 0, "rotate": 0} | (
        {"crop": 1} if name == "lesion" else {"scale": 1, "shift": 0, "zoom": 0}
    )
    augment, changed = make_augment(Part(name, still), SIDE), 0
    picture, mask = pair()
    for seed in range(20):
        image, target = augment(picture, mask, seed)  # type: ignore[misc]
        if name == "lesion":
            assert np.array_equal(target, mask)
        changed += not np.array_equal(image, picture)
    assert changed > 10


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
    augment = make_augment(Part(name), SIDE)
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
    augment = make_augment(Part(name), SIDE)
    picture, mask = pair()
    if augment:
        augment(picture, mask, 4)
    assert np.array_equal(picture, pair()[0]) and np.array_equal(mask, pair()[1])


@every_augmentation
def test_a_class_number_stays_beside_its_moved_picture(name: str) -> None:
    augment = make_augment(Part(name), SIDE)
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
    assert make_augment(Part("none"), SIDE) is None


@pytest.mark.parametrize("fraction", [0.25, 0.0625, 1.0])
def test_a_crop_is_as_large_as_its_part_of_the_area(fraction: float) -> None:
    """A ramp tells how much of the image is seen: its steps are stretched by the side of the crop."""
    ramp = np.repeat(np.arange(64, dtype=np.uint8)[None, :, None].repeat(64, 0), 3, axis=2)
    augment = make_augment(Part("crop_flip", {"crop": fraction, "flip": 0.0}), 64)
    for seed in range(10):
        image = augment(ramp, ramp[:, :, 0].copy(), seed)[0]  # type: ignore[misc]
        seen = int(image.max()) - int(image.min()) + 1
        assert seen == pytest.approx(64 * fraction**0.5, abs=1)


def test_nothing_from_outside_the_image_is_invented() -> None:
    """What comes in over the border is a reflection, in image and labels: no black corners."""
    bright, labels = np.full((48, 48, 3), 200, np.uint8), np.full((48, 48), 2, np.uint8)
    for name in ("lesion", "pet"):
        augment = make_augment(Part(name, {**GEOMETRY_ONLY[name], "rotate": 90}), 48)
        for seed in range(20):
            image, target = augment(bright, labels, seed)  # type: ignore[misc]
            assert (image == 200).all() and (target == 2).all()


@pytest.mark.parametrize(
    ("part", "told"),
    [
        (Part("flip", {"p": 1.5}), "p of augmentation 'flip' is 1.5; a number of at least 0 and at most 1"),
        (Part("crop_flip", {"crop": 0}), "crop of augmentation 'crop_flip' is 0; a number above 0 and at most 1"),
        (Part("crop_flip", {"flip": "often"}), "flip of augmentation 'crop_flip' is 'often'"),
        (
            Part("lesion", {"rotate": 200}),
            "rotate of augmentation 'lesion' is 200; a number of at least 0 and at most 180",
        ),
        (Part("lesion", {"noise": -0.1}), "noise of augmentation 'lesion' is -0.1"),
        (Part("pet", {"zoom": 1.0}), "zoom of augmentation 'pet' is 1.0; a number of at least 0 and at most 0.9"),
        (Part("pet", {"scale": float("nan")}), "scale of augmentation 'pet' is nan"),
        (Part("pet", {"colour": True}), "colour of augmentation 'pet' is True"),
    ],
    ids=str,
)
def test_values_that_make_no_augmentation_are_told_in_one_line(part: Part, told: str) -> None:
    with pytest.raises(PartError, match=told):
        make_augment(part, SIDE)
