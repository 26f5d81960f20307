"""Read an image or mask file into an array; DataError says why a file cannot be read."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageOps, UnidentifiedImageError

from tuner.data.instances import MAX_INSTANCES, renumber
from tuner.data.limits import BUDGET, KEPT_BYTES, MAX_SIDE, PIXEL_LIMIT, return_pages
from tuner.data.limits import SUFFIXES as SUFFIXES
from tuner.data.source import IGNORED, Image, InstanceMap, Item
from tuner.deprecated import renamed_names
from tuner.errors import DataError, format_names
from tuner.paths import open_file

LOSSY = {"JPEG", "MPO", "WEBP"}
STRIP = 256  # rows scaled at once
BYTES_PER_PIXEL = {"RGB": 12, "L": 6, "1": 6}  # of the picture, its copies and the array
MOST_BYTES_PER_PIXEL = 24
Pillow.MAX_IMAGE_PIXELS = None  # `check_size` refuses more, and before Pillow decodes anything
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")  # of files that it can read all the same
ASPECT_TOLERANCE = 0.03  # maximum difference between the aspects of a mask and its image


def read_image(path: Path) -> Image:
    """Read an image as 8-bit RGB, upright.

    Grey, palette, CMYK and 16-bit images are converted; transparent images are composed on white.
    """
    picture = open_image(path)
    if picture.mode.startswith(("I", "F")):
        return np.repeat(to_eight_bits(grey_values(picture, path))[..., None], 3, axis=2)
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        front = picture.convert("RGBA")
        picture = Pillow.alpha_composite(Pillow.new("RGBA", front.size, "white"), front)
    return np.array(picture.convert("RGB"))


def read_mask(path: Path) -> Image:
    """Read a mask as 0 and 1: two values as they are, shades (JPEG noise, soft edges) split at half."""
    picture = open_image(path)
    values = to_one_channel(picture, path)
    highest = values.max()
    if picture.format not in LOSSY:
        if ((values == 0) | (values == highest)).all():
            return (values > 0).astype(np.uint8)
        if 1 < highest < 128:  # probably class numbers: a threshold at half would give an empty mask
            found = format_names(map(str, np.unique(values).tolist()), 6)
            raise DataError(
                f"mask {path.name} holds the values {found}; a mask needs two values, or shades from 0 to 255"
            )
    half = 0.5 if highest <= 1 else 127 if highest < 256 else 32767  # of the range in which it was written
    return (values > half).astype(np.uint8)


def read_labels(path: Path, ignored: int = IGNORED) -> Image:
    """Read the class number of each pixel: grey, 16-bit grey, or the index of a palette; `ignored` becomes 255."""
    allowed = f"classes are 0 to {IGNORED - 1}, and {IGNORED} is ignored"
    needed = "a class number is needed at each pixel"
    labels = read_whole_numbers(path, "label map", needed, IGNORED, allowed).astype(np.uint8)
    return np.where(labels == ignored, np.uint8(IGNORED), labels) if ignored != IGNORED else labels


def read_instances(path: Path) -> InstanceMap:
    """Read the instance number of each pixel, 0 for background; renumbered in order, without gaps.

    The same formats as for label maps, with numbers up to 65535. No number is ignored.
    """
    needed = "an 8- or 16-bit grey PNG is needed, with an instance number at each pixel and 0 for background"
    allowed = f"0 is background, and instances are 1 to {MAX_INSTANCES}"
    values = read_whole_numbers(path, "instance map", needed, MAX_INSTANCES, allowed)
    return renumber(values.astype(np.uint16)).astype(np.uint16)


def read_whole_numbers(path: Path, what: str, needed: str, most: int, allowed: str) -> NDArray[Any]:
    """Read whole numbers from 0 to `most`: grey, also as three equal channels, or the index of a palette."""
    picture = open_image(path)
    if picture.format in LOSSY:
        raise DataError(
            f"{what} {path.name} is a {picture.format}, a lossy format that changes the numbers; a PNG is needed"
        )
    if picture.mode == "P":
        values = np.asarray(picture)
    elif is_grey(picture):
        values = grey_values(picture, path)
    else:
        shown = np.asarray(picture.convert("RGB"))
        values = shown[..., 0]
        if (shown != values[..., None]).any():
            raise DataError(f"{what} {path.name} has colors; {needed}")
    if values.dtype.kind == "f" and (values % 1).any():
        raise DataError(f"{what} {path.name} holds fractions; whole numbers are needed")
    lowest, highest = values.min(), values.max()
    if lowest < 0 or highest > most:
        raise DataError(f"{what} {path.name} holds {lowest:.0f} to {highest:.0f}; {allowed}")
    return values


def to_one_channel(picture: Pillow.Image, path: Path) -> NDArray[Any]:
    """Return grey as it is; of colors the strongest channel, so that a red mask equals a white one.

    The index of a color palette is a class number, 0 being background; a grey palette is a grey image.
    """
    if picture.mode == "P" and not has_grey_palette(picture):
        return (np.asarray(picture) > 0).astype(np.uint8)
    return grey_values(picture, path) if is_grey(picture) else np.asarray(picture.convert("RGB")).max(axis=2)


def has_grey_palette(picture: Pillow.Image) -> bool:
    """Return whether the used colors of a palette are distinct greys."""
    used = np.unique(np.asarray(picture))
    colours = np.asarray(picture.getpalette("RGB"), np.uint8).reshape(-1, 3)
    if used.max(initial=0) >= len(colours):
        return False
    shown = colours[used]
    return bool((shown == shown[:, :1]).all()) and len(np.unique(shown[:, 0])) == len(used)


def is_grey(picture: Pillow.Image) -> bool:
    return picture.mode in ("1", "L") or picture.mode.startswith(("I", "F"))


def grey_values(picture: Pillow.Image, path: Path) -> NDArray[Any]:
    """Return the values of a one-channel image as numbers that can be compared."""
    values = np.asarray(picture)
    if not np.isfinite(values).all():
        raise DataError(f"{path.name} holds values that are not finite")
    return values.astype(np.uint8) if values.dtype == bool else values


def to_eight_bits(values: NDArray[Any]) -> Image:
    """Scale 16-bit and float values to 8 bits; Pillow's conversion clips above 255 and truncates below 1."""
    highest = values.max(initial=0)
    scale = 1 / 257 if highest > 255 else 255 if highest <= 1 and values.dtype.kind == "f" else 1
    scaled = np.empty(values.shape, np.uint8)
    for at in range(0, len(values), STRIP):  # float64 takes eight bytes a pixel
        scaled[at : at + STRIP] = np.clip(values[at : at + STRIP] * scale + 0.5, 0, 255)
    return scaled


