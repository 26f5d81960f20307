"""Batches of bytes from the cache, augmented ahead of the training step."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from tuner.data import augment_pool
from tuner.data.augment import item_seed, make_augment
from tuner.data.cache import CachedDataset, map_ahead
from tuner.recipe import Part
from tuner.registry import find_builder

PREFETCH = 3  # batches prepared ahead of the consumer
MIN_SECONDS_FOR_POOL = 3e-4  # per image; below, processes cost more than they gain
Batch = tuple[Tensor, Tensor]  # uint8 images (number, height, width, 3) and their targets, on the host
T = TypeVar("T")
log = logging.getLogger("tuner")


@dataclass(frozen=True)
class Batches:
    """The order and augmentation of a trial's data; both depend only on (seed, epoch, item).

    So an epoch can be entered at any step, and any number of threads or processes gives the same batches. With
    `copies`, an epoch is every original unchanged plus that many augmented copies, shuffled together; without, the
    originals themselves are augmented.
    """

    data: CachedDataset
    batch_size: int
    seed: int
    augment: Part = Part("none")
    num_threads: int = 1
    pin: bool = False  # use page-locked memory, for asynchronous copies to a GPU
    copies: int = 0
    num_processes: int | None = None  # None: decided by measurement
    prepare: str = ""  # "module:function" applied to the targets of each batch

    def num_steps(self) -> int:
        return len(self.split_items(range(len(self.data.train) * (1 + self.copies)), joined=True))

    def num_val_steps(self) -> int:
        return len(self.split_items(range(len(self.data.val))))

    def train(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        """Yield the shuffled, augmented training batches of an epoch, from `first_step` on."""
        number = len(self.data.train)
        order = np.random.default_rng([self.seed, epoch]).permutation(number * (1 + self.copies))
        items = [(int(self.data.train[at % number]), int(at // number)) for at in order]
        yield from self.prefetch([(chunk, epoch) for chunk in self.split_items(items, joined=True)[first_step:]])

    def val(self) -> Iterator[Batch]:
        """Yield the validation batches, in order and unchanged."""
        items = [(int(at), 0) for at in self.data.val]
        yield from self.prefetch([(chunk, None) for chunk in self.split_items(items)])

    def val_batch(self, at: int) -> Batch:
        """Return a batch of one validation image, by its position."""
        return self.make_batch([(int(self.data.val[at]), 0)], None)

    def split_items(self, items: Sequence[T], joined: bool = False) -> list[Sequence[T]]:
        """Split items into batches, in order.

        With `joined`, a single left-over image is added to the last batch: the batch norm of a small feature map
        cannot be trained on one value.
        """
        starts = list(range(0, len(items), self.batch_size))
        if joined and len(starts) > 1 and self.batch_size > 1 and len(items) - starts[-1] == 1:
            starts.pop()
        return [items[at:end] for at, end in zip(starts, [*starts[1:], len(items)], strict=True)]

    def prefetch(self, jobs: list[tuple[augment_pool.Items, int | None]]) -> Iterator[Batch]:
        """Run the jobs in threads, a few batches ahead of the consumer, and yield their results in order."""
        helpers = self.pool_size if any(epoch is not None for _, epoch in jobs) else 0
        if helpers:
            augment_pool.start_pool(helpers)  # before the threads start, so that only one starts the pool
        num_threads = max(self.num_threads, helpers)
        return map_ahead(lambda job: self.make_batch(*job), jobs, num_threads, PREFETCH + helpers)

    def make_batch(self, items: augment_pool.Items, epoch: int | None) -> Batch:
        """Return a batch from the cache as tensors, augmented where `epoch` is given."""
        images, targets = self.make_arrays(items, epoch)
        if self.prepare:
            targets = find_builder("preparation", {}, self.prepare)(targets)
        batch = torch.from_numpy(images), torch.from_numpy(targets)
        return (batch[0].pin_memory(), batch[1].pin_memory()) if self.pin else batch

    def make_arrays(self, items: augment_pool.Items, epoch: int | None) -> augment_pool.Arrays:
        """Augment in the pool where it is running, else, or where it broke, in this thread."""
        part = json.dumps(self.augment.to_json())
        request = augment_pool.BatchRequest(*self.array_files, part, self.seed, epoch, items, self.copies)
        if epoch is not None and self.pool_size and augment_pool.start_pool(self.pool_size).done():
            try:
                pool = augment_pool.get_pool(self.pool_size)
                return pool.submit(augment_pool.run_request, request).result()
            except (BrokenProcessPool, FileNotFoundError) as error:
                self.disable_pool(error)
        return augment_pool.augment_batch(self.data.images, self.data.targets, request)

    @property
    def array_files(self) -> tuple[str, str]:
        """Return the files of the arrays, for another process to map; empty strings for arrays in memory."""
        images, targets = (getattr(each, "filename", "") for each in (self.data.images, self.data.targets))
        return str(images or ""), str(targets or "")

    @cached_property
    def pool_size(self) -> int:
        """The number of augmentation processes; none on a CPU, since training uses every core itself."""
        if not all(self.array_files):
            return 0
        if self.num_processes is not None:
            return self.num_processes
        return (
            augment_pool.num_spare_cores() if self.pin and self.seconds_per_image() > MIN_SECONDS_FOR_POOL else 0
        )

    def seconds_per_image(self) -> float:
        """Measure the time to augment an image; the first call, which loads libraries, is not counted."""
        augment = make_augment(self.augment, self.data.images.shape[1])
        if augment is None:
            return 0.0
        image, target = (np.array(each[self.data.train[0]]) for each in (self.data.images, self.data.targets))
        taken = []
        for number in range(8):  # different seeds: transforms are applied with a probability
            began = time.perf_counter()
            augment(image, target, item_seed(self.seed, 0, number))
            taken.append(time.perf_counter() - began)
        return float(np.mean(taken[1:]))

    def disable_pool(self, error: Exception) -> None:
        """Continue without processes; this process makes the same batches."""
        if self.pool_size:
            log.warning(
                "augmentation processes ended (%s): augmenting in the training process from here on", error
            )
            augment_pool.discard_pool()
            object.__setattr__(self, "pool_size", 0)
