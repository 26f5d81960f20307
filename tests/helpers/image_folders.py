"""Image folders made on the spot."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from tuner.data.synthetic.shapes import draw_picture


def make_photos(folder: Path, number: int, images: str = "images", masks: str = "masks") -> Path:
    """Write `number` generated pictures as JPEG and their masks as PNG."""
    for name in (images, masks):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for at in range(number):
        picture, mask = draw_picture(np.random.default_rng([at, 99]))
        Image.fromarray(picture).save(folder / images / f"photo{at:02d}.jpg", quality=92)
        Image.fromarray(mask * np.uint8(255)).save(folder / masks / f"photo{at:02d}.png")
    return folder
