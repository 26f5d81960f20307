"""Predicted instances as a COCO file, with exact masks in uncompressed run-length encoding.

Why not COCO's own encoder: it takes a mask of the whole image for each of hundreds of instances.
"""

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
    """Write a COCO file image by image, because a folder of images may not fit in memory."""

    def __init__(self, file: TextIO) -> None:
        self.file, self.number = file, 0
        self.images: list[dict[str, Any]] = []
        file.write('{"annotations": [')

    def add(self, name: str, found: Instances) -> None:
        height, width = found.labels.shape
        image = {"id": len(self.images) + 1, "file_name": name, "height": height, "width": width}
        self.images.append(image)
        for each in annotations_of(found):
            self.file.write(",\n" if self.number else "\n")
            self.number += 1
            self.file.write(json.dumps({"id": self.number, "image_id": image["id"], **each}))

    def close(self) -> None:
        """Write the rest of the file; until then it is not valid JSON."""
        rest = json.dumps({"images": self.images, "categories": [CATEGORY]})
        self.file.write(f"\n], {rest[1:]}\n")


def annotations_of(found: Instances) -> Iterator[dict[str, Any]]:
    """Yield each instance as a COCO annotation, in the order of their numbers."""
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
    """Return the pixel indexes of instances 1 to n in column-major order, as in COCO."""
    flat = labels.ravel(order="F")
    order = np.argsort(flat, kind="stable")
    ends = np.cumsum(np.bincount(flat, minlength=number + 1))
    return np.split(order, ends)[1 : number + 1]


def run_lengths(places: PixelIndexes, whole: int) -> list[int]:
    """Return run lengths: pixels outside, inside, outside and so on."""
    breaks = np.flatnonzero(np.diff(places) > 1) + 1
    begins, ends = places[np.concatenate([[0], breaks])], places[np.concatenate([breaks - 1, [-1]])] + 1
    edges = np.stack([begins, ends], 1).ravel()
    counts = np.diff(edges, prepend=0, append=whole).tolist()
    return counts if counts[-1] else counts[:-1]


def bounding_box(places: PixelIndexes, height: int) -> list[int]:
    """Return left, top, width and height."""
    columns, rows = np.divmod(places, height)
    left, top = int(columns.min()), int(rows.min())
    return [left, top, int(columns.max()) - left + 1, int(rows.max()) - top + 1]


def file_names(images: Sequence[Path]) -> list[str]:
    """Return the images' paths relative to their common folder."""
    whole = [path.absolute() for path in images]
    folder = os.path.commonpath([path.parent for path in whole])
    return [path.relative_to(folder).as_posix() for path in whole]
