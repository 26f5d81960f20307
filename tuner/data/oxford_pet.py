"""Oxford-IIIT Pet: photos of cats and dogs with a trimap each, as two tasks on the same files.

A trimap holds 1 for the pet, 2 for the background and 3 for the border between them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tuner.data.folder import read_target
from tuner.data.images import read_labels
from tuner.data.locate import refuse_missing, require_files
from tuner.data.source import Image, Item, Source, Target
from tuner.data.split import hold_out
from tuner.errors import DataError, format_names
from tuner.paths import LONGEST_JSON, read_text

LISTS = {"train": "annotations/trainval.txt", "test": "annotations/test.txt"}
IMAGES, TRIMAPS = "images", "annotations/trimaps"
PARTS = (IMAGES, TRIMAPS, *LISTS.values())
PET, BACKGROUND, BORDER = 1, 2, 3
CLASSES = ("pet", "background", "border")


def oxford_pet(*, image_size: int = 256, val: float = 0.2, split_seed: int = 0, split: str = "stable") -> Source:
    """Oxford-IIIT Pet, binary: pet and border against background; official test split."""
    where, items = list_items("oxford_pet", val, split_seed, split)
    return Source("oxford_pet", str(where), "masks", items, read_with_mask, reading="pet and border")


def oxford_pet_trimap(
    *, image_size: int = 256, val: float = 0.2, split_seed: int = 0, split: str = "stable"
) -> Source:
    """Oxford-IIIT Pet in three classes: pet, background, border; official test split."""
    where, items = list_items("oxford_pet_trimap", val, split_seed, split)
    return Source("oxford_pet_trimap", str(where), "labels", items, read_with_labels, CLASSES, reading="trimap")


def list_items(name: str, val: float, split_seed: int, split: str) -> tuple[Path, tuple[Item, ...]]:
    """Return the folder and the items of the official lists; part of the training list is held out."""
    where = require_files(name, PARTS)
    there = {part: {file.name for file in (where / part).iterdir()} for part in (IMAGES, TRIMAPS)}
    items, missing = [], []
    for official, listing in LISTS.items():
        for key in read_keys(where / listing):
            files = {IMAGES: f"{key}.jpg", TRIMAPS: f"{key}.png"}
            missing += [
                f"{part}/{file}, listed in {listing}" for part, file in files.items() if file not in there[part]
            ]
            items.append(Item(key, official, where / IMAGES / files[IMAGES], where / TRIMAPS / files[TRIMAPS]))
    refuse_missing(name, where, missing)
    return where, hold_out(tuple(items), val, split_seed, split)


def read_keys(listing: Path) -> list[str]:
    """Return the first word of each line: 'Abyssinian_100 1 1 1' names an image; '#' starts a comment."""
    lines = read_text(listing, DataError, LONGEST_JSON).splitlines()
    found = [line.split()[0] for line in lines if line.strip() and not line.startswith("#")]
    if not found:
        raise DataError(f"{listing} lists no images.")
    return found


def read_image_and_trimap(item: Item) -> tuple[Image, Image]:
    """Return the image and its trimap, checked to hold only 1, 2 and 3."""
    image, trimap = read_target(read_labels, "trimap", item)
    if trimap.min() < PET or trimap.max() > BORDER:
        found = format_names(map(str, np.unique(trimap).tolist()))
        raise DataError(
            f"trimap {Path(str(item.target)).name} holds {found}; a trimap has 1 (pet), 2 (background), 3 (border)"
        )
    return image, trimap


def read_with_mask(item: Item) -> tuple[Image, Target]:
    image, trimap = read_image_and_trimap(item)
    return image, (trimap != BACKGROUND).astype(np.uint8)


def read_with_labels(item: Item) -> tuple[Image, Target]:
    image, trimap = read_image_and_trimap(item)
    return image, trimap - np.uint8(1)
