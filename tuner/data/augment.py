"""The table of augmentations, and their seeding: the same for an item whoever computes it.

A builder takes the image size; it returns albumentations transforms, which move a mask with its image.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tuner.data.source import Image
from tuner.parts import build
from tuner.recipe import Part

AUGMENTATIONS = {
    "none": "tuner.data.augment:none",
    "flip": "tuner.data.augment:flip",
}
Target = NDArray[np.uint8]
Augment = Callable[[Image, Target, int], tuple[Image, Target]]  # the last is the seed of this item


def none(size: int) -> list[Any]:
    """The images as they are."""
    return []


def flip(size: int, *, p: float = 0.5) -> list[Any]:
    """Mirrored left to right with probability p."""
    return [library().HorizontalFlip(p=p)]


def library() -> Any:
    """albumentations without its check for updates over the network; it takes a second to import."""
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
    import albumentations

    return albumentations


def augmenter(part: Part, size: int) -> Augment | None:
    """A function (image, target, seed) -> (image, target); None when there is nothing to do.

    It keeps state between calls, so every thread needs one of its own.
    """
    transforms = build("augmentation", AUGMENTATIONS, part, size)
    if not transforms:
        return None
    pipeline = library().Compose(transforms)

    def augment(image: Image, target: Target, seed: int) -> tuple[Image, Target]:
        pipeline.set_random_seed(seed)
        if target.ndim == 0:  # a class number: only the picture moves
            return pipeline(image=image)["image"], target
        moved = pipeline(image=image, mask=target)
        return moved["image"], moved["mask"]

    return augment


def item_seed(seed: int, epoch: int, index: int) -> int:
    """The seed of one item in one epoch of one trial."""
    digest = hashlib.blake2b(f"{seed}:{epoch}:{index}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big")
