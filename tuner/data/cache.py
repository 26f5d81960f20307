"""The decoded cache: every image of a dataset once, resized, as memory-mapped bytes.

An entry is a folder named by the fingerprint of the data and the image size. It is built in a temporary folder
under a lock and then renamed, so an existing entry is complete. All trials and workers share it.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import cv2
import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from tuner.console import ProgressCallback
from tuner.data.image_groups import likeness_groups, name_groups
from tuner.data.images import decoding, decoding_threads, resize_image
from tuner.data.source import TARGET_TYPES, Image, Item, Source, Target
from tuner.deprecated import renamed_names
from tuner.errors import writing

VERSION = 2  # of the file format and of the resizing
ARRAYS = ("images.npy", "targets.npy")
LISTING = "entry.json"
PREFETCH = 16  # images decoded before they are written; bounds the memory
GIGABYTE = 10**9
DEFAULT_GB = 20.0
T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class CachedDataset:
    """The arrays of one dataset at one size, read-only; `train` and `val` are indices into them."""

    images: NDArray[np.uint8]  # number x size x size x 3
    targets: NDArray[np.uint8] | NDArray[np.uint16] | NDArray[np.int64]  # masks, labels, instances, or classes
    keys: tuple[str, ...]
    train: NDArray[np.int64]
    val: NDArray[np.int64]
    name: str
    fingerprint: str
    classes: tuple[str, ...] = ()  # empty for masks

    def shares(self) -> list[float]:
        """Return each class's share of the training targets: of their pixels, or of the images.

        Masks and instances have two classes, background and object; ignored pixels are not counted.
        """
        return list(self._class_shares)

    @cached_property
    def _class_shares(self) -> tuple[float, ...]:
        """The result of `shares`, counted once and target by target: the array may be larger than memory."""
        number = len(self.classes) or 2
        counts = np.zeros(number, np.int64)
        for at in self.train:
            target = np.ravel(self.targets[at])
            counts += np.bincount(target > 0 if target.dtype == np.uint16 else target, minlength=number)[:number]
        return tuple((counts / max(1, counts.sum())).tolist())

    @cached_property
    def val_groups(self) -> dict[str, list[int]]:
        """The groups of validation images that belong together, by names and by likeness.

        Names of classified images often tell the class, so they form no groups.
        """
        groups = {"likeness": likeness_groups([self.images[at] for at in self.val])}
        if self.targets.ndim > 1:
            groups["names"] = name_groups([self.keys[at] for at in self.val])
        return groups


def load_cached(
    source: Source,
    fingerprint: str,
    size: int,
    folder: Path,
    *,
    most_gb: float = DEFAULT_GB,
    progress: ProgressCallback | None = None,
) -> CachedDataset:
    """Return the cache entry of `source` at `size`, built on first use, without the test split.

    A source of label maps without class names must already have the classes that its survey found.
    """
    entry = folder / f"{fingerprint}-{size}-v{VERSION}"
    while True:
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            if not is_complete(entry):
                with hold_lock(FileLock(f"{entry}.lock"), progress):
                    if not is_complete(entry):
                        build_entry(source, size, entry, progress)
                        evict_entries(folder, most_gb, keep=entry)
        try:
            os.utime(entry)  # evict_entries removes the least recently used
            return open_entry(entry, source, fingerprint)
        except FileNotFoundError:
            continue  # evicted by another worker between the check and the opening


def hold_lock(lock: FileLock, progress: ProgressCallback | None) -> AbstractContextManager[Any]:
    """Acquire a lock; while waiting, report progress every second, since another worker may build for minutes."""
    while True:
        try:
            return lock.acquire(timeout=1)
        except Timeout:
            if progress:
                progress(0, 0)


def is_complete(entry: Path) -> bool:
    """Check that every file exists and has its full length: a power failure can truncate one."""
    try:
        lengths = json.loads((entry / LISTING).read_text())["bytes"]
        return all((entry / name).stat().st_size == lengths[name] for name in ARRAYS)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def build_entry(source: Source, size: int, entry: Path, progress: ProgressCallback | None) -> None:
    """Decode and resize in parallel, write in order, rename when complete."""
    for left in entry.parent.glob(f".{entry.name}.*"):
        shutil.rmtree(left, ignore_errors=True)  # of a killed builder: we hold the lock, so it is not in use
    aside = entry.with_name(f".{entry.name}.{os.getpid()}")
    aside.mkdir()
    items = source.split("train", "val")
    try:
        write_arrays(aside, source, items, size, progress)
        shutil.rmtree(entry, ignore_errors=True)  # an older, incomplete entry
        aside.rename(entry)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def map_ahead(work: Callable[[T], R], jobs: Iterable[T], num_threads: int | None, ahead: int) -> Iterator[R]:
    """Yield the result of each job in order, computed in threads at most `ahead` jobs before it is needed."""
    with decoding_threads(num_threads) as pool:
        waiting: deque[Future[R]] = deque()
        try:
            for job in jobs:
                waiting.append(pool.submit(work, job))
                if len(waiting) > ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)  # the consumer failed or stopped


def write_arrays(
    aside: Path, source: Source, items: tuple[Item, ...], size: int, progress: ProgressCallback | None
) -> None:
    """Write the arrays as plain files: with a memory map, a full disk would be a bus error."""
    number, kind = len(items), TARGET_TYPES[source.targets]
    pairs = map_ahead(lambda item: read_small(source, item, size), items, os.cpu_count(), PREFETCH)
    with (aside / "images.npy").open("wb") as images, (aside / "targets.npy").open("wb") as targets:
        write_header(images, (number, size, size, 3), "|u1")
        write_header(targets, (number,) if source.targets == "classes" else (number, size, size), kind)
        for done, (image, target) in enumerate(pairs, start=1):
            images.write(image.tobytes())
            targets.write(np.asarray(target, kind).tobytes())
            if progress:
                progress(done, number)
    listing = {
        "keys": [item.key for item in items],
        "splits": [item.split for item in items],
        "bytes": {name: (aside / name).stat().st_size for name in ARRAYS},
    }
    (aside / LISTING).write_text(json.dumps(listing))


def write_header(file: BinaryIO, shape: tuple[int, ...], kind: str) -> None:
    header = {"descr": kind, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)


def read_small(source: Source, item: Item, size: int) -> tuple[Image, Target]:
    """Return the image and target of an item at a size; the large ones are gone before others are decoded."""
    with decoding(item):
        return resize_pair(*source.read(item), size)


def resize_pair(image: Image, target: Target, size: int) -> tuple[Image, Target]:
    """Resize to a square of `size`: images by area when shrinking, masks by nearest neighbour."""
    small = resize_image(image, size)
    if isinstance(target, int):
        return small, target
    nearest = cv2.resize(target, (size, size), interpolation=cv2.INTER_NEAREST_EXACT)
    return small, nearest.astype(target.dtype)


def open_entry(entry: Path, source: Source, fingerprint: str) -> CachedDataset:
    listing = json.loads((entry / LISTING).read_text())
    splits = np.asarray(listing["splits"])
    return CachedDataset(
        images=np.load(entry / "images.npy", mmap_mode="r"),
        targets=np.load(entry / "targets.npy", mmap_mode="r"),
        keys=tuple(listing["keys"]),
        train=np.flatnonzero(splits == "train"),
        val=np.flatnonzero(splits == "val"),
        name=source.name,
        fingerprint=fingerprint,
        classes=source.classes,
    )


def evict_entries(folder: Path, most_gb: float, keep: Path) -> None:
    """Delete the least recently used entries until the rest fits. Mapped files live on until closed."""
    entries = filter(is_complete, folder.glob("[!.]*"))  # names with a dot are being built
    found = sorted((*measure_entry(entry), entry) for entry in entries)
    total = sum(size for _, size, _ in found)
    for _, size, entry in found:
        if total <= most_gb * GIGABYTE:
            break
        if entry == keep:
            continue
        with suppress(Timeout), FileLock(f"{entry}.lock", timeout=0):  # else built or evicted by another worker
            shutil.rmtree(entry, ignore_errors=True)
            total -= size
    remove_leftovers(folder)


def measure_entry(entry: Path) -> tuple[float, int]:
    """Return when an entry was last used and its bytes; zeros for one that another worker is deleting."""
    try:
        return entry.stat().st_mtime, sum((entry / name).stat().st_size for name in ARRAYS)
    except FileNotFoundError:
        return 0.0, 0


def remove_leftovers(folder: Path) -> None:
    """Remove temporary folders that a killed builder left more than a day ago."""
    for aside in folder.glob(".*-v*.*"):
        with suppress(FileNotFoundError):  # renamed in the meantime
            if time.time() - aside.stat().st_mtime > 86_400:
                shutil.rmtree(aside, ignore_errors=True)


__getattr__ = renamed_names(__name__)
