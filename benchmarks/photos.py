"""Generated image files with the size and decoding cost of photographs."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from tuner.data.synthetic.shapes import draw_picture

SIZE = (500, 391)  # pixels, a common size of photographs in public data
GRAIN = 6  # so that a JPEG is about as large as that of a real photograph, some 60 kB
QUALITY = 88


def write_photos(folder: Path, number: int) -> Path:
    """Create `number` JPEG images and PNG masks in the layout images/ + masks/, unless they exist."""
    done = folder / f"{number}.done"
    if done.exists():
        return folder
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for at in range(number):
        rng = np.random.default_rng([at, 2024])
        picture, mask = draw_picture(rng)
        large = cv2.resize(picture, SIZE, interpolation=cv2.INTER_CUBIC)
        grainy = np.clip(large + rng.normal(0, GRAIN, large.shape), 0, 255).astype(np.uint8)
        truth = cv2.resize(mask * np.uint8(255), SIZE, interpolation=cv2.INTER_NEAREST)
        image = cv2.cvtColor(grainy, cv2.COLOR_RGB2BGR)
        cv2.imwrite(str(folder / "images" / f"{at:04d}.jpg"), image, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
        cv2.imwrite(str(folder / "masks" / f"{at:04d}.png"), truth)
    done.touch()
    return folder
