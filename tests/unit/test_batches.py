"""Batches depend on (seed, epoch, item) only: not on threads, processes, or where an epoch is entered."""

from __future__ import annotations

import hashlib
import multiprocessing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tuner.data.batches import Batch, Batches
from tuner.data.cache import Cached, cached
from tuner.data.shapes import shapes
from tuner.recipe import Part, use


def batches(data: Cached, seed: int = 5, num_threads: int = 1, augment: Part | None = None) -> Batches:
    return Batches(data, 7, seed, augment or use("flip"), num_threads)


def digest(epoch: list[Batch]) -> str:
    whole = hashlib.sha256()
    for images, targets in epoch:
        whole.update(images.numpy().tobytes() + targets.numpy().tobytes())
    return whole.hexdigest()


def digests_in_a_process(folder: str, num_threads: int) -> list[str]:
    """Three epochs, as another process sees them. At module level: a spawned process imports it."""
    data = cached(shapes(), "batches", 16, Path(folder))
    made = Batches(data, 7, 5, use("flip"), num_threads)
    return [digest(list(made.train(epoch))) for epoch in (1, 2, 3)]


def rows(data: Cached) -> dict[bytes, int]:
    """Which item a picture is, flipped or not."""
    found = {data.images[at].tobytes(): at for at in range(len(data.images))}
    return found | {data.images[at][:, ::-1].tobytes(): at for at in range(len(data.images))}


def test_an_epoch_has_every_training_item_once_and_no_other(toy_data: Cached) -> None:
    known = rows(toy_data)
    seen = [known[image.numpy().tobytes()] for images, _ in batches(toy_data).train(1) for image in images]
    assert sorted(seen) == toy_data.train.tolist() and seen != sorted(seen)


def test_a_target_stays_with_its_image_and_is_flipped_with_it(toy_data: Cached) -> None:
    known, flipped = rows(toy_data), 0
    for images, targets in batches(toy_data).train(1):
        for image, target in zip(images.numpy(), targets.numpy(), strict=True):
            at = known[image.tobytes()]
            moved = not np.array_equal(image, toy_data.images[at])
            assert np.array_equal(target, toy_data.targets[at][:, ::-1] if moved else toy_data.targets[at])
            flipped += moved
    assert 0 < flipped < len(toy_data.train)


def test_the_number_of_steps_is_told_and_the_last_batch_may_be_smaller(toy_data: Cached) -> None:
    for size in (1, 7, len(toy_data.train), 1000):
        made = replace(batches(toy_data), batch_size=size)
        sizes = [len(images) for images, _ in made.train(1)]
        assert len(sizes) == made.num_steps() and sum(sizes) == len(toy_data.train)
        assert all(number == size for number in sizes[:-1]) and 0 < sizes[-1] <= size


def test_validation_is_in_order_and_as_it_is(toy_data: Cached) -> None:
    images = torch.cat([images for images, _ in batches(toy_data).val()])
    targets = torch.cat([targets for _, targets in batches(toy_data).val()])
    assert np.array_equal(images.numpy(), toy_data.images[toy_data.val])
    assert np.array_equal(targets.numpy(), toy_data.targets[toy_data.val])


def test_epochs_and_seeds_differ_and_repeat(toy_data: Cached) -> None:
    seen = {digest(list(batches(toy_data, seed).train(epoch))) for seed in (5, 6) for epoch in (1, 2)}
    assert len(seen) == 4 and digest(list(batches(toy_data, 6).train(2))) in seen


def test_an_epoch_can_be_entered_at_any_step(toy_data: Cached) -> None:
    whole = list(batches(toy_data).train(3))
    for step in range(len(whole) + 1):
        assert digest(list(batches(toy_data).train(3, step))) == digest(whole[step:])


@pytest.mark.parametrize("threads", [2, 4])
def test_any_number_of_threads_gives_the_same(toy_data: Cached, threads: int) -> None:
    for epoch in (1, 2):
        assert digest(list(batches(toy_data, num_threads=threads).train(epoch))) == digest(
            list(batches(toy_data).train(epoch))
        )


@pytest.mark.slow
def test_four_processes_see_the_same_as_one(tmp_path: Path) -> None:
    alone = digests_in_a_process(str(tmp_path), 1)
    assert len(set(alone)) == 3
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        assert (
            pool.starmap(digests_in_a_process, [(str(tmp_path), threads) for threads in (1, 4, 1, 4)])
            == [alone] * 4
        )


def test_an_epoch_left_early_can_be_left(toy_data: Cached) -> None:
    epoch = batches(toy_data, num_threads=2).train(1)
    next(epoch)
    epoch.close()
    assert next(batches(toy_data).train(1))[0].shape == (7, 32, 32, 3)


def test_training_never_writes_into_the_cache(toy_data: Cached) -> None:
    before = np.array(toy_data.images).sum(), np.array(toy_data.targets).sum()
    for images, targets in batches(toy_data).train(1):
        images.zero_(), targets.zero_()
    assert (np.array(toy_data.images).sum(), np.array(toy_data.targets).sum()) == before


def test_without_augmentation_items_come_as_they_are(toy_data: Cached) -> None:
    plain = {toy_data.images[at].tobytes() for at in toy_data.train}
    seen = [i.numpy().tobytes() for images, _ in batches(toy_data, augment=use("none")).train(1) for i in images]
    assert set(seen) == plain
