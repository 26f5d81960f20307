"""The table of augmentations, and how they are seeded: the same item gets the same result in any process.

A builder takes the image size and returns albumentations transforms. Masks are resampled by nearest neighbour and
borders are filled by reflection, so that no new label values appear. Images stay bytes; they are normalized later,
on the device. Why not torchvision.transforms.v2: it draws from torch's global generator, not from a seed per item.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from tuner.data.instances import MAX_INSTANCES, connected_pieces, merge_pieces
from tuner.data.source import Image
from tuner.deprecated import renamed_names
from tuner.errors import PartError
from tuner.recipe import Part
from tuner.registry import SHARE, Range, build, check_range

AUGMENTATIONS = {name: f"tuner.data.augment:{name}" for name in ("none", "flip", "crop_flip", "lesion", "pet")}
Target = NDArray[np.uint8] | NDArray[np.uint16] | NDArray[np.int64]
Augment = Callable[[Image, Target, int], tuple[Image, Target]]  # image, target, seed of the item
REFLECT = cv2.BORDER_REFLECT_101
PART_OF_AREA = Range(above=0, most=1)


def none(size: int) -> list[Any]:
    """No augmentation."""
    return []


def flip(size: int, *, p: float = 0.5) -> list[Any]:
    """Horizontal flip with probability p."""
    check_range("augmentation 'flip'", SHARE, p=p)
    return [import_albumentations().HorizontalFlip(p=p)]


def crop_flip(size: int, *, crop: float = 0.25, flip: float = 0.5) -> list[Any]:
    """Random square crop of `crop` of the area, resized to full size; horizontal flip with probability `flip`."""
    check_range("augmentation 'crop_flip'", SHARE, flip=flip)
    check_range("augmentation 'crop_flip'", PART_OF_AREA, crop=crop)
    return [*random_crop(size, (crop, crop), (1.0, 1.0)), import_albumentations().HorizontalFlip(p=flip)]


def lesion(
    size: int,
    *,
    crop: float = 0.6,
    flip: float = 0.5,
    rotate: float = 30.0,
    colour: float = 0.2,
    noise: float = 0.05,
) -> list[Any]:
    """Random crop of at least `crop` of the area, flip, rotation up to `rotate` degrees, color jitter, noise."""
    check_range("augmentation 'lesion'", SHARE, flip=flip, colour=colour, noise=noise)
    check_range("augmentation 'lesion'", PART_OF_AREA, crop=crop)
    check_range("augmentation 'lesion'", Range(least=0, most=180), rotate=rotate)
    return [
        import_albumentations().HorizontalFlip(p=flip),
        *random_crop(size, (crop, 1.0)),
        import_albumentations().Rotate(limit=(-rotate, rotate), border_mode=REFLECT, p=0.5),
        color_jitter(colour),
        byte_noise(noise),
    ]


def pet(
    size: int,
    *,
    scale: float = 0.8,
    flip: float = 0.5,
    shift: float = 0.2,
    zoom: float = 0.2,
    rotate: float = 30.0,
    colour: float = 0.2,
    rgb: float = 0.08,
    noise: float = 0.05,
) -> list[Any]:
    """Random crop of at least `scale` of the area, both flips, affine transform, color jitter, RGB shift, noise.

    `shift`, `zoom`, `rgb` and `noise` are maximum fractions, `rgb` of 255 (a report took 10 / 255); `rotate` is in
    degrees.
    """
    check_range("augmentation 'pet'", SHARE, flip=flip, shift=shift, colour=colour, rgb=rgb, noise=noise)
    check_range("augmentation 'pet'", PART_OF_AREA, scale=scale)
    check_range("augmentation 'pet'", Range(least=0, most=0.9), zoom=zoom)
    check_range("augmentation 'pet'", Range(least=0, most=180), rotate=rotate)
    a = import_albumentations()
    moved = a.Affine(
        scale=(1 - zoom, 1 + zoom),
        translate_percent=(-shift, shift),
        rotate=(-rotate, rotate),
        border_mode=REFLECT,
        keep_ratio=True,
        p=0.5,
    )
    return [
        a.HorizontalFlip(p=flip),
        a.VerticalFlip(p=flip),
        *random_crop(size, (scale, 1.0)),
        moved,
        color_jitter(colour),
        a.RGBShift(*[(-255 * rgb, 255 * rgb)] * 3, p=0.5 if rgb else 0.0),
        byte_noise(noise),
    ]


def import_albumentations() -> Any:
    """Import albumentations, which takes a second, without its check for updates over the network."""
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
    import albumentations

    return albumentations


def random_crop(size: int, area: tuple[float, float], ratio: tuple[float, float] = (3 / 4, 4 / 3)) -> list[Any]:
    """Return a random crop that is resized to the full size; no transform where the crop is the whole image."""
    if area == (1.0, 1.0):
        return []
    exact = cv2.INTER_NEAREST_EXACT  # INTER_NEAREST shifts masks by up to half a pixel
    return [
        import_albumentations().RandomResizedCrop((size, size), scale=area, ratio=ratio, mask_interpolation=exact)
    ]


def color_jitter(strength: float) -> Any:
    """Change brightness, contrast and saturation by up to `strength`, hue by up to a quarter of it."""
    near_one = (max(0.0, 1 - strength), 1 + strength)
    hue = strength / 4
    return import_albumentations().ColorJitter(
        near_one, near_one, near_one, (-hue, hue), p=0.5 if strength else 0.0
    )


def byte_noise(most: float) -> Any:
    """Add noise of up to `most` of the full range."""
    import_albumentations()
    from tuner.data.noise import ByteNoise

    return ByteNoise(most, p=0.5 if most else 0.0)


def make_augment(part: Part, size: int) -> Augment | None:
    """Return a function (image, target, seed) -> (image, target), or None for no augmentation.

    The function keeps state between calls: use one per thread.
    """
    transforms = build("augmentation", AUGMENTATIONS, part, size)
    if not isinstance(transforms, list | tuple):
        transforms = [transforms]  # a single transform or a Compose
    if not transforms:
        return None
    try:
        pipeline = import_albumentations().Compose(list(transforms))
    except Exception as error:  # user code
        raise PartError(
            f"augmentation '{part.name}' does not return albumentations transforms: {error}."
        ) from error

    def transform(**arrays: NDArray[Any]) -> list[NDArray[Any]]:
        made = pipeline(**arrays)
        return [check_output(part.name, made[name], given) for name, given in arrays.items()]

    def augment(image: Image, target: Target, seed: int) -> tuple[Image, Target]:
        pipeline.set_random_seed(seed)
        if target.ndim == 0:  # a class number
            return transform(image=image)[0], target
        if target.dtype != np.uint16:
            image, mask = transform(image=image, mask=target)
            return image, mask
        pieces, owners = connected_pieces(target)  # so that an instance that is cut in two becomes two
        if len(owners) > MAX_INSTANCES + 1:  # more pieces than 16 bits can number: transform whole instances
            pieces, owners = target.astype(np.int32), np.arange(int(target.max()) + 1, dtype=np.int32)
        image, mask = transform(image=image, mask=pieces.astype(np.uint16))
        return image, merge_pieces(mask, owners).astype(np.uint16)

    return augment


def check_output(name: str, made: Any, given: NDArray[Any]) -> NDArray[Any]:
    """Return what an augmentation gave if its shape and dtype are unchanged; raise PartError otherwise."""
    if isinstance(made, np.ndarray) and made.shape == given.shape and made.dtype == given.dtype:
        return made
    shapes = [" x ".join(map(str, getattr(each, "shape", ()))) for each in (made, given)]
    kind = getattr(made, "dtype", type(made).__name__)
    raise PartError(
        f"augmentation '{name}' returns {shapes[0]} of {kind}; it must return "
        f"{shapes[1]} of {given.dtype}: resize to the size given to the builder, and do not normalize."
    )


def item_seed(seed: int, epoch: int, index: int, copy: int = 0) -> int:
    """Return the seed of one item, or of one of its copies, in one epoch of one trial."""
    name = f"{seed}:{epoch}:{index}:{copy}" if copy else f"{seed}:{epoch}:{index}"
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=4).digest(), "big")


__getattr__ = renamed_names(__name__)
