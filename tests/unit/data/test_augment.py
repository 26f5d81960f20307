"""Augmentation depends on the seed of the item alone, and moves a mask with its image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from skimage import measure

from tuner.data import augment_pool
from tuner.data.augment import item_seed, make_augment
from tuner.data.batches import Batches
from tuner.data.cache import CachedDataset
from tuner.data.source import Image
from tuner.data.synthetic.cells import draw_culture
from tuner.errors import PartError
from tuner.recipe import Part, use
from tuner.tasks import find_task

PREPARE = find_task("instance").prepare
PICTURE = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
MASK = np.random.default_rng(1).integers(0, 2, (8, 8), np.uint8)


def test_nothing_to_do_is_no_augmenter() -> None:
    assert make_augment(use("none"), 8) is None


def test_a_sure_flip_moves_image_and_mask_together() -> None:
    image, mask = make_augment(use("flip", p=1.0), 8)(PICTURE, MASK, 5)
    assert np.array_equal(image, PICTURE[:, ::-1]) and np.array_equal(mask, MASK[:, ::-1])


def test_over_many_seeds_image_and_mask_never_part() -> None:
    augment = make_augment(use("flip"), 8)
    flipped = 0
    for seed in range(200):
        image, mask = augment(PICTURE, MASK, seed)
        moved = np.array_equal(image, PICTURE[:, ::-1])
        assert moved or np.array_equal(image, PICTURE)
        assert np.array_equal(mask, MASK[:, ::-1] if moved else MASK)
        flipped += moved
    assert 70 < flipped < 130


def test_the_same_seed_gives_the_same_whatever_came_before() -> None:
    one, other = make_augment(use("flip"), 8), make_augment(use("flip"), 8)
    wanted = {seed: one(PICTURE, MASK, seed)[0] for seed in range(50)}
    for seed in np.random.default_rng(3).permutation(50):
        assert np.array_equal(other(PICTURE, MASK, int(seed))[0], wanted[int(seed)])


def test_of_a_class_only_the_picture_moves() -> None:
    number = np.asarray(7, np.int64)
    image, target = make_augment(use("flip", p=1.0), 8)(PICTURE, number, 0)
    assert np.array_equal(image, PICTURE[:, ::-1]) and target == 7


def test_the_given_arrays_stay_as_they_are() -> None:
    picture, mask = PICTURE.copy(), MASK.copy()
    make_augment(use("flip", p=1.0), 8)(picture, mask, 0)
    assert np.array_equal(picture, PICTURE) and np.array_equal(mask, MASK)


def test_the_seed_of_an_item_is_its_own() -> None:
    seeds = {item_seed(s, e, i) for s in range(10) for e in range(10) for i in range(50)}
    assert len(seeds) == 5000 and item_seed(1, 2, 3) == item_seed(1, 2, 3)
    assert all(0 <= seed < 2**32 for seed in seeds)


@pytest.mark.parametrize("part", [use("flop"), use("flip", q=1)])
def test_an_unknown_augmentation_or_argument_is_named(part: Part) -> None:
    with pytest.raises(PartError, match=r"Did you mean|It takes: p"):
        make_augment(part, 8)


def test_a_copy_has_a_seed_of_its_own() -> None:
    seeds = {item_seed(1, e, i, c) for e in range(10) for i in range(50) for c in range(4)}
    assert len(seeds) == 2000 and item_seed(1, 2, 3, 0) == item_seed(1, 2, 3)


@pytest.mark.parametrize("deviation", [0.02, 0.1])
def test_noise_is_normal_and_as_strong_as_asked(deviation: float) -> None:
    import albumentations

    from tuner.data.noise import ByteNoise

    class Sure(ByteNoise):
        def get_params(self) -> dict[str, Any]:
            return {"deviation": 255 * self.most}

    grey = np.full((128, 128, 3), 128, np.uint8)
    pipeline = albumentations.Compose([Sure(deviation, p=1.0)])
    pipeline.set_random_seed(3)
    noise = pipeline(image=grey)["image"].astype(float) - 128
    assert noise.std() == pytest.approx(255 * deviation, rel=0.02) and abs(noise.mean()) < 0.2
    within = (np.abs(noise) < noise.std()).mean()
    assert within == pytest.approx(0.68, abs=0.05)
    assert np.corrcoef(noise[..., 0].ravel(), noise[..., 1].ravel())[0, 1] == pytest.approx(0, abs=0.05)


def test_noise_stops_at_black_and_white() -> None:
    augment = make_augment(use("test_augment:noise_only"), 32)
    for value in (0, 255):
        flat = np.full((32, 32, 3), value, np.uint8)
        image, _ = augment(flat, np.zeros((32, 32), np.uint8), 1)
        assert abs(image.astype(int) - value).max() < 200


def noise_only(size: int) -> list[Any]:
    """A user's own set, by name."""
    from tuner.data.noise import ByteNoise

    return [ByteNoise(0.2, p=1.0)]


