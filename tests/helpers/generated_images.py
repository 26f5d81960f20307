"""Generated images, drawn once in each process: every home of a test has a cache of its own to fill with them."""

from __future__ import annotations

import os
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any

from tuner.data.source import Item
from tuner.data.synthetic import badges, cells, scenes, shapes

NUM_SHAPES = "NUM_SHAPES"  # an environment variable, for processes that fork
GENERATORS: tuple[ModuleType, ...] = (shapes, scenes, badges, cells)


def draw_once() -> None:
    """Have each image drawn at its first use only; nobody may write into it."""
    for module in GENERATORS:
        if not hasattr(module.read_item, "cache_info"):
            module.read_item = cache(read_only(module.read_item))  # type: ignore[attr-defined]


def read_only(read: Any) -> Any:
    def read_item(item: Item) -> Any:
        arrays = read(item)
        for array in arrays:
            if hasattr(array, "flags"):
                array.flags.writeable = False
        return arrays

    read_item.__module__, read_item.__qualname__ = read.__module__, read.__qualname__  # for pickle
    return read_item


def draw_shapes() -> None:
    """Draw the images of most tests now, for all processes that fork from this one."""
    for item in shapes.shapes().items:
        shapes.read_item(item)


def limit_shapes() -> None:
    """Have as many shapes as the environment says, and then only one image explained after a trial."""
    if NUM_SHAPES in os.environ:
        shapes.COUNT = int(os.environ[NUM_SHAPES])
        import_module("tuner.search.trial_pictures").MAX_EXPLAINED = 1  # type: ignore[attr-defined]
