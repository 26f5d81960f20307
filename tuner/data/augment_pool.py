"""A pool of processes that augment images while a GPU trains.

Threads are not enough: half of the work on a small image holds Python's lock, which would delay the thread that
feeds the GPU. The processes are started once and serve one trial after the other. They map the files of the cache
themselves and exit with their parent, however it ends.
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

MAX_PROCESSES = 4  # at a thousand images a second each, more than a GPU can use
RESERVED_CORES = 2  # for the training loop and for writing results
PARENT_CHECK_SECONDS = 1.0  # between checks whether the parent process is alive
Items = Sequence[tuple[int, int]]  # (index in the cache, copy); with several copies, copy 0 is the original
Arrays = tuple[Image, NDArray[Any]]
LOCAL = threading.local()


@dataclass(frozen=True)
class BatchRequest:
    """A batch to augment, in values that can be sent to another process."""

    images: str
    targets: str
    part: str  # as JSON
    seed: int
    epoch: int | None  # None: no augmentation
    items: Items
    copies: int


def num_spare_cores() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(0, min(MAX_PROCESSES, cores - RESERVED_CORES))


@functools.lru_cache(maxsize=1)
def get_pool(number: int) -> ProcessPoolExecutor:
    """Return the pool, started on first use; spawned, because a GPU may already be in use in this process."""
    return ProcessPoolExecutor(number, get_context("spawn"), initializer=init_worker, initargs=(os.getpid(),))


@functools.lru_cache(maxsize=1)
def start_pool(number: int) -> Future[int]:
    """Start the pool; the future is done when its first process runs, which takes seconds."""
    return get_pool(number).submit(os.getpid)


def discard_pool() -> None:
    """Forget a broken pool; the next call of `get_pool` starts a new one."""
    start_pool.cache_clear()
    get_pool.cache_clear()


def init_worker(parent: int) -> None:
    """Set up a pool process: ignore Ctrl-C, exit with the parent, import the library before the first batch."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=exit_with_parent, args=(parent,), daemon=True).start()
    cv2.setNumThreads(1)
    import_albumentations()


def exit_with_parent(parent: int) -> None:
    """Exit when the parent has exited; waiting on the queue alone would never end."""
    while os.getppid() == parent:
        time.sleep(PARENT_CHECK_SECONDS)
    os._exit(0)


def run_request(request: BatchRequest) -> Arrays:
    """Augment one batch, in a pool process."""
    return augment_batch(open_array(request.images), open_array(request.targets), request)


@functools.lru_cache(maxsize=4)
def open_array(path: str) -> NDArray[Any]:
    return np.load(path, mmap_mode="r")


def augment_batch(images: NDArray[Any], targets: NDArray[Any], request: BatchRequest) -> Arrays:
    """Copy items out of the cache and augment them; with `copies`, copy 0 of an item is left unchanged."""
    indices = [index for index, _ in request.items]
    pictures, truths = np.asarray(images[indices]), np.asarray(targets[indices])
    if request.epoch is not None and (augment := thread_augment(request.part, images.shape[1])):
        for at, (index, copy) in enumerate(request.items):
            if copy or not request.copies:
                seed = item_seed(request.seed, request.epoch, index, copy)
                pictures[at], truths[at] = augment(pictures[at], truths[at], seed)
    return pictures, truths


def thread_augment(part: str, size: int) -> Augment | None:
    """Return the augmentation of this thread: it keeps state between calls."""
    if getattr(LOCAL, "made_for", None) != (part, size):
        LOCAL.made_for, LOCAL.augment = (part, size), make_augment(Part(**json.loads(part)), size)
    augment: Augment | None = LOCAL.augment
    return augment
