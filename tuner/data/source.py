"""The items of a dataset with their splits, and how to read one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tuner.deprecated import renamed_names

Image = NDArray[np.uint8]  # height x width x 3
InstanceMap = NDArray[np.uint16]
Target = Image | InstanceMap | int  # height x width of mask values, class or instance numbers; or one class
IGNORED = 255  # label of pixels that are not counted
NO_CLASS = "ignored"  # name of an ignored number below those of classes
TARGET_TYPES = {
    "masks": "|u1",
    "labels": "|u1",
    "classes": "<i8",
    "instances": "<u2",
}  # of the arrays, by `targets`
SPLITS = ("train", "val", "test")


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

    `targets` is a key of TARGET_TYPES. `revision` identifies the content of generated data.
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
    ignored: int = IGNORED  # the class number that is read as IGNORED, if there is one

    def split(self, *names: str) -> tuple[Item, ...]:
        return tuple(item for item in self.items if item.split in names)

    def counts(self) -> str:
        """Return the size of each split, such as '262 train, 66 val'."""
        return ", ".join(f"{len(self.split(name))} {name}" for name in SPLITS if self.split(name))


__getattr__ = renamed_names(__name__)
