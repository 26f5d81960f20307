"""Cityscapes: street scenes in the 19 evaluated classes; all other classes are ignored."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tuner.data.folder import read_with_labels
from tuner.data.locate import refuse_missing, require_files
from tuner.data.source import IGNORED, Image, Item, Source, Target
from tuner.data.split import hold_out
from tuner.errors import DataError

IMAGES, LABELS = "leftImg8bit", "gtFine"
SPLITS = ("train", "val")  # the labels of the official test split are not public
PARTS = tuple(f"{part}/{split}" for split in SPLITS for part in (IMAGES, LABELS))
IMAGE_ENDING = "_leftImg8bit.png"
IDS, TRAIN_IDS = "_gtFine_labelIds.png", "_gtFine_labelTrainIds.png"
CLASSES = (
    "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation",
    "terrain", "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle",
)  # fmt: skip
# label ids of CLASSES, in the same order
SCORED = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
TO_TRAIN_ID = np.full(256, IGNORED, np.uint8)
TO_TRAIN_ID[list(SCORED)] = np.arange(len(SCORED))


def cityscapes(*, image_size: int = 256, val: float = 0.2, split_seed: int = 0, split: str = "stable") -> Source:
    """Cityscapes: street scenes in 19 classes, others ignored; official train and val splits."""
    where = require_files("cityscapes", PARTS)
    missing: list[str] = []
    items = tuple(item for official in SPLITS for item in find_pairs(where, official, missing))
    refuse_missing("cityscapes", where, missing)
    for official in SPLITS:
        if not any(item.split == official for item in items):
            raise DataError(f"cityscapes at {where} has no {IMAGES}/{official}/CITY/NAME{IMAGE_ENDING}.")
    items = hold_out(items, val, split_seed, split)  # only checks the arguments, since there is a val split
    return Source("cityscapes", str(where), "labels", items, read_scene, CLASSES, reading="train ids")


def find_pairs(where: Path, split: str, missing: list[str]) -> Iterator[Item]:
    """Yield the images of a split with their label maps; append images without one to `missing`."""
    labels = {file.name: file for file in (where / LABELS / split).glob("*/*_gtFine_label*Ids.png")}
    for image in sorted((where / IMAGES / split).glob(f"*/*{IMAGE_ENDING}")):
        if image.name.startswith("."):
            continue
        key = image.name.removesuffix(IMAGE_ENDING)
        if label := labels.get(f"{key}{TRAIN_IDS}") or labels.get(f"{key}{IDS}"):
            yield Item(key, split, image, label)
        else:
            missing.append(f"{LABELS}/{split}/{image.parent.name}/{key}{IDS}")


def read_scene(item: Item) -> tuple[Image, Target]:
    image, labels = read_with_labels(item)
    return image, labels if str(item.target).endswith(TRAIN_IDS) else TO_TRAIN_ID[labels]
