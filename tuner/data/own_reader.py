"""Check a dataset that the user's own function returns, and what it reads."""

from __future__ import annotations

import hashlib
import inspect
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tuner.data.source import SPLITS, TARGET_TYPES, Image, Item, Source, Target
from tuner.errors import DataError, PartError, TunerError, first_lines, format_names, locate_error
from tuner.paths import read_bytes
from tuner.recipe import Part
from tuner.registry import build, find_builder
from tuner.registry.own_modules import own_sources


def open_own(part: Part) -> Source:
    """Return the source of the user's own "package.module:function"; DataError for all that is wrong with it.

    What it reads is checked too, item by item. An edited module is another dataset: its images are read anew.
    """
    try:
        source = build("dataset", {}, part)
    except (PartError, DataError):
        raise
    except Exception as error:
        raise DataError(f"dataset '{part.name}': {locate_error(error, Path(source_file(part.name)))}.") from error
    if not isinstance(source, Source):
        wanted = "tuner.data.source.Source is needed"
        raise DataError(f"dataset '{part.name}' returned {type(source).__name__}; a {wanted}.")
    if wrong := source_problems(source):
        raise DataError(f"dataset '{part.name}' cannot be used:{first_lines(wrong)}")
    read = partial(read_checked, part.name, source.read, source.targets, len(source.classes))
    reading = " ".join(filter(None, [source.reading, f"read by {part.name} {hash_code(part.name)}"]))
    source = replace(source, read=read, reading=reading)
    if source.revision:  # no survey reads it
        source.read(source.items[0])
    return source


def source_file(name: str) -> str:
    return inspect.getsourcefile(inspect.unwrap(find_builder("dataset", {}, name))) or ""


def hash_code(name: str) -> str:
    """Return a hash of the module of a reader and of the user's own modules that it imports."""
    files = own_sources([name]) or {"": Path(source_file(name))}
    digest = hashlib.sha256(b"".join(read_bytes(path, DataError) for path in files.values() if path.is_file()))
    return digest.hexdigest()[:16]


def source_problems(source: Source) -> list[str]:
    """Return what is wrong with the items and fields of a source, one line each."""
    if source.targets not in list(TARGET_TYPES):
        return [f"its targets are {source.targets!r}; known: {', '.join(TARGET_TYPES)}"]
    if not isinstance(source.name, str) or not source.name or "/" in source.name:
        return [f"its name is {source.name!r}; text without '/' is needed"]
    if odd := [item for item in source.items if not isinstance(item, Item)]:
        return [f"an item is a {type(odd[0]).__name__}; tuner.data.source.Item is needed"]
    wrong = [f"item {item.key} has the split {item.split!r}" for item in source.items if item.split not in SPLITS]
    wrong += [f"no item has the split '{split}'" for split in ("train", "val") if not source.split(split)]
    names = Counter((item.split, item.key) for item in source.items)
    if twice := [f"{split} {key}" for (split, key), number in names.items() if number > 1]:
        wrong.append(f"the same split and key have several items: {format_names(twice)}")
    if not source.revision:
        files = Counter(item.image for item in source.items if item.image)
        wrong += [f"item {item.key} has no file as image, and the source no revision" for item in source.items
                  if not isinstance(item.image, Path)]  # fmt: skip
        if several := [str(file) for file, number in files.items() if number > 1]:
            wrong.append(f"several items have the same image: {format_names(several)}")
    if source.targets == "classes":
        number = len(source.classes)
        wrong += [f"item {item.key} has the class {item.target!r}; 0 to {number - 1} are named"
                  for item in source.items if not is_class(item.target, number)]  # fmt: skip
    return wrong


def is_class(value: object, number: int) -> bool:
    return isinstance(value, int | np.integer) and 0 <= int(value) < number


def read_checked(
    name: str, read: Callable[[Item], tuple[Image, Target]], targets: str, classes: int, item: Item
) -> tuple[Image, Target]:
    """Return image and target of an item; DataError if reading fails or gives another shape or type."""
    what = f"item {item.key} of '{name}'"
    try:
        found: Any = read(item)
        image, target = found
    except (TunerError, OSError):
        raise
    except Exception as error:
        raise DataError(f"{what}: {locate_error(error, Path(source_file(name)))}") from error
    if wrong := image_problem(image) or target_problem(target, targets, classes, image):
        raise DataError(f"{what}: {wrong}")
    return image, target


def image_problem(image: Any) -> str:
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3:
        return ""
    return f"its image is {describe(image)}; an array of uint8, height x width x 3, is needed"


def target_problem(target: Any, targets: str, classes: int, image: Image) -> str:
    if targets == "classes":
        return "" if is_class(target, classes) else f"its class is {target!r}; 0 to {classes - 1} are named"
    kind = np.dtype(TARGET_TYPES[targets])
    if not isinstance(target, np.ndarray) or target.dtype != kind or target.shape != image.shape[:2]:
        size = " x ".join(map(str, image.shape[:2]))
        return f"its {targets} are {describe(target)}; an array of {kind}, {size} as its image, is needed"
    if targets == "masks" and target.max(initial=0) > 1:
        return f"its mask has the value {target.max()}; 0 and 1 are allowed"
    return ""


def describe(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{' x '.join(map(str, value.shape))} of {value.dtype}"
    return f"a {type(value).__name__}"
