"""The items of a dataset with their splits, and how to read one."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tuner.deprecated import renamed_names
from tuner.errors import DataError
from tuner.registry import BETWEEN_0_AND_1

Image = NDArray[np.uint8]  # height x width x 3
InstanceMap = NDArray[np.uint16]
Target = Image | InstanceMap | int  # height x width of mask values, class or instance numbers; or one class
IGNORED = 255  # label of pixels that are not counted
SPLITS = ("train", "val", "test")
SPLIT_NAMES = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}  # folder names


@dataclass(frozen=True)
class Item:
    """One example. Generated examples have no files; for classification the target is a class number.

    `content` is a hash of a target that is part of a larger file; `named` is the number of its annotations.
    """

    key: str
    split: str
    image: Path | None = None
    target: Path | int | None = None
    content: str = ""
    named: int = 0


@dataclass(frozen=True)
class Source:
    """A dataset: `read` returns the image and target of an item.

    `targets` is "masks", "labels", "classes" or "instances". `revision` identifies the content of generated data.
    `reading` identifies what `read` derives from the files where that is not the plain content. Label maps without
    class names have no `classes` until the survey. `remarks` say what was ignored.
    """

    name: str
    where: str
    targets: str
    items: tuple[Item, ...]
    read: Callable[[Item], tuple[Image, Target]]
    classes: tuple[str, ...] = ()
    revision: str = ""
    reading: str = ""
    remarks: tuple[str, ...] = ()

    def split(self, *names: str) -> tuple[Item, ...]:
        return tuple(item for item in self.items if item.split in names)

    def counts(self) -> str:
        """Return the size of each split, such as '262 train, 66 val'."""
        return ", ".join(f"{len(self.split(name))} {name}" for name in SPLITS if self.split(name))


def hold_out(items: tuple[Item, ...], fraction: float, seed: int) -> tuple[Item, ...]:
    """Move about `fraction` of the training items to "val", each by a hash of its name and the seed.

    Adding files moves no other item. An empty split gets the nearest item.
    """
    if wrong := fraction_problem(fraction):
        raise DataError(wrong)
    train = sorted((hash_fraction(item.key, seed), item.key) for item in items if item.split == "train")
    if len(train) < 2 or any(item.split == "val" for item in items):
        return items
    chosen = {key for at, key in train if at < fraction} or {train[0][1]}
    if len(chosen) == len(train):
        chosen.remove(train[-1][1])
    return move_to_val(items, chosen)


def hold_out_per_class(items: tuple[Item, ...], fraction: float, seed: int) -> tuple[Item, ...]:
    """Hold out items of each class separately, so that a class with two images is in both splits.

    Where every class has one image, some classes are left without training images.
    """
    counted = Counter(item.target for item in items if item.split == "train")
    if max(counted.values(), default=0) < 2 or any(item.split == "val" for item in items):
        return hold_out(items, fraction, seed)
    groups = [tuple(item for item in items if item.target == target) for target in counted]
    held = [item for group in groups for item in hold_out(group, fraction, seed)]
    return move_to_val(items, {item.key for item in held if item.split == "val"})


def move_to_val(items: tuple[Item, ...], keys: set[str]) -> tuple[Item, ...]:
    return tuple(
        replace(item, split="val") if item.split == "train" and item.key in keys else item for item in items
    )


def fraction_problem(fraction: object) -> str:
    """Return what is wrong with a validation fraction, or ""."""
    if fraction in BETWEEN_0_AND_1:
        return ""
    return f"val is {fraction!r}; a fraction of the images is needed, between 0 and 1, such as 0.2."


def hash_fraction(key: str, seed: int) -> float:
    """Return a number in [0, 1) that depends only on the item's name and the seed."""
    digest = hashlib.blake2b(f"{seed}:{key}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


__getattr__ = renamed_names(__name__)
