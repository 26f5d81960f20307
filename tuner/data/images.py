"""Read one image or mask file as people mean it, or say in a few words why it cannot be read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageOps, UnidentifiedImageError

from tuner.data.source import Image
from tuner.errors import DataError

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".ppm", ".pgm"}
LOSSY = {"JPEG", "MPO", "WEBP"}
ASPECT_TOLERANCE = 0.03  # how far the aspects of a mask and its image may differ


def read_image(path: Path) -> Image:
    """Eight-bit RGB, upright. Grey, palette, CMYK and 16-bit are converted; transparency is laid on white."""
    picture = open_picture(path)
    if picture.mode.startswith("I") or picture.mode == "F":
        return np.repeat(eight_bits(np.asarray(picture))[..., None], 3, axis=2)
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        front = picture.convert("RGBA")
        picture = Pillow.alpha_composite(Pillow.new("RGBA", front.size, "white"), front)
    return np.array(picture.convert("RGB"))


def read_mask(path: Path) -> Image:
    """0 and 1. A file of two values is taken by them; one with shades (JPEG noise, soft edges) at half."""
    picture = open_picture(path)
    values = grey(picture)
    highest = int(values.max())
    if picture.format not in LOSSY and (highest <= 1 or is_two_valued(values, highest)):
        return (values > 0).astype(np.uint8)
    return (values > (127 if highest < 256 else 32767)).astype(np.uint8)


def grey(picture: Pillow.Image) -> NDArray[Any]:
    """One channel: palette masks by index, colour masks by brightness."""
    if picture.mode in ("P", "1", "L") or picture.mode.startswith("I") or picture.mode == "F":
        values = np.asarray(picture)
        return values.astype(np.uint8) if values.dtype == bool else values
    return np.asarray(picture.convert("L"))


def is_two_valued(values: NDArray[Any], highest: int) -> bool:
    return bool(((values == 0) | (values == highest)).all())


def eight_bits(values: NDArray[Any]) -> Image:
    """Scale 16-bit to 8-bit; Pillow's own conversion clips everything above 255 to white."""
    if values.max(initial=0) > 255:
        return np.clip(values.astype(np.float64) / 257 + 0.5, 0, 255).astype(np.uint8)
    return np.clip(values, 0, 255).astype(np.uint8)


def open_picture(path: Path) -> Pillow.Image:
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
    except (OSError, SyntaxError, ValueError, Pillow.DecompressionBombError) as error:
        raise DataError(f"{path.name} cannot be decoded ({error})") from error
    upright.format = kind  # exif_transpose forgets it
    return upright


def shrink(image: Image, size: int) -> Image:
    """A square of `size`: by area when shrinking, so that no pixel is skipped."""
    smaller = image.shape[0] >= size and image.shape[1] >= size
    method = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    return cv2.resize(image, (size, size), interpolation=method).astype(np.uint8)


def check_aspect(path: Path, mask: Image, image: Image) -> None:
    """A mask may have another size than its image, but not another shape."""
    (mask_height, mask_width), (height, width) = mask.shape[:2], image.shape[:2]
    off = abs(mask_width * height / (mask_height * width) - 1)
    if off > ASPECT_TOLERANCE:
        raise DataError(
            f"mask {path.name} is {mask_width}x{mask_height} for an image of {width}x{height}: "
            f"their aspects differ by {off:.0%}, {ASPECT_TOLERANCE:.0%} is allowed"
        )
