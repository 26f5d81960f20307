"""A source: the items of a dataset, each with its split, and how to read one."""

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
from tuner.recipe import is_number

Image = NDArray[np.uint8]  # height x width x 3
InstanceMap = NDArray[np.uint16]
Target = (
    Image | InstanceMap | int
)  # height x width: a mask of 0 and 1, class or instance numbers; or one of a class
IGNORED = 255  # in a label map: a pixel that counts nowhere
SPLITS = ("train", "val", "test")
SPLIT_NAMES = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}  # as written


@dataclass(frozen=True)
class Item:
    """One example. Generated examples have no files; a class is a number instead of a mask file.

    Of a target that is a part of a larger file, `content` is a hash; `named`, how many instances it speaks of.
    """

    key: str
    split: str
    image: Path | None = None
    target: Path | int | None = None
    content: str = ""
    named: int = 0


@dataclass(frozen=True)
class Source:
    """`read` gives the image and target of an item; `targets` is "masks", "labels", "classes" or "instances".

    `revision` stands for the content where there are no files to hash; `reading`, for what `read` makes of
    the files where it is not the plain reading. Label maps without names of their own have no `classes`
    until they are surveyed. `remarks` say what was left out when it was opened.
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
        """'262 train, 66 val', as people say it."""
        return ", ".join(f"{len(self.split(name))} {name}" for name in SPLITS if self.split(name))


def hold_out(items: tuple[Item, ...], fraction: float, seed: int) -> tuple[Item, ...]:
    """Move about `fraction` of the training items to "val", each by its own name and the seed alone.

    Adding files moves no other item. A split that comes out empty takes the nearest item.
    """
    if wrong := fraction_problem(fraction):
        raise DataError(wrong)
    if any(item.split == "val" for item in items):
        return items
    train = sorted((hash_fraction(item.key, seed), item.key) for item in items if item.split == "train")
    if len(train) < 2:
        return items
    chosen = {key for at, key in train if at < fraction} or {train[0][1]}
    if len(chosen) == len(train):
        chosen.remove(train[-1][1])
    return tuple(
        replace(item, split="val") if item.split == "train" and item.key in chosen else item for item in items
    )


def hold_out_per_class(items: tuple[Item, ...], fraction: float, seed: int) -> tuple[Item, ...]:
    """`hold_out`, from each class by itself: of two images of a class, one is trained on and one is not.

    Where no class has two, some class must go without training.
    """
    if any(item.split == "val" for item in items):
        return items
    counted = Counter(item.target for item in items if item.split == "train")
    if max(counted.values(), default=0) < 2:
        return hold_out(items, fraction, seed)
    held: dict[str, Item] = {}
    for target in dict.fromkeys(item.target for item in items):
        mine = tuple(item for item in items if item.target == target)
        held |= {
            f"{item.split} {item.key}": now for item, now in zip(mine, hold_out(mine, fraction, seed), strict=True)
        }
    return tuple(held[f"{item.split} {item.key}"] for item in items)


def fraction_problem(fraction: object) -> str:
    """What is wrong with a part to hold out, or nothing."""
    if is_number(fraction) and 0 < fraction < 1:
        return ""
    return f"val is {fraction!r}; the part of the images to hold out is needed, between 0 and 1 such as 0.2."


def hash_fraction(key: str, seed: int) -> float:
    """A number in [0, 1) that depends on the item's name and the seed only."""
    digest = hashlib.blake2b(f"{seed}:{key}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


__getattr__ = renamed_names(__name__)
