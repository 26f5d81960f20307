"""Images: broken bytes of seven formats, read as training reads them."""

from __future__ import annotations

import random
from functools import cache
from io import BytesIO

import numpy as np
from helpers.fuzzing import Case, Ground, call, mutate_bytes
from PIL import Image

from tuner.data.images import read_image, read_mask

FORMATS = ("PNG", "JPEG", "TIFF", "GIF", "BMP", "WEBP", "PPM")
MODES = ("RGB", "L", "RGBA", "1", "I;16", "P")


def make_case(rng: random.Random, ground: Ground) -> Case:
    form, mode = rng.choice(FORMATS), rng.choice(MODES)
    path = ground.cwd / f"photo.{form.lower()}"
    path.write_bytes(mutate_bytes(rng, encode(form, mode), 6))
    read = rng.choice((read_image, read_mask))
    return Case(f"{read.__name__} of {form} {mode}", lambda: call(read, path))


@cache
def encode(form: str, mode: str) -> bytes:
    """A small picture in a format, in RGB where it does not know the mode."""
    pixels = np.random.default_rng(0).integers(0, 255, (24, 32, 3), np.uint8)
    image, data = Image.fromarray(pixels), BytesIO()
    try:
        image.convert("L").convert(mode).save(data, form) if mode != "RGB" else image.save(data, form)
    except (OSError, ValueError, KeyError):
        data = BytesIO()
        image.save(data, form)
    return data.getvalue()
