"""Found instances as a COCO file: exact masks as runs of pixels, which pycocotools and others read."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from tuner.data.instances import Instances

CATEGORY = {"id": 1, "name": "object"}
PixelIndexes = NDArray[np.int64]


class CocoWriter:
    """A COCO file that is written image by image: a folder of photographs may not fit in memory."""

    def __init__(self, file: TextIO) -> None:
        self.file, self.number = file, 0
        self.images: list[dict[str, Any]] = []
        file.write('{"annotations": [')

    def add(self, name: str, found: Instances) -> None:
        """One image, by the name of its file, with what was found in it."""
        height, width = found.labels.shape
        image = {"id": len(self.images) + 1, "file_name": name, "height": height, "width": width}
        self.images.append(image)
        for each in annotations_of(found):
            self.file.write(",\n" if self.number else "\n")
            self.number += 1
            self.file.write(json.dumps({"id": self.number, "image_id": image["id"], **each}))

    def close(self) -> None:
        """Write what comes last; before, it is no JSON."""
        rest = json.dumps({"images": self.images, "categories": [CATEGORY]})
        self.file.write(f"\n], {rest[1:]}\n")


def annotations_of(found: Instances) -> Iterator[dict[str, Any]]:
    """Each instance as COCO has it, in the order of their numbers."""
    height, width = found.labels.shape
    for places, score in zip(pixel_indexes(found.labels, len(found.scores)), found.scores, strict=True):
        if not len(places):
            continue
        yield {
            "category_id": CATEGORY["id"],
            "segmentation": {"size": [height, width], "counts": run_lengths(places, height * width)},
            "area": len(places),
            "bbox": bounding_box(places, height),
            "score": round(float(score), 6),
            "iscrowd": 0,
        }


def pixel_indexes(labels: NDArray[np.integer], number: int) -> list[PixelIndexes]:
    """Where the pixels of instances 1 to n lie, counted down each column, as COCO counts them."""
    flat = labels.ravel(order="F")
    order = np.argsort(flat, kind="stable")
    ends = np.cumsum(np.bincount(flat, minlength=number + 1))
    return np.split(order, ends)[1 : number + 1]


def run_lengths(places: PixelIndexes, whole: int) -> list[int]:
    """How many pixels are outside, then inside, then outside and so on."""
    breaks = np.flatnonzero(np.diff(places) > 1) + 1
    begins, ends = places[np.concatenate([[0], breaks])], places[np.concatenate([breaks - 1, [-1]])] + 1
    edges = np.stack([begins, ends], 1).ravel()
    counts = np.diff(edges, prepend=0, append=whole).tolist()
    return counts if counts[-1] else counts[:-1]


def bounding_box(places: PixelIndexes, height: int) -> list[int]:
    """Left, top, width and height."""
    columns, rows = np.divmod(places, height)
    left, top = int(columns.min()), int(rows.min())
    return [left, top, int(columns.max()) - left + 1, int(rows.max()) - top + 1]


def file_names(images: Sequence[Path]) -> list[str]:
    """The images' names below the one folder that holds them all: plain names, where all lie in one."""
    whole = [path.absolute() for path in images]
    folder = os.path.commonpath([path.parent for path in whole])
    return [path.relative_to(folder).as_posix() for path in whole]
