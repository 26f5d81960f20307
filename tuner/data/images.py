"""Read one image or mask file as people mean it, or say in a few words why it cannot be read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageOps, UnidentifiedImageError

from tuner.data.instances import MAX_INSTANCES, renumber
from tuner.data.source import IGNORED, Image, InstanceMap
from tuner.deprecated import renamed_names
from tuner.errors import DataError, some

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".ppm", ".pgm"}
LOSSY = {"JPEG", "MPO", "WEBP"}
ASPECT_TOLERANCE = 0.03  # how far the aspects of a mask and its image may differ


def read_image(path: Path) -> Image:
    """Eight-bit RGB, upright. Grey, palette, CMYK and 16-bit are converted; transparency is laid on white."""
    picture = open_image(path)
    if picture.mode.startswith("I") or picture.mode == "F":
        return np.repeat(to_eight_bits(pixel_values(picture, path))[..., None], 3, axis=2)
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        front = picture.convert("RGBA")
        picture = Pillow.alpha_composite(Pillow.new("RGBA", front.size, "white"), front)
    return np.array(picture.convert("RGB"))


def read_mask(path: Path) -> Image:
    """0 and 1. A file of two values is taken by them; one with shades (JPEG noise, soft edges) at half."""
    picture = open_image(path)
    values = to_one_channel(picture, path)
    highest = values.max()
    if picture.format not in LOSSY:
        if ((values == 0) | (values == highest)).all():
            return (values > 0).astype(np.uint8)
        if 1 < highest < 128:  # numbers of several classes: halving them would give an empty mask
            found = some(map(str, np.unique(values).tolist()), 6)
            raise DataError(f"mask {path.name} holds the values {found}; a mask has two, or shades from 0 to 255")
    return (values > mask_threshold(highest)).astype(np.uint8)


def read_labels(path: Path) -> Image:
    """The class number of each pixel, as it is written: grey, 16-bit grey, or a palette by its index."""
    values = read_whole_numbers(path, "label map", "the number of a class is needed at each pixel")
    lowest, highest = values.min(), values.max()
    if lowest < 0 or highest > IGNORED:
        raise DataError(
            f"label map {path.name} holds {lowest} to {highest}; classes go to {IGNORED - 1}; {IGNORED} is ignored"
        )
    return values.astype(np.uint8)


def read_instances(path: Path) -> InstanceMap:
    """The number of an instance at each pixel, 0 where there is none; numbered anew, in order and without gaps.

    Written as label maps are, with numbers up to 65535. No number is ignored.
    """
    needed = "a grey PNG of 8 or 16 bits is needed, the number of an instance at each pixel and 0 for none"
    values = read_whole_numbers(path, "instance map", needed)
    lowest, highest = values.min(), values.max()
    if lowest < 0 or highest > MAX_INSTANCES:
        raise DataError(
            f"instance map {path.name} holds {lowest:.0f} to {highest:.0f}; 0 is background, "
            f"and instances have numbers from 1 to {MAX_INSTANCES}"
        )
    return renumber(values.astype(np.uint16)).astype(np.uint16)


def read_whole_numbers(path: Path, what: str, needed: str) -> NDArray[Any]:
    """The numbers in a label map as they are written: grey, 16-bit grey, or a palette by its index."""
    picture = open_image(path)
    if picture.format in LOSSY:
        raise DataError(
            f"{what} {path.name} is a {picture.format}, which does not keep numbers exactly; a PNG is needed"
        )
    return np.asarray(picture) if picture.mode == "P" else to_whole_numbers(picture, path, what, needed)


def to_whole_numbers(picture: Pillow.Image, path: Path, what: str, needed: str) -> NDArray[Any]:
    """The whole numbers of a grey picture, also of one that was saved in three equal channels."""
    if picture.mode in ("1", "L") or picture.mode.startswith("I") or picture.mode == "F":
        values = pixel_values(picture, path)
    else:
        shown = np.asarray(picture.convert("RGB"))
        values = shown[..., 0]
        if (shown != values[..., None]).any():
            raise DataError(f"{what} {path.name} is in colours; {needed}")
    if values.dtype.kind == "f" and (values % 1).any():
        raise DataError(f"{what} {path.name} holds fractions; whole numbers are needed")
    return values


def mask_threshold(highest: float) -> float:
    """Half of the range that a mask with this highest value must have been written in."""
    return 0.5 if highest <= 1 else 127 if highest < 256 else 32767


def to_one_channel(picture: Pillow.Image, path: Path) -> NDArray[Any]:
    """Grey as it is; in colour the strongest channel, so that a red mask counts like a white one.

    A palette in colour numbers its classes, 0 being the background; one in greys is a grey picture.
    """
    if picture.mode == "P" and not has_grey_palette(picture):
        return (np.asarray(picture) > 0).astype(np.uint8)
    if picture.mode in ("1", "L") or picture.mode.startswith("I") or picture.mode == "F":
        return pixel_values(picture, path)
    return np.asarray(picture.convert("RGB")).max(axis=2)


def has_grey_palette(picture: Pillow.Image) -> bool:
    """Whether the colours in use are greys, each another."""
    used = np.unique(np.asarray(picture))
    colours = np.asarray(picture.getpalette("RGB"), np.uint8).reshape(-1, 3)
    if used.max(initial=0) >= len(colours):
        return False
    shown = colours[used]
    is_grey = bool((shown == shown[:, :1]).all())
    return is_grey and len(np.unique(shown[:, 0])) == len(used)


def pixel_values(picture: Pillow.Image, path: Path) -> NDArray[Any]:
    """The values of a picture of one channel, as numbers that can be compared."""
    values = np.asarray(picture)
    if not np.isfinite(values).all():
        raise DataError(f"{path.name} holds values that are no numbers")
    return values.astype(np.uint8) if values.dtype == bool else values


def to_eight_bits(values: NDArray[Any]) -> Image:
    """Scale 16-bit and fractions to 8-bit; Pillow's own conversion clips above 255 and cuts below 1."""
    highest = values.max(initial=0)
    scale = 1 / 257 if highest > 255 else 255 if highest <= 1 and values.dtype.kind == "f" else 1
    return np.clip(values * scale + 0.5, 0, 255).astype(np.uint8)


