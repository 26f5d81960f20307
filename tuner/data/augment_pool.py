"""Processes that augment beside a training on a GPU.

Threads would not do: half of the work on a small image is Python's own, and they would hold up the one
thread that keeps the GPU busy. The processes are started once and serve one trial after the other;
they map the cache's files themselves, and end with the process they serve, however that ends.
"""

from __future__ import annotations

import functools
import json
import os
import signal
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from tuner.data.augment import Augment, import_albumentations, item_seed, make_augment
from tuner.data.source import Image
from tuner.recipe import Part

MAX_PROCESSES = 4  # processes: a thousand times a second each is more than a GPU takes
RESERVED_CORES = 2  # for the training itself, and for writing what it gives
PARENT_CHECK_SECONDS = 1.0  # seconds between looks at whether the process served is there
Items = Sequence[tuple[int, int]]  # (where it lies in the cache, which copy); copy 0 of several is the original
Arrays = tuple[Image, NDArray[Any]]


@dataclass(frozen=True)
class BatchRequest:
    """A batch to be made, with nothing in it that a process could not be sent."""

    images: str
    targets: str
    part: str
    seed: int
    epoch: int
    items: Items
    copies: int


def num_spare_cores() -> int:
    """How many processes this host has cores for."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(0, min(MAX_PROCESSES, cores - RESERVED_CORES))


@functools.lru_cache(maxsize=1)
def get_pool(number: int) -> ProcessPoolExecutor:
    """The processes; started when first needed, and anew rather than forked: a GPU may be in use already."""
    return ProcessPoolExecutor(number, get_context("spawn"), initializer=init_worker, initargs=(os.getpid(),))


@functools.lru_cache(maxsize=1)
def start_pool(number: int) -> Future[int]:
    """Done when the first process is there; until then, seconds, training makes its batches itself."""
    return get_pool(number).submit(os.getpid)


def discard_pool() -> None:
    """The processes are lost; whoever asks next gets new ones."""
    start_pool.cache_clear()
    get_pool.cache_clear()


def init_worker(parent: int) -> None:
    """In each process: Ctrl-C is for the one it serves. The library is loaded before any work is taken."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=exit_with_parent, args=(parent,), daemon=True).start()
    cv2.setNumThreads(1)
    import_albumentations()


def exit_with_parent(parent: int) -> None:
    """End when the parent has ended: a queue alone would be waited on for ever."""
    while os.getppid() == parent:
        time.sleep(PARENT_CHECK_SECONDS)
    os._exit(0)


def run_request(order: BatchRequest) -> Arrays:
    """In each process: make the batch."""
    images, targets = open_array(order.images), open_array(order.targets)
    augment = cached_augment(order.part, images.shape[1])
    return augment_batch(images, targets, augment, order.items, order.seed, order.epoch, order.copies)


def part_to_json(part: Part) -> str:
    return json.dumps(part.to_json())


@functools.lru_cache(maxsize=4)
def open_array(path: str) -> NDArray[Any]:
    return np.load(path, mmap_mode="r")


@functools.lru_cache(maxsize=4)
def cached_augment(part: str, size: int) -> Augment | None:
    return make_augment(Part(**json.loads(part)), size)


def augment_batch(
    images: NDArray[Any],
    targets: NDArray[Any],
    augment: Augment | None,
    items: Items,
    seed: int,
    epoch: int,
    copies: int,
) -> Arrays:
    """Copy items out of the cache and augment them; of an item with copies, the original stays as it is."""
    indices = [index for index, _ in items]
    pictures, truths = np.asarray(images[indices]), np.asarray(targets[indices])
    if augment:
        for at, (index, copy) in enumerate(items):
            if copy or not copies:
                pictures[at], truths[at] = augment(pictures[at], truths[at], item_seed(seed, epoch, index, copy))
    return pictures, truths
