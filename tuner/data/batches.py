"""Batches of bytes from the cache, augmented ahead of the training step that wants them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tuner.data.augment import Augment, augmenter, item_seed
from tuner.data.cache import Cached
from tuner.recipe import Part

AHEAD = 3  # batches prepared before they are asked for
Batch = tuple[Tensor, Tensor]  # uint8 images (number, height, width, 3) and their targets, on the host


@dataclass(frozen=True)
class Batches:
    """The order and augmentation of a trial's data; both depend on (seed, epoch, item) only.

    So an epoch can be entered at any step, and any number of threads gives the same batches.
    """

    data: Cached
    batch_size: int
    seed: int
    augment: Part = Part("none")
    num_threads: int = 1
    pin: bool = False  # page-locked memory, for copies to a GPU that nobody waits for

    def num_steps(self) -> int:
        return -(-len(self.data.train) // self.batch_size)

    def train(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        """The shuffled, augmented training batches of an epoch, from `first_step` on."""
        order = np.random.default_rng([self.seed, epoch]).permutation(self.data.train)
        chunks = np.array_split(order, range(self.batch_size, len(order), self.batch_size))
        yield from self.prepared([(chunk, epoch) for chunk in chunks[first_step:]])

    def val(self) -> Iterator[Batch]:
        """The validation batches: in order, as they are."""
        order = self.data.val
        chunks = np.array_split(order, range(self.batch_size, len(order), self.batch_size))
        yield from self.prepared([(chunk, None) for chunk in chunks])

    def prepared(self, jobs: list[tuple[NDArray[np.int64], int | None]]) -> Iterator[Batch]:
        """Run the jobs a few batches ahead of the consumer, in order."""
        mine = threading.local()  # augmenters keep state: one a thread
        with ThreadPoolExecutor(self.num_threads) as pool:
            waiting: list[Future[Batch]] = []
            for job in jobs:
                waiting.append(pool.submit(self.one, mine, *job))
                if len(waiting) > AHEAD:
                    yield waiting.pop(0).result()
            while waiting:
                yield waiting.pop(0).result()

    def one(self, mine: threading.local, indices: NDArray[np.int64], epoch: int | None) -> Batch:
        """Copy a batch out of the cache and augment it."""
        images, targets = self.data.images[indices], self.data.targets[indices]
        if epoch is not None and (augment := self.augmenter_of(mine)):
            for at, index in enumerate(indices):
                images[at], targets[at] = augment(images[at], targets[at], item_seed(self.seed, epoch, int(index)))
        batch = torch.from_numpy(images), torch.from_numpy(targets)
        return (batch[0].pin_memory(), batch[1].pin_memory()) if self.pin else batch

    def augmenter_of(self, mine: threading.local) -> Augment | None:
        if not hasattr(mine, "augment"):
            mine.augment = augmenter(self.augment, self.data.images.shape[1])
        augment: Augment | None = mine.augment
        return augment