def open_image(path: Path) -> Pillow.Image:
    """Decode fully and turn upright; a DataError names the file and what is wrong with it."""
    try:
        if path.stat().st_size == 0:
            raise DataError(f"{path.name} is empty (0 bytes)")
        with Pillow.open(path) as picture:
            picture.load()
            kind = picture.format
            upright = ImageOps.exif_transpose(picture)
    except UnidentifiedImageError as error:
        raise DataError(f"{path.name} is not an image, whatever its name says") from error
    except OSError as error:
        raise DataError(f"{path.name} cannot be read ({error.strerror or error})") from error
    except (SyntaxError, ValueError, Pillow.DecompressionBombError) as error:
        raise DataError(f"{path.name} cannot be decoded ({error})") from error
    upright.format = kind  # exif_transpose forgets it
    return upright


def resize_image(image: Image, size: int) -> Image:
    """A square of `size`: by area when shrinking, so that no pixel is skipped."""
    smaller = image.shape[0] >= size and image.shape[1] >= size
    method = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    return cv2.resize(image, (size, size), interpolation=method).astype(np.uint8)


def check_aspect(path: Path, mask: NDArray[Any], image: Image, what: str = "mask") -> None:
    """A mask may have another size than its image, but not another shape."""
    (mask_height, mask_width), (height, width) = mask.shape[:2], image.shape[:2]
    ratio = mask_width * height / (mask_height * width)
    off = 1 - min(ratio, 1 / ratio)  # the same for a pair and for that pair turned by 90 degrees
    if off > ASPECT_TOLERANCE + 1e-9:  # exactly 3 % is still within it
        raise DataError(
            f"{what} {path.name} is {mask_width}x{mask_height} for an image of {width}x{height}: "
            f"their aspects differ by {off:.1%}, {ASPECT_TOLERANCE:.0%} is allowed"
        )


__getattr__ = renamed_names(__name__)
