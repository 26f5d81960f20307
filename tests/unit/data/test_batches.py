"""Batches depend on (seed, epoch, item) only: not on threads, processes, or where an epoch is entered."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from helpers.batch_digests import digest, digest_epochs
from helpers.fork_server import start_python

from tuner.data import augment_pool
from tuner.data.batches import Batches
from tuner.data.cache import CachedDataset
from tuner.recipe import Part, use

TESTS = Path(__file__).parents[2]


def batches(data: CachedDataset, seed: int = 5, num_threads: int = 1, augment: Part | None = None) -> Batches:
    return Batches(data, 7, seed, augment or use("flip"), num_threads)


def rows(data: CachedDataset) -> dict[bytes, int]:
    """Which item a picture is, flipped or not."""
    found = {data.images[at].tobytes(): at for at in range(len(data.images))}
    return found | {data.images[at][:, ::-1].tobytes(): at for at in range(len(data.images))}


def test_an_epoch_has_every_training_item_once_and_no_other(toy_data: CachedDataset) -> None:
    known = rows(toy_data)
    seen = [known[image.numpy().tobytes()] for images, _ in batches(toy_data).train(1) for image in images]
    assert sorted(seen) == toy_data.train.tolist() and seen != sorted(seen)


def test_a_target_stays_with_its_image_and_is_flipped_with_it(toy_data: CachedDataset) -> None:
    known, flipped = rows(toy_data), 0
    for images, targets in batches(toy_data).train(1):
        for image, target in zip(images.numpy(), targets.numpy(), strict=True):
            at = known[image.tobytes()]
            moved = not np.array_equal(image, toy_data.images[at])
            assert np.array_equal(target, toy_data.targets[at][:, ::-1] if moved else toy_data.targets[at])
            flipped += moved
    assert 0 < flipped < len(toy_data.train)


def test_the_number_of_steps_is_told_and_the_last_batch_may_be_smaller(toy_data: CachedDataset) -> None:
    for size in (1, 7, len(toy_data.train), 1000):
        made = replace(batches(toy_data), batch_size=size)
        sizes = [len(images) for images, _ in made.train(1)]
        assert len(sizes) == made.num_steps() and sum(sizes) == len(toy_data.train)
        assert all(number == size for number in sizes[:-1]) and 0 < sizes[-1] <= size


def test_validation_is_in_order_and_as_it_is(toy_data: CachedDataset) -> None:
    images = torch.cat([images for images, _ in batches(toy_data).val()])
    targets = torch.cat([targets for _, targets in batches(toy_data).val()])
    assert np.array_equal(images.numpy(), toy_data.images[toy_data.val])
    assert np.array_equal(targets.numpy(), toy_data.targets[toy_data.val])


def test_epochs_and_seeds_differ_and_repeat(toy_data: CachedDataset) -> None:
    seen = {digest(list(batches(toy_data, seed).train(epoch))) for seed in (5, 6) for epoch in (1, 2)}
    assert len(seen) == 4 and digest(list(batches(toy_data, 6).train(2))) in seen


def test_an_epoch_can_be_entered_at_any_step(toy_data: CachedDataset) -> None:
    whole = list(batches(toy_data).train(3))
    for step in range(len(whole) + 1):
        assert digest(list(batches(toy_data).train(3, step))) == digest(whole[step:])


@pytest.mark.parametrize("threads", [2, 4])
def test_any_number_of_threads_gives_the_same(toy_data: CachedDataset, threads: int) -> None:
    for epoch in (1, 2):
        assert digest(list(batches(toy_data, num_threads=threads).train(epoch))) == digest(
            list(batches(toy_data).train(epoch))
        )


def test_four_processes_see_the_same_as_one(tmp_path: Path) -> None:
    alone = digest_epochs(tmp_path, 1)
    assert len(set(alone)) == 3
    pipes: dict[str, Any] = {
        "stdout": subprocess.PIPE,
        "text": True,
        "env": {**os.environ, "PYTHONPATH": str(TESTS)},
    }
    others = [start_python("helpers.batch_digests", tmp_path, threads, **pipes) for threads in (1, 4, 1, 4)]
    assert [json.loads(process.communicate(timeout=120)[0]) for process in others] == [alone] * 4


def test_an_epoch_left_early_can_be_left(toy_data: CachedDataset) -> None:
    epoch = batches(toy_data, num_threads=2).train(1)
    next(epoch)
    epoch.close()
    assert next(batches(toy_data).train(1))[0].shape == (7, 32, 32, 3)


def test_training_never_writes_into_the_cache(toy_data: CachedDataset) -> None:
    before = np.array(toy_data.images).sum(), np.array(toy_data.targets).sum()
    for images, targets in batches(toy_data).train(1):
        images.zero_(), targets.zero_()
    assert (np.array(toy_data.images).sum(), np.array(toy_data.targets).sum()) == before


def test_without_augmentation_items_come_as_they_are(toy_data: CachedDataset) -> None:
    plain = {toy_data.images[at].tobytes() for at in toy_data.train}
    seen = [i.numpy().tobytes() for images, _ in batches(toy_data, augment=use("none")).train(1) for i in images]
    assert set(seen) == plain


def with_copies(data: CachedDataset, copies: int = 2, name: str = "pet") -> Batches:
    return replace(batches(data, augment=use(name)), copies=copies)


def test_an_epoch_with_copies_has_each_original_as_it_is_and_each_copy_its_own(toy_data: CachedDataset) -> None:
    made, number = with_copies(toy_data), len(toy_data.train)
    epoch = list(made.train(1))
    assert len(epoch) == made.num_steps() == 3 * number // 7  # the 57th image joins the batch before it
    images = [image.numpy().tobytes() for images, _ in epoch for image in images]
    originals = {toy_data.images[at].tobytes(): toy_data.targets[at] for at in toy_data.train}
    assert len(images) == 3 * number and len(set(images)) == 3 * number, "every copy has a seed of its own"
    places = [at for at, image in enumerate(images) if image in originals]
    assert len(places) == number and places != list(range(number)), "shuffled together"
    targets = [target.numpy() for _, targets in epoch for target in targets]
    assert all(np.array_equal(targets[at], originals[images[at]]) for at in places)


def test_an_epoch_with_copies_can_be_entered_at_any_step_and_made_by_any_number(toy_data: CachedDataset) -> None:
    whole = list(with_copies(toy_data).train(2))
    for step in range(0, len(whole) + 1, 3):
        assert digest(list(with_copies(toy_data).train(2, step))) == digest(whole[step:])
    assert digest(list(replace(with_copies(toy_data), num_threads=3).train(2))) == digest(whole)
    assert digest(list(with_copies(toy_data).train(3))) != digest(whole)


def test_validation_has_no_copies(toy_data: CachedDataset) -> None:
    assert digest(list(with_copies(toy_data).val())) == digest(list(batches(toy_data).val()))


def test_on_a_processor_training_has_every_core_to_itself(toy_data: CachedDataset) -> None:
    assert batches(toy_data, augment=use("pet")).pool_size == 0


def test_on_a_gpu_what_is_heavy_is_left_to_processes(
    toy_data: CachedDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(augment_pool, "num_spare_cores", lambda: 3)
    for augment, helpers in ((use("none"), 0), (use("pet"), 3)):
        made = replace(batches(toy_data, augment=augment), pin=True)
        monkeypatch.setattr("tuner.data.batches.MIN_SECONDS_FOR_POOL", 1e-6)
        assert made.pool_size == helpers
    monkeypatch.setattr("tuner.data.batches.MIN_SECONDS_FOR_POOL", 1.0)
    assert replace(batches(toy_data, augment=use("pet")), pin=True).pool_size == 0
    in_memory = replace(toy_data, images=np.array(toy_data.images))
    assert replace(batches(in_memory, augment=use("pet")), num_processes=2).pool_size == 0


@pytest.mark.slow
def test_processes_make_the_same_and_can_be_lost(
    toy_data: CachedDataset, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = [digest(list(with_copies(toy_data).train(epoch))) for epoch in (1, 2)]
    made = replace(with_copies(toy_data), num_processes=1)
    assert digest(list(made.train(1))) == alone[0], "before they are there"
    augment_pool.start_pool(1).result()
    here: list[int] = []
    real = augment_pool.augment_batch
    monkeypatch.setattr(augment_pool, "augment_batch", lambda *args: here.append(1) or real(*args))
    epoch = made.train(1)
    first = [next(epoch)]
    (helper,) = augment_pool.get_pool(1)._processes.values()
    assert digest([*first, *epoch]) == alone[0] and not caplog.records
    assert not here, "every batch was theirs"
    helper.kill()
    helper.join()
    assert digest(list(made.train(2))) == alone[1]
    assert "augmentation processes ended" in caplog.text and len(caplog.records) == 1
    assert digest(list(made.train(1))) == alone[0]


ALONE = """
import os, sys
from tuner.data import augment_pool
augment_pool.import_albumentations = int  # needs no loading here
if __name__ == "__main__":
    print(augment_pool.start_pool(1).result(), flush=True)
    os.kill(os.getpid(), 9)
"""


def test_no_process_outlives_the_one_it_serves(tmp_path: Path) -> None:
    script = tmp_path / "alone.py"
    script.write_text(ALONE)
    done = subprocess.run([sys.executable, script], stdout=subprocess.PIPE, text=True, timeout=60)
    helper = int(done.stdout)
    assert done.returncode == -9
    until = time.monotonic() + 20
    while psutil.pid_exists(helper) and psutil.Process(helper).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < until, "still there"
        time.sleep(0.05)


def test_one_image_left_over_joins_the_batch_before_it(toy_data: CachedDataset) -> None:
    """A batch norm over one pixel cannot be trained on a single image."""
    number = len(toy_data.train)
    sizes = [len(images) for images, _ in Batches(toy_data, number - 1, 0).train(1)]
    assert sizes == [number] and Batches(toy_data, number - 1, 0).num_steps() == 1
    assert [len(images) for images, _ in Batches(toy_data, 1, 0).train(1)] == [1] * number
    assert sum(len(images) for images, _ in Batches(toy_data, len(toy_data.val) - 1, 0).val()) == len(toy_data.val)