def open_image(path: Path) -> Pillow.Image:
    """Decode an image fully and turn it upright; DataError has the file name and the problem."""
    try:
        with open_file(path, DataError, path.name) as file, Pillow.open(file) as picture:
            check_size(path.name, *picture.size)
            picture.load()
            ImageOps.exif_transpose(picture, in_place=True)
            return picture
    except UnidentifiedImageError as error:
        found = "is not an image file" if path.stat().st_size else "is empty (0 bytes)"
        raise DataError(f"{path.name} {found}") from error
    except OSError as error:
        raise DataError(f"{path.name} cannot be read ({error.strerror or error})") from error
    except (
        SyntaxError,
        ValueError,
        UserWarning,
        Pillow.DecompressionBombError,
    ) as error:  # a warning with -W error
        raise DataError(f"{path.name} cannot be decoded ({error})") from error


def check_size(name: str, width: int, height: int) -> None:
    """Raise DataError for an image of more pixels than are decoded: a small file may unpack to gigabytes."""
    if max(width, height) > MAX_SIDE:
        raise DataError(f"{name} has {width} x {height} pixels; a side may have at most {MAX_SIDE:,}")
    if width * height > PIXEL_LIMIT.get():
        raise DataError(
            f"{name} has {width} x {height} = {width * height:,} pixels; at most {PIXEL_LIMIT.get():,} are "
            "read. Shrink it, or allow more with --max-pixels, in Python with max_pixels="
        )


@contextmanager
def decoding(item: Item) -> Iterator[None]:
    """Wait until the image and target of an item fit into the memory for decoding, and hold it."""
    files = [path for path in (item.image, item.target) if isinstance(path, Path)]
    number = sum(map(decoded_bytes, files))
    with BUDGET.hold(number):
        yield
        if number > KEPT_BYTES:
            return_pages()


def decoded_bytes(path: Path) -> int:
    """Return about how many bytes decoding a file takes at most; 0 for one that the reader will refuse."""
    try:
        with open_file(path, DataError) as file, Pillow.open(file) as picture:
            check_size(path.name, *picture.size)
            return picture.width * picture.height * BYTES_PER_PIXEL.get(picture.mode, MOST_BYTES_PER_PIXEL)
    except (DataError, OSError, SyntaxError, ValueError):
        return 0


def decoding_threads(number: int | None) -> ThreadPoolExecutor:
    """Return threads that read images of as many pixels as the caller."""
    return ThreadPoolExecutor(number, initializer=PIXEL_LIMIT.set, initargs=(PIXEL_LIMIT.get(),))


def resize_image(image: Image, size: int) -> Image:
    """Resize to a square of `size`; by area when shrinking, so that every pixel contributes."""
    smaller = image.shape[0] >= size and image.shape[1] >= size
    method = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    return cv2.resize(image, (size, size), interpolation=method).astype(np.uint8)


def check_aspect(path: Path, mask: NDArray[Any], image: Image, what: str = "mask") -> None:
    """Raise DataError if a mask has another aspect ratio than its image; sizes may differ."""
    (mask_height, mask_width), (height, width) = mask.shape[:2], image.shape[:2]
    ratio = mask_width * height / (mask_height * width)
    off = 1 - min(ratio, 1 / ratio)  # symmetric under a rotation by 90 degrees
    if off > ASPECT_TOLERANCE + 1e-9:  # exactly 3 % is allowed
        raise DataError(
            f"{what} {path.name} is {mask_width}x{mask_height} for an image of {width}x{height}: "
            f"their aspects differ by {off:.1%}, {ASPECT_TOLERANCE:.0%} is allowed"
        )


__getattr__ = renamed_names(__name__)
