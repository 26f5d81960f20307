"""The table of augmentations, and their seeding: the same for an item whoever computes it.

A builder takes the image size; it returns albumentations transforms, which move a mask with its image.
Masks take the nearest pixel, and what comes in from outside the image is its reflection: no value is
invented. Images stay bytes; they are normalised later, on the device.
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
from tuner.recipe import Part, is_number
from tuner.registry import build

AUGMENTATIONS = {
    "none": "tuner.data.augment:none",
    "flip": "tuner.data.augment:flip",
    "crop_flip": "tuner.data.augment:crop_flip",
    "lesion": "tuner.data.augment:lesion",
    "pet": "tuner.data.augment:pet",
}
Target = NDArray[np.uint8] | NDArray[np.uint16] | NDArray[np.int64]
Augment = Callable[[Image, Target, int], tuple[Image, Target]]  # the last is the seed of this item
REFLECT = cv2.BORDER_REFLECT_101


def none(size: int) -> list[Any]:
    """The images as they are."""
    return []


def flip(size: int, *, p: float = 0.5) -> list[Any]:
    """Mirrored left to right with probability p."""
    check_range("flip", p=p)
    return [import_albumentations().HorizontalFlip(p=p)]


def crop_flip(size: int, *, crop: float = 0.25, flip: float = 0.5) -> list[Any]:
    """A random square of `crop` of the area, enlarged to the full size; mirrored with probability `flip`."""
    check_range("crop_flip", flip=flip)
    check_range("crop_flip", above=True, crop=crop)
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
    """Random crop of at least `crop` of the area, flip, turn by up to `rotate` degrees, colour jitter, noise."""
    check_range("lesion", flip=flip, colour=colour, noise=noise)
    check_range("lesion", above=True, crop=crop)
    check_range("lesion", most=180, rotate=rotate)
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
    """Crop of at least `scale` of the area, both flips, shift-zoom-turn, colour jitter, RGB shift, noise.

    `shift`, `zoom`, `rgb` and `noise` are the most, as shares; `rotate` is in degrees.
    """
    check_range("pet", flip=flip, shift=shift, colour=colour, rgb=rgb, noise=noise)
    check_range("pet", above=True, scale=scale)
    check_range("pet", most=0.9, zoom=zoom)
    check_range("pet", most=180, rotate=rotate)
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
    """albumentations without its check for updates over the network; it takes a second to import."""
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
    import albumentations

    return albumentations


def random_crop(size: int, area: tuple[float, float], ratio: tuple[float, float] = (3 / 4, 4 / 3)) -> list[Any]:
    """A part of the image enlarged to the whole; nothing to do where the part is the whole."""
    if area == (1.0, 1.0):
        return []
    exact = cv2.INTER_NEAREST_EXACT  # the older nearest moves masks by up to half a pixel
    return [
        import_albumentations().RandomResizedCrop((size, size), scale=area, ratio=ratio, mask_interpolation=exact)
    ]


def color_jitter(strength: float) -> Any:
    """Brightness, contrast and saturation by up to `strength`, hue by a quarter of it."""
    near_one = (max(0.0, 1 - strength), 1 + strength)
    hue = strength / 4
    return import_albumentations().ColorJitter(
        near_one, near_one, near_one, (-hue, hue), p=0.5 if strength else 0.0
    )


def byte_noise(most: float) -> Any:
    """Noise of up to `most` of the full range."""
    import_albumentations()
    from tuner.data.noise import ByteNoise

    return ByteNoise(most, p=0.5 if most else 0.0)


def check_range(name: str, *, above: bool = False, most: float = 1, **values: object) -> None:
    """PartError unless the values are numbers from 0, or above 0, to `most`."""
    for arg, value in values.items():
        fine = is_number(value) and 0 <= value <= most
        if not fine or (above and not value):
            least = "above 0" if above else "from 0"
            raise PartError(
                f"{arg} of augmentation '{name}' is {value!r}; a number {least} to {most:g} is needed."
            )


def make_augment(part: Part, size: int) -> Augment | None:
    """A function (image, target, seed) -> (image, target); None when there is nothing to do.

    It keeps state between calls, so every thread needs one of its own.
    """
    transforms = build("augmentation", AUGMENTATIONS, part, size)
    if not isinstance(transforms, list | tuple):
        transforms = [transforms]  # one of a user's own, or a Compose
    if not transforms:
        return None
    try:
        pipeline = import_albumentations().Compose(list(transforms))
    except Exception as error:  # the user's own objects
        raise PartError(f"augmentation '{part.name}' gives no albumentations transforms: {error}.") from error

    def augment(image: Image, target: Target, seed: int) -> tuple[Image, Target]:
        pipeline.set_random_seed(seed)
        if target.ndim == 0:  # a class number: only the picture moves
            return check_output(part.name, pipeline(image=image)["image"], image), target
        if target.dtype == np.uint16:
            return with_instances(image, target)
        moved = pipeline(image=image, mask=target)
        return check_output(part.name, moved["image"], image), check_output(part.name, moved["mask"], target)

    def with_instances(image: Image, target: Target) -> tuple[Image, Target]:
        """An instance that is cut in two is two; one that leaves the picture is none."""
        before, owners = connected_pieces(target)
        if len(owners) > MAX_INSTANCES + 1:  # too many to be told apart in sixteen bits: they stay together
            before, owners = target.astype(np.int32), np.arange(int(target.max()) + 1, dtype=np.int32)
        moved = pipeline(image=image, mask=before.astype(np.uint16))
        mask = check_output(part.name, moved["mask"], target)
        return check_output(part.name, moved["image"], image), merge_pieces(mask, owners).astype(np.uint16)

    return augment


def check_output(name: str, made: Any, given: NDArray[Any]) -> NDArray[Any]:
    """What an augmentation made, when it is as large as what it was given and bytes too."""
    if isinstance(made, np.ndarray) and made.shape == given.shape and made.dtype == given.dtype:
        return made
    shapes = [" x ".join(map(str, getattr(each, "shape", ()))) for each in (made, given)]
    raise PartError(
        f"augmentation '{name}' gives {shapes[0]} of {getattr(made, 'dtype', type(made).__name__)}; it must give "
        f"{shapes[1]} of {given.dtype}: resize to the size it is called with, and do not normalise."
    )


def item_seed(seed: int, epoch: int, index: int, copy: int = 0) -> int:
    """The seed of one item, or of one of its copies, in one epoch of one trial."""
    name = f"{seed}:{epoch}:{index}:{copy}" if copy else f"{seed}:{epoch}:{index}"
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=4).digest(), "big")


__getattr__ = renamed_names(__name__)