def too_small(size: int) -> Any:
    """A user's own that forgot to resize; one transform and no list."""
    import albumentations

    return albumentations.CenterCrop(size // 2, size // 2)


def normalised(size: int) -> Any:
    import albumentations

    return [albumentations.Normalize()]


def no_transforms(size: int) -> Any:
    return [len]


def own_flip(size: int, *, p: float = 1.0) -> Any:
    import albumentations

    return albumentations.Compose([albumentations.VerticalFlip(p=p)])


def test_a_users_own_set_is_named_by_its_function() -> None:
    image, mask = make_augment(use("test_augment:own_flip"), 8)(PICTURE, MASK, 0)
    assert np.array_equal(image, PICTURE[::-1]) and np.array_equal(mask, MASK[::-1])


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("too_small", r"returns 4 x 4 x 3 of uint8; it must return 8 x 8 x 3 of uint8: resize to the size"),
        ("normalised", r"returns 8 x 8 x 3 of float32; it must return 8 x 8 x 3 of uint8: .* do not normalize"),
        ("no_transforms", r"does not return albumentations transforms"),
        ("nowhere", r"cannot be imported: .*test_augment.py has no attribute 'nowhere'"),
    ],
)
def test_a_users_own_set_that_does_not_fit_is_told_in_one_line(name: str, told: str) -> None:
    with pytest.raises(PartError, match=told) as error:
        make_augment(use(f"test_augment:{name}"), 8)(PICTURE, MASK, 0)
    assert "\n" not in str(error.value)


def culture(number: int = 1) -> tuple[Image, NDArray[np.uint16]]:
    return draw_culture(np.random.default_rng(number))


@pytest.mark.parametrize("name", ["flip", "lesion", pytest.param("pet", marks=pytest.mark.slow)])
def test_after_any_augmentation_every_instance_is_one_piece(name: str) -> None:
    """Cells are drawn whole: whatever an edge or a reflection makes of one, no two parts share a number."""
    augment = make_augment(use(name), 128)
    assert augment is not None
    for seed in range(16):
        image, labels = culture(seed)
        single = np.where(np.isin(labels, in_pieces(labels)), 0, labels).astype(np.uint16)  # others lie on some
        made, moved = augment(image, single, seed)
        assert moved.dtype == np.uint16 and moved.shape == (128, 128) and made.shape == image.shape
        assert in_pieces(moved) == []


def in_pieces(labels: NDArray[np.uint16]) -> list[int]:
    """The instances whose parts are more than two pixels apart."""
    grown = {int(n): cv2.dilate((labels == n).astype(np.uint8), np.ones((3, 3))) for n in np.unique(labels)[1:]}
    return [n for n, mask in grown.items() if measure.label(mask, connectivity=2).max() > 1]


def test_more_pieces_than_sixteen_bits_can_number_stay_together() -> None:
    labels = np.zeros((600, 600), np.uint16)
    labels[::2, ::2] = 1 + np.arange(300 * 300).reshape(300, 300) % 3
    augment = make_augment(use("flip", p=1.0), 600)
    assert augment is not None
    _, moved = augment(np.zeros((600, 600, 3), np.uint8), labels, 0)
    kept = moved[:, ::-1]
    assert (kept[(kept > 0) & (kept < 4)] == labels[(kept > 0) & (kept < 4)]).all()


def test_processes_make_of_instances_what_threads_make(tmp_path: Path) -> None:
    drawn = [culture(number) for number in range(4)]
    np.save(tmp_path / "images.npy", np.stack([image for image, _ in drawn]))
    np.save(tmp_path / "targets.npy", np.stack([labels for _, labels in drawn]))
    images, targets = (np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in ("images", "targets"))
    data = CachedDataset(images, targets, tuple("abcd"), np.arange(3), np.array([3]), "culture", "c0ffee")
    ways = [Batches(data, 3, 1, use("pet"), num_processes=number, prepare=PREPARE) for number in (0, 1)]
    (here,), (there,) = (list(way.train(1)) for way in ways)
    augment_pool.discard_pool()
    assert here[1].shape == (3, 4, 128, 128) and here[1][:, 0].max() > 3
    for one, other in zip(here, there, strict=True):
        assert torch.equal(one, other)


def test_instances_move_with_their_image_and_keep_their_numbers() -> None:
    labels = np.zeros((64, 64), np.uint16)
    labels[::4, ::4] = np.arange(300, 556).reshape(16, 16)
    image = np.repeat((labels > 0).astype(np.uint8)[..., None] * 255, 3, axis=2)
    augment = make_augment(use("flip", p=1.0), 64)
    assert augment is not None
    made, moved = augment(image, labels, 0)
    np.testing.assert_array_equal(moved, labels[:, ::-1])
    np.testing.assert_array_equal(made[..., 0] > 0, moved > 0)


def test_an_instance_in_two_parts_stays_one_when_it_is_mirrored() -> None:
    labels = np.zeros((64, 64), np.uint16)
    labels[10:30, 4:20], labels[10:30, 26:40] = 1, 1  # a person behind a pole
    augment = make_augment(use("flip", p=1.0), 64)
    assert augment is not None
    _, moved = augment(np.zeros((64, 64, 3), np.uint8), labels, 0)
    assert np.unique(moved).tolist() == [0, 1]


def test_the_same_seed_moves_instances_the_same_whatever_came_before() -> None:
    one, other = make_augment(use("pet"), 128), make_augment(use("pet"), 128)
    assert one and other
    one(*culture(5), 99)
    for first, second in zip(one(*culture(), 3), other(*culture(), 3), strict=True):
        np.testing.assert_array_equal(first, second)
